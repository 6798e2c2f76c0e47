"""Fetch the servers' jars once into a cache that every installation of this user shares, and prove each by its SHA-256.

The cache is `$XDG_CACHE_HOME/ottla` (else `~/.cache/ottla`), one folder per server and version. A jar gets its name there only
after its bytes were proven, and a folder counts only with a mark that names the list it holds, so that an interrupted
download is continued and never trusted.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.errors import ServerError

_LOCK = Path(__file__).with_name("jars.json")
_MARK = ".complete"
_TITLES = {"kafka": "Kafka", "cassandra": "Cassandra"}
_TRIES = 3
_AT_ONCE = 8
_TIMEOUT_S = 10

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Jar:
    """One jar of the list: Maven coordinate, bytes, SHA-256."""

    coordinate: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file name, as Maven has it."""
        return "-".join(self.coordinate.split(":")[1:]) + ".jar"


@dataclass(frozen=True)
class JarList:
    """All jars of one server in class path order."""

    server: str
    version: str
    jars: tuple[Jar, ...]

    @property
    def folder(self) -> Path:
        """Where these jars are or will be."""
        return cache_folder() / f"{self.server}-{self.version}"

    @property
    def mark(self) -> str:
        """What the mark of a complete folder says: a digest of the list."""
        return hashlib.sha256(repr(self.jars).encode()).hexdigest()

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{_TITLES[self.server]} {self.version}"

    @property
    def size(self) -> int:
        """Bytes of all jars."""
        return sum(jar.size for jar in self.jars)


def cache_folder() -> Path:
    """Where jars are kept, outside OTTLA_HOME so that `make clean` and new installations need no new download."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "ottla"


@cache
def jar_lists() -> tuple[JarList, ...]:
    """Return the pinned lists of the repository, Kafka's and Cassandra's."""
    lists = json.loads(_LOCK.read_text(encoding="utf-8"))
    return tuple(
        JarList(server, one["version"], tuple(Jar(jar["coordinate"], jar["size"], jar["sha256"]) for jar in one["jars"]))
        for server, one in lists.items()
    )


def jar_list(server: str) -> JarList:
    """Return the list of one server, `kafka` or `cassandra`."""
    return next(one for one in jar_lists() if one.server == server)


def is_fetched(wanted: JarList) -> bool:
    """Whether every jar is there in full; proven once when it was fetched, afterwards by size alone."""
    try:
        if (wanted.folder / _MARK).read_text(encoding="utf-8") != wanted.mark:
            return False
        return all((wanted.folder / jar.name).stat().st_size == jar.size for jar in wanted.jars)
    except OSError:
        return False


def fetch_jars(servers: tuple[str, ...] = ("kafka", "cassandra")) -> None:
    """Make sure the jars of these servers are in the cache; quick when they are.

    Raises ServerError with one sentence when they cannot be had.
    """
    missing = [one for one in jar_lists() if one.server in servers and not is_fetched(one)]
    if not missing:
        return
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with _alone():
            for leftover in cache_folder().glob(".part-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            for wanted in missing:
                if not is_fetched(wanted):
                    _fetch(wanted)
    except OSError as error:
        raise ServerError(f"The jars cannot be stored in {cache_folder()}: {error.strerror or error}.") from None


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process fetches, others wait for it and then find everything there."""
    with (cache_folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(wanted: JarList) -> None:
    (wanted.folder / _MARK).unlink(missing_ok=True)
    wanted.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".part-") as part, _shown(wanted) as progress:
        fetcher = _Fetcher(Path(part), progress)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            jobs = [threads.submit(fetcher.fetch, jar, wanted.folder / jar.name) for jar in wanted.jars]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
    draft = wanted.folder / f"{_MARK}.part"
    draft.write_text(wanted.mark, encoding="utf-8")
    draft.replace(wanted.folder / _MARK)


class _Fetcher:
    """Downloads single jars by jgo's Maven client into `part`, proves them and moves them to their place."""

    def __init__(self, part: Path, progress: Progress) -> None:
        # Only here: jgo and requests take half a second to import, and nearly every start finds the jars there.
        try:
            from jgo.config import GlobalSettings
            from jgo.constants import MAVEN_CENTRAL_URL
            from jgo.maven import MavenContext, PythonResolver
        except ImportError:
            raise ServerError("This installation is made for servers elsewhere: set OTTLA_KAFKA and OTTLA_CASSANDRA to them.") from None

        self._progress = progress
        self._context = MavenContext(
            resolver=PythonResolver(progress_callback=self._counted),
            repo_cache=part,
            # A mirror named in jgo's own configuration comes first.
            remote_repos={**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL},
            timeout=_TIMEOUT_S,
        )

    def fetch(self, jar: Jar, target: Path) -> None:
        """Bring one jar to its place; ServerError after three tries."""
        if target.is_file() and _sha256(target) == jar.sha256:
            self._progress(jar.size)
            return
        reason = ""
        for _ in range(_TRIES):
            try:
                path = self._download(jar)
            except (RuntimeError, OSError) as error:
                # requests' errors are OSErrors; so is a full disk, for which no further try will do.
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                reason = _reason(error)
                continue
            if _sha256(path) == jar.sha256:
                path.replace(target)
                return
            path.unlink()
            self._progress(-jar.size)
            reason = "the bytes that came are not those that were published"
        raise ServerError(
            f"{jar.name} could not be fetched: {reason}; check the network and try again, "
            "or set OTTLA_KAFKA and OTTLA_CASSANDRA to servers of your own."
        )

    def _download(self, jar: Jar) -> Path:
        group, name, version, *classifier = jar.coordinate.split(":")
        artifact = self._context.project(group, name).at_version(version).artifact(*classifier)
        # What an earlier try left is half a file that the client would take for a whole one.
        Path(artifact.cached_path).unlink(missing_ok=True)
        return Path(artifact.resolve())

    @contextlib.contextmanager
    def _counted(self, _name: str, _size: int) -> Iterator[Progress]:
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            counted += size
            self._progress(size)

        try:
            yield count
        except BaseException:
            self._progress(-counted)
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if "Timeout" in name:
        return "the Maven repository did not answer in time"
    if "Connection" in name or "SSL" in name or "Proxy" in name:
        return "the Maven repository cannot be reached"
    return str(error).splitlines()[0][:200]


@contextlib.contextmanager
def _shown(wanted: JarList) -> Iterator[Progress]:
    """Show a bar on a terminal, a line before elsewhere."""
    label = f"Fetching {wanted.title} ({wanted.size // 1_000_000} MB)"
    if not sys.stderr.isatty():
        print(f"{label} into {wanted.folder}", file=sys.stderr, flush=True)  # noqa: T201 - no logger is set up this early
        yield lambda _size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task, guard = bar.add_task(label, total=wanted.size), threading.Lock()

        def advance(size: int) -> None:
            with guard:
                bar.advance(task, size)

        yield advance
