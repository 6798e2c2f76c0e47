"""Which Java runs the servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import ServerError
from infra.servers import java


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder that is the whole search path of a machine without a bundled Java."""
    monkeypatch.setattr(java, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java.find_java.cache_clear()
    yield tmp_path
    java.find_java.cache_clear()


def _install(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    path.chmod(0o755)
    return path


def test_no_java_says_what_to_install(machine: Path) -> None:
    """Without any Java, one sentence names the versions that do."""
    with pytest.raises(ServerError, match=r"^The local servers need Java 17 to 23 \(none is installed\): install one"):
        java.find_java()


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "24.0.1"])
def test_unfit_java_is_named(machine: Path, version: str) -> None:
    """A Java that is too old, or too new for Cassandra, is refused by its path and version."""
    path = _install(machine, version)
    with pytest.raises(ServerError, match=rf"{path} is version {version.split('.', maxsplit=1)[0]}"):
        java.find_java()


@pytest.mark.parametrize("version", ["17.0.9", "21", "23-ea"])
def test_fit_java_is_used(machine: Path, version: str) -> None:
    """Java 17 to 23 from the search path is used."""
    path = _install(machine, version)
    assert java.find_java() == path


def test_java_home_comes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME wins over the search path, unless it is unfit."""
    _install(machine, "17.0.9")
    better = _install(machine / "home" / "bin", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(machine / "home"))
    assert java.find_java() == better
    java.find_java.cache_clear()
    _install(machine / "home" / "bin", "11.0.1")
    assert java.find_java() == machine / "java"
