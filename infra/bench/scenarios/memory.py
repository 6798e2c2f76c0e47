"""Scenario: whether the memory of a process grows while messages come at half of what the installation can do."""

import time
from collections.abc import Callable, Mapping, Sequence

from infra.bench.figures import Figure, Lines, Result, slope
from infra.bench.installation import ROLES, Installation
from schemas.topics import TOPICS

Points = Sequence[tuple[float, float]]
"""Minutes since the beginning, and resident memory in MB."""

KAFKA_DISK, CASSANDRA_DISK = "Kafka's disk, each message", "Cassandra's disk, each message"
_GROWTH_MAX = 1.0
_SHOWN_MINUTES = 10.0


async def play(installation: Installation, progress: Callable[[int, int], None]) -> Result:
    """Find what the installation can do, then post half of that and read the memory of all processes again and again."""
    plan, users = installation.plan, installation.users
    await installation.slice(plan.warm_up_s)
    full, _ = await installation.slice(plan.seconds)
    rate = full.rate / 2
    samples = max(3, round(60 * plan.memory_minutes / plan.sample_s))
    await installation.settled()
    before_bytes = _stored(installation)
    memory: dict[str, list[tuple[float, float]]] = {}
    numbers: list[int] = []
    posted, missing, begun = 0, 0, time.perf_counter()
    for sample in range(samples):
        before, numbers = numbers, await users.post_at_rate(rate, seconds=plan.sample_s, conversations=plan.conversations)
        minutes = (time.perf_counter() - begun) / 60
        for name, megabytes in installation.meter.memory_mb().items():
            memory.setdefault(name, []).append((minutes, megabytes))
        # Those before these: the newest ones are still under way, and posting goes on.
        missing += len((await users.replies_to(before, patience_s=plan.patience_s))[1])
        posted += len(numbers)
        progress(sample + 1, samples)
    missing += len((await users.replies_to(numbers, patience_s=plan.patience_s))[1])
    await installation.settled()
    each = {name: (count - before_bytes[name]) / posted for name, count in _stored(installation).items()}
    return Result(
        name="memory",
        about=(
            f"Messages at {rate:.0f} a second, half of what the users got by writing, waiting for the reply and writing again, for "
            f"{memory['streams'][-1][0]:.1f} minutes; resident memory every {plan.sample_s:g} s. Growth is that of the last two thirds, by "
            "least squares: a short run shows buffers and caches that are being filled."
        ),
        figures=[*figures(memory, missing, rate=rate), *disk_figures(each)],
        plots=[Lines(file="memory.svg", title="Resident memory of each process", unit="MB", points=memory)],
    )


def _stored(installation: Installation) -> dict[str, int]:
    """Return the bytes on the disks of servers of our own: of all topics that are not compacted, and of history."""
    topics = [installation.log_bytes(topic.name) for topic in TOPICS if topic.retention_ms is not None]
    found = {KAFKA_DISK: None if None in topics else sum(each or 0 for each in topics), CASSANDRA_DISK: installation.history_bytes()}
    return {name: count for name, count in found.items() if count is not None}


def disk_figures(each: Mapping[str, float]) -> list[Figure]:
    """Return what a message has grown the disks by."""
    how = {
        KAFKA_DISK: "segments of all topics but the compacted ones, one replica",
        CASSANDRA_DISK: "files of the tables, one replica; too small in a run of minutes, for the newest 48 MiB at most are in memory",
    }
    return [Figure(name=name, value=value, unit="B", how=how[name]) for name, value in each.items()]


def figures(memory: Mapping[str, Points], missing: int, *, rate: float) -> list[Figure]:
    """Return how fast the memory of each process grows, and where it ended."""
    return [
        *(
            Figure(
                name=f"{name}, growth",
                value=_SHOWN_MINUTES * slope(points[len(points) // 3 :]),
                unit=f"MB in {_SHOWN_MINUTES:g} min",
                how=f"{len(points) - len(points) // 3} readings of resident memory, the last two thirds",
                must=_GROWTH_MAX if name in ROLES else None,
            )
            for name, points in memory.items()
        ),
        *(
            Figure(name=f"{name}, memory", value=points[-1][1], unit="MB", how="resident memory at the last reading")
            for name, points in memory.items()
        ),
        Figure(name="rate", value=rate, unit="messages/s", how="posted, whatever comes back"),
        Figure(name="without a reply", value=float(missing), unit="messages", how="within the run's patience", must=0.0),
    ]
