"""Leaves out what libraries would import for features that nobody here uses: a killed worker's partitions wait for its start."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def absent(name: str) -> Iterator[None]:
    """Let an optional package seem not to be installed while something is imported; nothing changes if it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = cast("ModuleType", None)  # which is how importing says that it is not there
    try:
        yield
    finally:
        del sys.modules[name]
