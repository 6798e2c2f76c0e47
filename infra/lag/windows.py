"""The last minute of observations of every group, topic and partition: as many as the rules need, and no more."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

from infra.lag.figures import TopicFigures, partition_figures
from infra.lag.observation import Observation
from schemas.groups import GROUPS
from schemas.topics import RAW_RETENTION_DAYS

INTERVAL_S = 5.0
"""How far observations lie apart in a window."""

WINDOW = 12
"""How many observations a window holds, and how many are enough to tell a state."""

# A look that comes a little early is the regular one all the same.
_EARLY = 0.9
# Who could not look for so long (the broker was away) has seen nobody stop: the window begins anew.
_GAP_S = 3 * INTERVAL_S


@dataclass(frozen=True, slots=True)
class Source:
    """What a window is of; group and topic by their names in `schemas`, without the installation's prefix."""

    group: str
    topic: str
    partition: int


class Windows:
    """Takes observations as often as somebody looks, and keeps one every INTERVAL_S."""

    def __init__(self, *, raw_days: int = RAW_RETENTION_DAYS) -> None:
        self._raw_days = raw_days
        self._kept: dict[Source, deque[Observation]] = {}
        self._newest: dict[Source, Observation] = {}

    def add(self, seen: Mapping[Source, Observation]) -> None:
        """Take what was seen at one moment; what is not there any more (a topic that was deleted) is forgotten."""
        self._kept = {source: self._kept.get(source) or deque(maxlen=WINDOW) for source in seen}
        self._newest = dict(seen)
        for source, observation in seen.items():
            kept = self._kept[source]
            if kept and observation.at_s - kept[-1].at_s > _GAP_S:
                kept.clear()
            if not kept or observation.at_s - kept[-1].at_s >= INTERVAL_S * _EARLY:
                kept.append(observation)

    def figures(self) -> list[TopicFigures]:
        """Return the figures of every group and topic that was seen last, in the order of the flow."""
        seen: defaultdict[tuple[str, str], list[Source]] = defaultdict(list)
        for source in sorted(self._newest, key=_number):
            seen[source.group, source.topic].append(source)
        return [
            TopicFigures(
                group=group.name,
                topic=topic.name,
                retention_ms=topic.kept_ms(self._raw_days),
                complete=min(len(self._kept[source]) for source in sources) / WINDOW,
                partitions=tuple(partition_figures(source.partition, self._window(source), size=WINDOW) for source in sources),
            )
            for group in GROUPS.values()
            for topic in group.topics
            if (sources := seen.get((group.name, topic.name)))
        ]

    def _window(self, source: Source) -> list[Observation]:
        kept, newest = self._kept[source], self._newest[source]
        if kept[-1] is newest:
            return list(kept)
        # The rules compare moments that lie an interval apart: a look in between counts for what is now, not as another moment.
        return [*kept, newest] if len(kept) == 1 else [*list(kept)[:-1], newest]


def _number(source: Source) -> int:
    return source.partition
