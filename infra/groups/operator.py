"""Reads what the broker has of a group, and sets its offsets."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

from infra.clock import Clock
from infra.errors import NotFoundError, RefusedError, UsageError
from infra.groups.plan import Change, planned, refuse_beyond_horizon, refuse_live
from infra.groups.positions import Position, Standing
from infra.kafka.questions import (
    BEGINNING,
    END,
    Commit,
    Membership,
    Place,
    Questions,
    commit,
    commits_of,
    membership_of,
    offsets_at,
    places_of,
    record_times,
)
from infra.settings import Settings
from schemas.groups import GROUPS, Group
from schemas.topics import Topic

Wanted = Mapping[str, frozenset[int] | None]


def find_group(name: str, settings: Settings) -> Group:
    """Return the group of this name, with or without the installation's prefix; NotFoundError."""
    group = GROUPS.get(name) or GROUPS.get(name.removeprefix(settings.topic_prefix))
    if group is None:
        raise NotFoundError(f"There is no group {name!r}: choose from {', '.join(GROUPS)}.")
    return group


def topics_of(group: Group, wanted: Wanted, settings: Settings) -> dict[Topic, frozenset[int] | None]:
    """Return the group's topics that are wanted, by their names with or without the prefix; UsageError for one that it does not read."""
    by_name = {name: topic for topic in group.topics for name in (topic.name, topic.named(settings.topic_prefix))}
    for name in wanted:
        if name not in by_name:
            raise UsageError(f"Group {group.name} does not read {name!r}: choose from {', '.join(topic.name for topic in group.topics)}.")
    return {by_name[name]: numbers for name, numbers in wanted.items()}


async def memberships(settings: Settings, questions: Questions) -> dict[str, Membership]:
    """Return who is in each group; AwayError."""

    async def ask(client: Any) -> dict[str, Membership]:
        return {name: await membership_of(client, group.named(settings.topic_prefix)) for name, group in GROUPS.items()}

    return await questions.ask(ask)


class Operator:
    """Plans and sets the offsets of one group; topics are named without the prefix. Each call raises AwayError."""

    def __init__(self, settings: Settings, questions: Questions, group: Group, *, clock: Clock) -> None:
        self._prefix = settings.topic_prefix
        self._questions = questions
        self._group = group
        self._name = group.named(settings.topic_prefix)
        self._clock = clock

    async def plan(self, position: Position, topics: Mapping[Topic, frozenset[int] | None]) -> list[Change]:
        """Return what each partition's offset would become.

        UsageError for a partition that does not exist, NotFoundError for a topic, RefusedError where open claims would be lost.
        """
        standings, metadata = await self._questions.ask(lambda client: self._stand(client, position, topics))
        return planned(position, standings, metadata)

    async def refuse_unsafe(self, changes: Sequence[Change]) -> None:
        """Raise RefusedError if the group is live, or if a change goes back beyond what is remembered."""

        async def ask(client: Any) -> tuple[Membership, dict[Place, int]]:
            back = {self._place(change): change.new for change in changes if change.again}
            return await membership_of(client, self._name), await record_times(client, back)

        membership, times = await self._questions.ask(ask)
        refuse_live(self._name, self._group.role, membership)
        by_topic = {(place.topic.removeprefix(self._prefix), place.partition): time for place, time in times.items()}
        refuse_beyond_horizon(changes, by_topic, now_ms=self._clock.now_ms())

    async def execute(self, changes: Sequence[Change]) -> None:
        """Set the offsets, all or none; RefusedError if the group came to life."""
        commits = {self._place(change): Commit(change.new, change.metadata) for change in changes}

        async def ask(client: Any) -> None:
            try:
                await commit(client, self._name, commits)
            except (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError):
                raise RefusedError(
                    f"Group {self._name} came to life, so nothing was changed: stop `ottla run {self._group.role}`."
                ) from None

        await self._questions.ask(ask)

    async def _stand(
        self, client: Any, position: Position, topics: Mapping[Topic, frozenset[int] | None]
    ) -> tuple[list[Standing], dict[tuple[str, int], str]]:
        places: dict[Place, str] = {}
        for topic, numbers in topics.items():
            there = await places_of(client, [topic.named(self._prefix)])
            if not there:
                raise NotFoundError(f"Topic {topic.named(self._prefix)} does not exist: `ottla topics create` makes it.")
            if numbers is not None and (missing := numbers - {place.partition for place in there}):
                raise UsageError(f"{topic.name} has no partition {min(missing)}: it has 0 to {len(there) - 1}.")
            places |= {place: topic.name for place in there if numbers is None or place.partition in numbers}
        commits = await commits_of(client, self._name, places)
        begins = await offsets_at(client, dict.fromkeys(places, BEGINNING))
        ends = await offsets_at(client, dict.fromkeys(places, END))
        at_time = await offsets_at(client, dict.fromkeys(places, position.amount)) if position.to == "time" else {}
        standings = [
            Standing(
                topic=topic,
                partition=place.partition,
                committed=commits[place].offset if place in commits else None,
                begin=begins[place] or 0,
                end=ends[place] or 0,
                at_time=at_time.get(place),
            )
            for place, topic in places.items()
        ]
        return standings, {(topic, place.partition): commits[place].metadata for place, topic in places.items() if place in commits}

    def _place(self, change: Change) -> Place:
        return Place(self._prefix + change.topic, change.partition)
