"""The folder of an archive: a folder for each topic as the broker names it, in it one for each partition."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from infra.archive.manifest import Manifest, covering, reaches_back_to, read_manifest
from infra.archive.segment import read_segment
from infra.errors import OttlaError, RefusedError
from infra.kafka.record import Record
from infra.kafka.topic_ids import topic_ids
from infra.settings import Settings

log = structlog.get_logger()

_FOLDER_MODE = 0o700
_LOCK = ".lock"


def partition_folder(root: Path, name: str, partition: int) -> Path:
    """Return where a partition's files are; `name` is the topic's on the broker."""
    return root / name / f"{partition:05}"


def archived_partitions(root: Path, name: str) -> list[int]:
    """Return the partitions of a topic of which anything is archived."""
    folder = root / name
    return sorted(int(each.name) for each in folder.iterdir() if each.name.isdigit()) if folder.is_dir() else []


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other processes from writing to the archive meanwhile; RefusedError if one does, OttlaError if the folder cannot be used."""
    try:
        root.mkdir(parents=True, mode=_FOLDER_MODE, exist_ok=True)
        descriptor = os.open(root / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise OttlaError(f"{root} cannot be written ({error.strerror}): name another folder with OTTLA_ARCHIVE.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise RefusedError(f"Another process writes to the archive in {root}: let that one end.") from None
    try:
        yield
    finally:
        os.close(descriptor)


class Archive:
    """Reads what the log does not have any more. An archive of another topic of the same name (made anew since) is passed over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.archive_folder
        self._topics: dict[str, dict[int, Manifest]] = {}

    async def has(self, topic: str) -> bool:
        """Tell whether anything of a topic is archived."""
        return bool(await self._manifests(topic))

    async def beginning(self, topic: str, partition: int, log_begin: int) -> int:
        """Return the first offset from which on archive and log together have everything."""
        manifest = (await self._manifests(topic)).get(partition)
        return reaches_back_to(manifest.segments, log_begin) if manifest is not None else log_begin

    async def since(self, topic: str, partition: int, time_ms: int, log_begin: int) -> int | None:
        """Return the offset of the first archived record before `log_begin` that was stored at `time_ms` or later; None if none was."""
        begin = await self.beginning(topic, partition, log_begin)
        manifest = (await self._manifests(topic)).get(partition)
        if manifest is None:
            return None
        for segment in covering(manifest.segments, begin, log_begin):
            if segment.last_ms < time_ms:
                continue
            async for records in self.read(topic, partition, segment.start, min(segment.end, log_begin)):
                for record in records:
                    if record.timestamp_ms >= time_ms:
                        return record.offset
        return None

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncGenerator[list[Record], None]:
        """Yield the archived records from `start` up to `end`, not included, in order; DamagedError for a file that is not what it was."""
        manifest = (await self._manifests(topic)).get(partition)
        folder = partition_folder(self._root, self._name(topic), partition)
        for segment in covering(manifest.segments, start, end) if manifest is not None else ():
            batches = read_segment(folder / segment.file, segment, topic=topic, partition=partition)
            while (records := await asyncio.to_thread(next, batches, None)) is not None:
                if within := [each for each in records if start <= each.offset < end]:
                    yield within

    async def record(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return one archived record; None if it is not archived."""
        async for records in self.read(topic, partition, offset, offset + 1):
            return records[0]
        return None

    async def _manifests(self, topic: str) -> dict[int, Manifest]:
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = await self._read_manifests(topic)
        return known

    async def _read_manifests(self, topic: str) -> dict[int, Manifest]:
        name = self._name(topic)
        found = {number: read_manifest(partition_folder(self._root, name, number)) for number in archived_partitions(self._root, name)}
        if not found:
            return {}
        topic_id = (await topic_ids(self._settings, [name])).get(name)
        others = [number for number, manifest in found.items() if manifest is not None and manifest.topic_id != topic_id]
        if others:
            log.warning("the archive is of another topic of this name", topic=name, folder=str(self._root))
        return {number: manifest for number, manifest in found.items() if manifest is not None and manifest.topic_id == topic_id}

    def _name(self, topic: str) -> str:
        return self._settings.topic_prefix + topic
