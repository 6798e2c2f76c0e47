"""The folder of one replay under OTTLA_HOME: its plan, its comparison, and the store while it runs. The newest ones are kept."""

import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from infra.errors import NotFoundError, OttlaError
from infra.settings import Settings
from streams.replay.compare import Compared
from streams.replay.plan import Plan
from streams.replay.summary import Summary

T = TypeVar("T", bound=msgspec.Struct)

_KEPT, _UNFINISHED_KEPT = 20, 100
_FOLDER_MODE = 0o700


class Folder:
    """One replay's files; they hold what people wrote, so nobody else may read them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def store(self) -> Path:
        """The file of its store while it runs."""
        return self.path / "work.sqlite"

    @property
    def comparison(self) -> Path:
        """One JSON line for each compared item, conversation by conversation."""
        return self.path / "comparison.jsonl"

    def write_plan(self, plan: Plan) -> None:
        """Keep what it covers."""
        _write(self.path / "plan.json", plan)

    def plan(self) -> Plan:
        """Return what it covers; OttlaError if the file is damaged."""
        return _read(self.path / "plan.json", Plan)

    def write_summary(self, summary: Summary) -> None:
        """Keep what came of it: then it is done."""
        _write(self.path / "summary.json", summary)

    def summary(self) -> Summary | None:
        """Return what came of it; None while it is not done."""
        return _read(self.path / "summary.json", Summary) if (self.path / "summary.json").exists() else None

    def compared(self) -> Iterator[Compared]:
        """Yield every compared item."""
        decoder = msgspec.json.Decoder(Compared)
        with self.comparison.open("rb") as lines:
            for line in lines:
                yield decoder.decode(line)


def new_name(now_ms: int) -> str:
    """Return a name for a replay; later ones sort behind."""
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def make_folder(settings: Settings, name: str) -> Folder:
    """Make the folder of a new replay and forget the oldest of many; those that were paused, or still run, are among the last to go."""
    among = settings.home / "replays"
    path = among / name
    try:
        path.mkdir(parents=True, mode=_FOLDER_MODE)
        for old in _forgettable(among):
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OttlaError(f"{path} cannot be written: {error.strerror}.") from None
    return Folder(path)


def _forgettable(among: Path) -> list[Path]:
    """Return the folders that are too many: of done replays, and apart from them of others, whose answers may have cost money."""
    folders = sorted(each for each in among.iterdir() if each.is_dir())
    done = [each for each in folders if (each / "summary.json").exists()]
    others = [each for each in folders if not (each / "summary.json").exists()]
    return done[:-_KEPT] + others[:-_UNFINISHED_KEPT]


def find_folder(settings: Settings, name: str) -> Folder:
    """Return the folder of a replay that was begun; NotFoundError if there is none of this name."""
    path = settings.home / "replays" / name
    if not name or path.parent != settings.home / "replays" or not (path / "plan.json").exists():
        raise NotFoundError(f"There is no replay {name!r} in {settings.home / 'replays'}.")
    return Folder(path)


def _write(path: Path, content: msgspec.Struct) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
    draft.replace(path)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise OttlaError(f"{path} is damaged ({error}): begin a new replay.") from None
