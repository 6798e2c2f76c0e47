"""Checks an archive against its own manifests, without Kafka: bytes, counts, order, what is missing and what is too many."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from infra.archive.archive import archived_partitions, partition_folder
from infra.archive.manifest import FILE, Manifest, files_of, gaps, reaches_back_to, read_manifest
from infra.archive.segment import SUFFIX, DamagedError, Segment, read_segment


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: what the manifest says there is, and a sentence for everything that is wrong. Times are milliseconds since 1970."""

    topic: str
    partition: int
    first: int
    end: int
    records: int
    files: int
    size: int
    first_ms: int
    last_ms: int
    missing: int
    wrong: list[str] = []


def topics_of(root: Path) -> list[str]:
    """Return the topics, as the broker names them, of which anything is archived."""
    return sorted(each.name for each in root.iterdir() if each.is_dir()) if root.is_dir() else []


def summarise(root: Path) -> Iterator[Checked]:
    """Yield what the manifests say."""
    for name in topics_of(root):
        for number in archived_partitions(root, name):
            folder = partition_folder(root, name, number)
            try:
                manifest = read_manifest(folder)
            except DamagedError as error:
                yield _checked(name, number, Manifest(topic=name, topic_id="", partition=number), [str(error)])
                continue
            if manifest is not None:
                yield _checked(name, number, manifest, [])
            elif files := files_of(folder):
                what = f"{folder} has {len(files)} {'files' if len(files) > 1 else 'file'} and no {FILE}: restore that from a copy"
                # A run that was killed before it wrote its first one leaves this as well.
                what += "." if len(files) > 1 else ", or archive again if there never was one."
                yield _checked(name, number, Manifest(topic=name, topic_id="", partition=number), [what])


def verify(root: Path, *, progress: Callable[[str, int, int], None]) -> Iterator[Checked]:
    """Yield the same with every file read to its end and everything that is wrong."""
    known = list(summarise(root))
    total, done = sum(each.files for each in known), 0
    progress("verifying", 0, total)
    for each in known:
        folder = partition_folder(root, each.topic, each.partition)
        manifest = None if each.wrong else read_manifest(folder)
        wrong = list(each.wrong)
        for segment in manifest.segments if manifest is not None else ():
            wrong += _wrong_with(folder, segment, each.topic, each.partition)
            done += 1
            progress("verifying", done, total)
        if manifest is not None:
            wrong += _wrong_order(manifest)
            named = {segment.file for segment in manifest.segments}
            others = sorted(path.name for path in folder.iterdir() if path.name != FILE and path.name not in named)
            wrong += [_why_left(folder / name, manifest) for name in others]
        yield msgspec.structs.replace(each, wrong=wrong)


def _checked(name: str, number: int, manifest: Manifest, wrong: list[str]) -> Checked:
    segments = manifest.segments
    return Checked(
        topic=name,
        partition=number,
        first=segments[0].start if segments else 0,
        end=manifest.end,
        records=sum(each.records for each in segments),
        files=len(segments),
        size=sum(each.size for each in segments),
        first_ms=min((each.first_ms for each in segments), default=0),
        last_ms=max((each.last_ms for each in segments), default=0),
        missing=sum(other - one for one, other in gaps(segments)),
        wrong=wrong,
    )


def _wrong_with(folder: Path, segment: Segment, topic: str, partition: int) -> list[str]:
    path = folder / segment.file
    try:
        offsets = [record.offset for batch in read_segment(path, segment, topic=topic, partition=partition) for record in batch]
    except DamagedError as error:
        return [str(error)]
    if len(offsets) != segment.records or offsets != sorted(set(offsets)):
        return [f"{path} has {len(offsets)} records and the manifest says {segment.records}, each offset once."]
    if offsets and not segment.start <= offsets[0] <= offsets[-1] < segment.end:
        return [f"{path} has offsets {offsets[0]} to {offsets[-1]} and the manifest says {segment.start} to {segment.end - 1}."]
    return []


def _why_left(path: Path, manifest: Manifest) -> str:
    """Return what to do about a file that the manifest does not name."""
    first, _, end = path.name.removesuffix(SUFFIX).partition("-")
    is_covered = first.isdigit() and end.isdigit() and reaches_back_to(manifest.segments, int(end)) <= int(first)
    if is_covered or not path.name.endswith(SUFFIX):
        return f"{path} is not in the manifest: a run that was killed left it, and it may go."
    return f"{path} is not in the manifest: if no run was killed just now, restore {FILE} from a copy before archiving again."


def _wrong_order(manifest: Manifest) -> list[str]:
    return [f"{one.file} and {other.file} overlap." for one, other in pairwise(manifest.segments) if one.end > other.start]
