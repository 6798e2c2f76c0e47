"""A port that is taken, for tests."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """Listen on a loopback port (0: any free one) and give its number."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        yield taken.getsockname()[1]
