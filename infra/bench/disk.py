"""Bytes in files that others write meanwhile."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG


def bytes_of(paths: Iterable[Path]) -> int:
    """Return the bytes of the files among the paths; one that has just been deleted has none."""
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            found = path.stat()
            total += found.st_size if S_ISREG(found.st_mode) else 0
    return total
