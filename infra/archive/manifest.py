"""The manifest of one partition's archive: which files there are, and that there are no others. A file that it does not name is nothing."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from infra.archive.segment import SUFFIX, DamagedError, Segment, sync_folder

FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is archived of one partition, in the order of offsets; `topic_id` is Kafka's, for a topic that was made anew has others."""

    topic: str
    topic_id: str
    partition: int
    segments: list[Segment] = []
    version: int = 1

    @property
    def end(self) -> int:
        """The offset after the last archived one; 0 where nothing is."""
        return self.segments[-1].end if self.segments else 0

    def with_segment(self, segment: Segment) -> "Manifest":
        """Return it with one more file."""
        return msgspec.structs.replace(self, segments=[*self.segments, segment])


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder; None if nothing was archived there, DamagedError if it cannot be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedError(f"{folder / FILE} of the archive is damaged ({error}): restore it from a copy.") from None


def files_of(folder: Path) -> list[Path]:
    """Return the files of records that there are in a folder, whatever the manifest says, in the order of offsets."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in a folder, as a whole and durably; its files must be durable before."""
    draft = folder / f"{FILE}.part"
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / FILE)
    sync_folder(folder)


def reaches_back_to(segments: Sequence[Segment], offset: int) -> int:
    """Return the first offset from which on the files have everything up to `offset`; `offset` itself where they have nothing before it."""
    for segment in reversed(segments):
        if segment.start < offset <= segment.end:
            offset = segment.start
        elif segment.end < offset:
            break
    return offset


def covering(segments: Sequence[Segment], start: int, end: int) -> list[Segment]:
    """Return the files that have any of the offsets from `start` up to `end`, not included."""
    return [each for each in segments if each.start < end and each.end > start]


def gaps(segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """Return the offsets between files that no file has: retention was faster."""
    return [(one.end, other.start) for one, other in pairwise(segments) if one.end < other.start]
