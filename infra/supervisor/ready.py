"""Ask `/readyz`, with nothing to import for it."""

import asyncio
import contextlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from infra.supervisor.roles import Role

_ANSWER_S = 2.0


async def http_status(url: str) -> int:
    """Return the status that a GET of this URL is answered with; 0 if there is no answer."""
    parts = urlsplit(url)
    with contextlib.suppress(OSError, ValueError, IndexError, TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
    return 0


async def is_ready(role: Role) -> bool:
    """Whether this role says that it can do its work."""
    return await http_status(role.ready_url) == 200  # noqa: PLR2004 - HTTP's OK


async def not_ready(roles: Sequence[Role]) -> list[str]:
    """Return the names of those that are not ready now."""
    answers = await asyncio.gather(*(is_ready(role) for role in roles))
    return [role.name for role, ready in zip(roles, answers, strict=True) if not ready]
