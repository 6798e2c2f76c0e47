"""The cache of jars: what counts as fetched, and what is said when fetching fails."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import ServerError
from infra.servers import jars
from infra.servers.jars import Jar, JarList, fetch_jars, is_fetched, jar_lists

_BYTES = b"the bytes of a jar"
_JAR = Jar("org.example:thing:1.0:native", len(_BYTES), hashlib.sha256(_BYTES).hexdigest())


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JarList:
    """Give a list of one jar whose cache is empty, and no repository behind it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = JarList("kafka", "1", (_JAR,))
    monkeypatch.setattr(jars, "jar_lists", lambda: (one,))
    return one


def _comes(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> list[int]:
    """Let each download bring the next of these; return a list that grows by one with each."""
    asked: list[int] = []

    def download(fetcher: jars._Fetcher, _jar: Jar) -> Path:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(1)
        if isinstance(answer, Exception):
            raise answer
        path = Path(fetcher._context.repo_cache) / "thing.jar"
        path.write_bytes(answer)
        return path

    monkeypatch.setattr(jars._Fetcher, "_download", download)
    return asked


def test_every_jar_of_the_list_has_a_proof() -> None:
    """The pinned list names both servers, and each jar has a file name of its own, a size and a SHA-256."""
    assert [one.server for one in jar_lists()] == ["kafka", "cassandra"]
    for one in jar_lists():
        assert len({jar.name for jar in one.jars}) == len(one.jars)
        assert all(jar.size > 0 and len(jar.sha256) == 64 for jar in one.jars)


def test_classifier_is_part_of_the_file_name() -> None:
    """File names are Maven's."""
    assert _JAR.name == "thing-1.0-native.jar"


def test_fetched_once(wanted: JarList, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there in full is not asked for again."""
    asked = _comes(monkeypatch, _BYTES)
    assert not is_fetched(wanted)
    fetch_jars()
    fetch_jars()
    assert is_fetched(wanted)
    assert len(asked) == 1


def test_half_a_cache_is_not_trusted(wanted: JarList, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars without the mark of a complete folder, of another size or of another list count as not fetched, and are mended."""
    asked = _comes(monkeypatch, _BYTES)
    wanted.folder.mkdir(parents=True)
    path = wanted.folder / _JAR.name
    path.write_bytes(_BYTES[:-1])
    assert not is_fetched(wanted)
    fetch_jars()
    assert path.read_bytes() == _BYTES
    path.write_bytes(_BYTES[:-1])
    assert not is_fetched(wanted)
    fetch_jars()
    assert path.read_bytes() == _BYTES
    assert len(asked) == 2
    assert not is_fetched(JarList("kafka", "1", (Jar("a:b:1", 1, "0" * 64),)))


def test_proven_jars_of_an_interrupted_download_are_kept(wanted: JarList, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole jar in an incomplete folder is proven again instead of fetched again."""
    asked = _comes(monkeypatch, OSError("no network"))
    wanted.folder.mkdir(parents=True)
    (wanted.folder / _JAR.name).write_bytes(_BYTES)
    fetch_jars()
    assert is_fetched(wanted)
    assert not asked


def test_other_bytes_are_refused(wanted: JarList, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the right length that are not those of the list never reach the cache."""
    _comes(monkeypatch, _BYTES[::-1])
    with pytest.raises(ServerError, match=r"the bytes that came are not those that were published"):
        fetch_jars()
    assert not (wanted.folder / _JAR.name).exists()


def test_a_passing_failure_is_tried_again(wanted: JarList, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failed download does not fail the fetch."""
    asked = _comes(monkeypatch, RuntimeError("not found"), _BYTES)
    fetch_jars()
    assert len(asked) == 2
    assert is_fetched(wanted)


def test_no_network_is_one_sentence(tmp_path: Path) -> None:
    """Without a network `ottla infra fetch` says so in one sentence, exits with 1 and leaves no cache that looks whole."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}
    command = [sys.executable, "-m", "infra", "infra", "fetch"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert len(said) == 2
    assert said[0].startswith("Fetching Kafka ")
    assert "the Maven repository cannot be reached" in said[1]
    assert said[1].endswith("or set OTTLA_KAFKA and OTTLA_CASSANDRA to servers of your own.")
    assert not list(tmp_path.rglob(".complete"))


def test_an_interrupted_fetch_is_not_trusted(tmp_path: Path) -> None:
    """After a kill -9 in the middle of a fetch nothing counts as fetched."""
    program = (
        "import os, time; from infra.servers import jars; "
        "jars._Fetcher._download = lambda *_: (os.write(1, b'fetching\\n'), time.sleep(600)); jars.fetch_jars()"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as fetching:
        try:
            assert fetching.stdout
            assert fetching.stdout.readline() == b"fetching\n"
        finally:
            fetching.kill()
    assert not list(tmp_path.rglob(".complete"))
    assert not list(tmp_path.rglob("*.jar"))


def test_a_stored_mark_names_its_list(wanted: JarList, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is a digest of the list, so that another version of a jar makes the folder incomplete."""
    _comes(monkeypatch, _BYTES)
    fetch_jars()
    other = JarList("kafka", "1", (Jar(_JAR.coordinate, _JAR.size, "0" * 64),))
    assert is_fetched(wanted)
    assert not is_fetched(other)


def test_an_installation_without_a_fetcher_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image has no Java and nothing to fetch jars with: `infra up` in it is one sentence."""
    monkeypatch.setitem(sys.modules, "jgo.config", None)
    with pytest.raises(ServerError, match=r"^This installation is made for servers elsewhere: set OTTLA_KAFKA"):
        jars._Fetcher(tmp_path, lambda *_: None)
