"""What a replay covers: fixed before it begins, written down, and the same when it is resumed."""

import msgspec

from infra.errors import NotFoundError
from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.bounded import BoundedReader, Stretch
from infra.kafka.group_log import GroupLog
from infra.retries import AwayError
from infra.settings import Settings
from infra.times import shown_time
from schemas.events.config import Agent
from schemas.topics import INBOUND, OUTBOUND, RAW, SENT
from streams.rows import REMEMBERED_MS

_STAGE = "streams"
# The clocks of broker and ingress differ a little, and what was keyed again is stored a little later.
_MARGIN_MS = 60_000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be replayed: what was stored from when to when (milliseconds since 1970), of whom, answered by whom, how much faster.

    Speed 0 is as fast as possible. With a `partition` only what ingress wrote there from offset `first` up to, not including, `last` is
    compared; None: as far as the times say.
    """

    from_ms: int
    to_ms: int
    partition: int | None = None
    first: int | None = None
    last: int | None = None
    tenant: str = ""
    conversation: str = ""
    agent: Agent | None = None
    speed: float = 0.0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets of one partition of [raw]: read from `start` to `end`, compared from `first` to `last` (the ends not included).

    What lies before `first` builds state. Behind `last` there may still be items of before it that were keyed again.
    """

    partition: int
    start: int
    first: int
    last: int
    end: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One replay: times are milliseconds since 1970 UTC, `speed` is how much faster than then (0: as fast as possible).

    `raw` has the bounds of each partition, `recorded` where the decisions and sends of then are read. `unhandled` counts the records of
    [raw] in its time that streams had not got to when it was made: nothing is known of these. Of the time before `gone_before` neither log
    nor archive have all records any more (0: they do, of all that it reads).
    """

    id: str
    made_at: int
    from_ms: int
    to_ms: int
    raw: list[Bounds]
    recorded: list[Stretch]
    tenant: str = ""
    conversation: str = ""
    agent: Agent | None = None
    speed: float = 0.0
    unhandled: int = 0
    gone_before: int = 0

    def stretches(self) -> list[Stretch]:
        """Return what is read of [raw]."""
        return [Stretch(topic=RAW.name, partition=each.partition, start=each.start, end=each.end) for each in self.raw]

    def bounds(self) -> dict[int, Bounds]:
        """Return the bounds by partition."""
        return {each.partition: each for each in self.raw}


def bounds_of(partition: int, *, state: int, since: int, until: int, margin: int, end: int, handled: int) -> Bounds:
    """Return the bounds of a partition.

    Given are the first offsets of the state's time, of the compared time, behind that, and some time behind that; the end of the log; and
    what streams have committed: only of what lies below is it known what was decided.
    """
    end = min(end, handled)
    last = min(until, end)
    return Bounds(partition=partition, start=min(state, end), first=min(since, last), last=last, end=max(last, min(margin, end)))


def narrowed(bounds: Bounds, request: Request) -> Bounds:
    """Return the bounds with what is compared in them narrowed to the request's offsets: of the other partitions nothing."""
    if request.partition is None:
        return bounds
    if bounds.partition != request.partition:
        return msgspec.structs.replace(bounds, last=bounds.first)
    last = bounds.last if request.last is None else min(bounds.last, max(request.last, bounds.first))
    first = bounds.first if request.first is None else max(bounds.first, min(request.first, last))
    return msgspec.structs.replace(bounds, first=first, last=last)


async def make_plan(reader: BoundedReader, settings: Settings, request: Request, *, name: str, now_ms: int) -> Plan:
    """Fix what a replay reads; NotFoundError if nothing was received in its time, KafkaUnreachableError without a broker."""
    ends = await reader.ends(RAW.name)
    # Before the ends of the other topics are asked for: what is committed is in them.
    handled = await _handled(settings, list(ends))
    state = await reader.since(RAW.name, request.from_ms - REMEMBERED_MS)
    since, until = await reader.since(RAW.name, request.from_ms), await reader.since(RAW.name, request.to_ms)
    margin = await reader.since(RAW.name, request.to_ms + _MARGIN_MS)
    by_time = [
        bounds_of(
            number, state=state[number], since=since[number], until=until[number], margin=margin[number], end=end, handled=handled[number]
        )
        for number, end in sorted(ends.items())
    ]
    raw = [narrowed(each, request) for each in by_time]
    gone_before = await _gone_before(reader, state, ends)
    unhandled = sum(max(0, min(until[number], end) - max(since[number], handled[number])) for number, end in ends.items())
    if not any(each.last > each.first for each in raw):
        span = f"between {shown_time(request.from_ms)} and {shown_time(request.to_ms)} (UTC)"
        what = f"Nothing was received {span}."
        if unhandled:
            what = f"The {unhandled} records received {span} are not handled yet: run streams."
        elif gone_before > request.from_ms:
            what = f"Nothing received {span} is in log or archive any more: they have all records from {shown_time(gone_before)} on."
        raise NotFoundError(what)
    recorded: list[Stretch] = []
    for topic in (INBOUND, SENT, *OUTBOUND.values()):
        # Sends before the compared time are what its agents' turns are made of.
        begins_ms = request.from_ms - (REMEMBERED_MS if topic in OUTBOUND.values() else _MARGIN_MS)
        starts, last = await reader.since(topic.name, begins_ms), await reader.ends(topic.name)
        recorded += [Stretch(topic=topic.name, partition=number, start=starts[number], end=end) for number, end in sorted(last.items())]
    return Plan(
        id=name,
        made_at=now_ms,
        from_ms=request.from_ms,
        to_ms=request.to_ms,
        raw=raw,
        recorded=recorded,
        tenant=request.tenant,
        conversation=request.conversation,
        agent=request.agent,
        speed=request.speed,
        unhandled=unhandled,
        gone_before=gone_before,
    )


async def _gone_before(reader: BoundedReader, state: dict[int, int], ends: dict[int, int]) -> int:
    """Return from when on there is everything of what is read from these offsets of [raw] on, if some of it is gone; 0 if nothing is.

    That is the latest of the times at which the partitions begin. One that is empty tells of none.
    """
    begins = await reader.beginnings(RAW.name)
    cut = [Stretch(topic=RAW.name, partition=number, start=begin, end=begin + 1) for number, begin in begins.items() if begin > 0]
    cut = [each for each in cut if state[each.partition] <= each.start < ends[each.partition]]
    if not cut:
        return 0
    return max([record.timestamp_ms async for records in reader.read(cut) for record in records], default=0)


async def _handled(settings: Settings, partitions: list[int]) -> dict[int, int]:
    """Return what streams have committed of each partition."""
    log = GroupLog(settings, group=_STAGE)
    try:
        return {number: await log.committed(RAW.name, number) for number in partitions}
    except AwayError:
        raise KafkaUnreachableError(settings.kafka) from None
    finally:
        await log.close()
