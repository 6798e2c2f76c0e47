"""Reads where every group stands: a handful of requests for all partitions, and a record only where one is unprocessed."""

from typing import Any

from infra.clock import Clock, SystemClock
from infra.kafka.questions import (
    BEGINNING,
    END,
    Commit,
    Membership,
    Place,
    Questions,
    commits_of,
    membership_of,
    offsets_at,
    places_of,
    record_times,
)
from infra.lag.observation import Observation
from infra.lag.windows import Source
from infra.settings import Settings
from schemas.groups import GROUPS, Group


class LagReader:
    """Asks the broker, as no group's member. Keeps the times of records that are still the oldest unprocessed ones."""

    def __init__(self, settings: Settings, *, timeout_s: float = 5.0, clock: Clock | None = None) -> None:
        self._prefix = settings.topic_prefix
        self._questions = Questions(settings, timeout_s=timeout_s)
        self._clock = clock or SystemClock()
        self._times: dict[tuple[Place, int], int] = {}

    async def read(self) -> dict[Source, Observation]:
        """Return what is seen now of every group and partition whose topic exists; AwayError if the broker does not answer."""
        return await self._questions.ask(self._read)

    async def close(self) -> None:
        """Close the connection."""
        await self._questions.close()

    async def _read(self, client: Any) -> dict[Source, Observation]:
        names = dict.fromkeys(topic.named(self._prefix) for group in GROUPS.values() for topic in group.topics)
        places = await places_of(client, names)
        commits: dict[str, dict[Place, Commit]] = {}
        owners: dict[str, dict[Place, str]] = {}
        for group in GROUPS.values():
            name = group.named(self._prefix)
            owners[group.name] = _owners(await membership_of(client, name))
            commits[group.name] = await commits_of(client, name, self._of(group, places))
        begins = await offsets_at(client, dict.fromkeys(places, BEGINNING))
        # Asked last: what is committed then is never ahead of it.
        ends = await offsets_at(client, dict.fromkeys(places, END))
        at_s = self._clock.monotonic()
        seen = {}
        for group in GROUPS.values():
            for place in self._of(group, places):
                done = commits[group.name].get(place)
                seen[group.name, place] = Observation(
                    at_s=at_s,
                    committed=None if done is None else done.offset,
                    begin=begins[place] or 0,
                    end=ends[place] or 0,
                    owner=owners[group.name].get(place, ""),
                )
        times = await self._oldest(client, {(place, each.position) for (_, place), each in seen.items() if each.lag})
        return {
            Source(group, place.topic.removeprefix(self._prefix), place.partition): _with_time(each, times.get((place, each.position)))
            for (group, place), each in seen.items()
        }

    def _of(self, group: Group, places: list[Place]) -> list[Place]:
        topics = {topic.named(self._prefix) for topic in group.topics}
        return [place for place in places if place.topic in topics]

    async def _oldest(self, client: Any, wanted: set[tuple[Place, int]]) -> dict[tuple[Place, int], int]:
        """Return when these records were written, reading only those that are not known yet; groups that stand alike share one."""
        times = {each: time for each in wanted if (time := self._times.get(each)) is not None}
        unknown = wanted - times.keys()
        while unknown:
            # Groups that stand at different offsets of one partition are asked about in turn.
            now = dict(unknown)
            found = await record_times(client, now)
            times |= {(place, offset): found[place] for place, offset in now.items() if place in found}
            unknown -= set(now.items())
        self._times = times
        return times


def _owners(membership: Membership) -> dict[Place, str]:
    return {place: member.client for member in membership.members for place in member.places}


def _with_time(seen: Observation, oldest_ms: int | None) -> Observation:
    return Observation(at_s=seen.at_s, committed=seen.committed, begin=seen.begin, end=seen.end, owner=seen.owner, oldest_ms=oldest_ms)
