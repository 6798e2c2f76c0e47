"""Generated bodies posted to a real ingress on a real log: what it answers, that it lives, and that its memory stays flat."""

import asyncio
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import aiohttp
import psutil

from infra.simulator.signing import SIGNATURE_HEADER, sign
from tests.installation import Installation
from tests.torture.in_process import statuses_for
from tests.torture.mutants import body_of

CONNECTIONS = 16
GROWTH_BYTES_MAX = 64 << 20
"""How much a process may grow after its warm-up: bodies of 4 MiB that were under way side by side leave as much with the allocator."""
_WARM_UP_SHARE = 0.25
_UNSIGNED_EVERY = 97
_FAILURES_MAX = 100
_UNSIGNED = (None, "", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, "sha256=" + "g" * 64, "\u00e9")


@dataclass
class Posted:
    """What came of the bodies that were posted: answers by status, the numbers of those answered wrongly, memory in bytes."""

    answers: Counter[int] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    warm_bytes: int = 0
    end_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        """How much the ingress grew after its warm-up."""
        return self.end_bytes - self.warm_bytes


async def post_all(installation: Installation, *, seed: int, count: int, progress: Callable[[int], None]) -> Posted:
    """Post bodies 0 to `count` of a seed side by side; one in 97 is not signed as it must be. `progress` gets how many are answered."""
    posted = Posted()
    process = installation.running["ingress"].process
    assert process is not None
    ingress = psutil.Process(process.pid)
    numbers = iter(range(count))
    warm = int(count * _WARM_UP_SHARE)
    for share in (itertools.islice(numbers, warm), numbers):
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(_post_some(installation, seed, share, posted, progress))
        posted.warm_bytes = posted.warm_bytes or ingress.memory_info().rss
    posted.end_bytes = ingress.memory_info().rss
    return posted


async def _post_some(
    installation: Installation, seed: int, numbers: Iterable[int], posted: Posted, progress: Callable[[int], None]
) -> None:
    for number in numbers:
        body = body_of(seed, number)
        unsigned = number % _UNSIGNED_EVERY == _UNSIGNED_EVERY - 1
        expected = statuses_for(body)
        if unsigned and expected != {413}:
            expected = frozenset({401})
        signature = _UNSIGNED[number % len(_UNSIGNED)] if unsigned else sign(body, installation.secret)[SIGNATURE_HEADER]
        try:
            status = await _post(installation, body, signature)
        except (aiohttp.ClientError, TimeoutError) as error:
            status, failure = 0, f"no answer: {error!r}"
        else:
            failure = f"answered {status}, expected {sorted(expected)}"
        posted.answers[status] += 1
        if status not in expected and len(posted.failures) < _FAILURES_MAX:
            posted.failures.append((number, failure))
        progress(posted.answers.total())


async def _post(installation: Installation, body: bytes, signature: str | None) -> int:
    headers = {"Content-Type": "application/json"} | ({SIGNATURE_HEADER: signature} if signature is not None else {})
    async with installation.http.post(installation.webhook_url, data=io.BytesIO(body), headers=headers) as response:
        await response.read()
        return response.status
