"""The tables of CAPACITY.md: what an installation needs, computed from what was measured, which is kept in capacity.json.

`python -m infra.monitoring.capacity [REPORT.json ...]` takes the figures it knows out of reports of `ottla bench` and writes the tables.
Every line says whether it was measured, with its command, or computed, with its formula; what needs a figure that nobody has measured has a
place and no value.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.topics import RAW_RETENTION_DAYS, TOPICS

PAGE = Path(__file__).with_name("CAPACITY.md")
MEASURED = Path(__file__).with_name("capacity.json")

RATE, USERS = 10_000, 1_000_000
"""What is planned for: messages a second at the peak, each answered, and conversations."""

BUSY, REPLICAS, PEAK = 0.6, 3, 5.0
"""How busy a process may be at the peak, replicas on Kafka and Cassandra, and how many times the day's mean the peak is."""

_ROLES = ("ingress", "streams", "sender", "history")
_BY_PARTITION = ("streams", "sender", "history")
_SERVERS = ("kafka", "cassandra")
_DAY_S, _REMEMBERED_DAYS, _SEALED_IDS = 86_400, 8, 256
_TABLES = re.compile(r"(?<=<!-- tables -->\n).*?(?=<!-- end of tables -->)", re.DOTALL)
_IDS = (
    "rows restored",
    "ready, with its disk",
    "changelog, each conversation",
    "of which turns",
    "of which the id",
    "changelog, each sealed id",
    "busy conversation's row",
    "busy conversation, a new id",
    "streams' disk, each conversation",
    "memory, empty table",
    "memory, restored",
)
WANTED = (
    *(f"cost: {name}, each message" for name in (*_ROLES, *_SERVERS)),
    *(f"cost: {name}, memory" for name in (*_ROLES, *_SERVERS)),
    *(f"ids: {name}" for name in _IDS),
    *(f"memory: {name}, growth" for name in _ROLES),
    *(f"memory: {name}'s disk, each message" for name in ("Kafka", "Cassandra")),
)
"""The figures of reports that are taken, by scenario and name."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that was measured: by which command, when and on what."""

    value: float
    unit: str
    command: str
    when: str


class Line(NamedTuple):
    """A line of a table: `how` says whether the figure was measured or computed."""

    what: str
    value: str
    how: str


class NotMeasuredError(Exception):
    """A figure that a line needs was not measured yet."""


def line(what: str, value: Callable[[], str], how: str) -> Line:
    """Return a line; where a figure is missing it says which."""
    try:
        return Line(what, value(), how)
    except NotMeasuredError as error:
        return Line(what, f"not measured yet: `{error}`", how)


def taken(report: Mapping[str, Any]) -> dict[str, Measured]:
    """Return the wanted figures of one report of `ottla bench`."""
    machine = report["machine"]
    when = f"{machine['when']}, {machine['cores']} cores, load before {machine['load before']}"
    return {
        name: Measured(value=figure["value"], unit=figure["unit"], command=f"ottla bench {scenario}", when=when)
        for scenario, found in report["scenarios"].items()
        for figure in found["figures"]
        if (name := f"{scenario}: {figure['name']}") in WANTED and figure["value"] is not None
    }


class Needs:
    """What a rate and a number of users need, by formulas over what was measured."""

    def __init__(self, measured: Mapping[str, Measured], *, rate: float, users: int) -> None:
        self._measured = measured
        self.rate = rate
        self.users = users

    def value(self, name: str) -> float:
        """Return a measured figure; NotMeasuredError if there is none."""
        if name not in self._measured:
            raise NotMeasuredError(name)
        return self._measured[name].value

    def cores(self, name: str) -> float:
        """Return the cores that a role, or one replica of a server, is busy on at the peak."""
        return self.rate * self.value(f"cost: {name}, each message") / 1e6

    def processes(self, name: str) -> int:
        """Return how many processes of a role there have to be: each is busy on one core at most."""
        return math.ceil(self.cores(name) / BUSY)

    @property
    def partitions(self) -> int:
        """Return how many partitions: the power of two that leaves each process of the largest role two of them."""
        largest = max(self.processes(name) for name in _BY_PARTITION)
        return 1 << max(3, math.ceil(math.log2(2 * largest)))

    @property
    def messages_a_day(self) -> float:
        """Return the messages of a day whose peak is the rate."""
        return self.rate / PEAK * _DAY_S

    @property
    def ids(self) -> float:
        """Return how many ids are remembered."""
        return self.messages_a_day * _REMEMBERED_DAYS

    @property
    def sealed_rows(self) -> float:
        """Return how many rows of sealed ids there are, if all users write equally often."""
        return self.users * (self.ids / self.users // _SEALED_IDS)

    @property
    def table_bytes(self) -> float:
        """Return the bytes of the table: turns and the rest of each row, and the ids."""
        return self.users * self._row_without_ids + self.ids * self.value("ids: changelog, each sealed id")

    @property
    def row_bytes(self) -> float:
        """Return the bytes of a conversation's row, which every message writes: at the mean half of the ids that it may hold are in it."""
        held = min(_SEALED_IDS / 2, self.ids / self.users)
        return self._row_without_ids + held * self.value("ids: changelog, each sealed id")

    @property
    def _row_without_ids(self) -> float:
        # In each of its conversations the scenario has ten.
        return self.value("ids: changelog, each conversation") - 10 * self.value("ids: of which the id")

    def restore_s(self, workers: int) -> float:
        """Return how long one of so many workers reads its rows back when its disk is lost."""
        return (self.users + self.sealed_rows) / workers / self.value("ids: rows restored")


def tables(measured: Mapping[str, Measured], *, rate: float = RATE, users: int = USERS) -> str:
    """Return the tables as Markdown."""
    needs = Needs(measured, rate=rate, users=users)
    parts = [
        (
            "What was measured",
            [Line(name, _number(each.value, each.unit), f"measured: {each.command}; {each.when}") for name, each in measured.items()],
        ),
        (f"Processor and memory at {rate:,.0f} messages a second", [*_processor(needs), _memory(needs)]),
        ("Partitions", _partitions(needs)),
        ("Disk", _disk(needs)),
        (f"Remembered ids of {users:,} users", _remembered(needs)),
    ]
    return "\n".join(f"### {title}\n\n{_markdown(lines)}" for title, lines in parts)


def _processor(needs: Needs) -> list[Line]:
    rate = f"{needs.rate:,.0f} x"
    roles = [
        line(
            name,
            lambda name=name: f"{needs.cores(name):.0f} cores in {needs.processes(name)} processes",  # type: ignore[misc]
            f"computed: {rate} `cost: {name}, each message`; processes: cores / {BUSY:g}, as each uses one core at most",
        )
        for name in _ROLES
    ]
    servers = [
        line(
            name,
            lambda name=name: f"{needs.cores(name):.0f} to {REPLICAS * needs.cores(name):.0f} cores",  # type: ignore[misc]
            f"computed: {rate} `cost: {name}, each message`, of one replica, to {REPLICAS} times that for {REPLICAS} (assumed)",
        )
        for name in _SERVERS
    ]
    return [*roles, *servers]


def _memory(needs: Needs) -> Line:
    def total() -> str:
        return _bytes(1e6 * sum(needs.processes(name) * needs.value(f"cost: {name}, memory") for name in _ROLES))

    return line("memory of the roles", total, "computed: processes x `cost: ..., memory`; servers, page cache and remembered rows left out")


def _partitions(needs: Needs) -> list[Line]:
    topics = sum(each.partitioning == "conversation" for each in TOPICS)
    return [
        line(
            "`OTTLA_PARTITIONS`",
            lambda: f"{needs.partitions}",
            "computed: the power of two from twice the processes of the largest role on; fixed when the topics are made",
        ),
        line(
            "messages a second in one partition, at most",
            lambda: f"{1e6 / max(needs.value(f'cost: {name}, each message') for name in _BY_PARTITION):.0f}",
            "computed: 1,000,000 / `cost: ..., each message` of the role that costs most, for a partition has one process of each",
        ),
        line(
            "replicas on all brokers",
            lambda: f"{topics * needs.partitions * REPLICAS:,}",
            f"computed: {topics} topics x partitions x {REPLICAS}",
        ),
    ]


def _disk(needs: Needs) -> list[Line]:
    def stored(server: str, *, days: int, replicas: int) -> Callable[[], str]:
        return lambda: _bytes(needs.messages_a_day * needs.value(f"memory: {server}'s disk, each message") * days * replicas)

    days = RAW_RETENTION_DAYS
    return [
        line(
            "messages a day",
            lambda: f"{needs.messages_a_day / 1e6:,.0f} million",
            f"computed: {needs.rate:,.0f} x {_DAY_S:,} / {PEAK:g}, the peak over the day's mean (assumed)",
        ),
        line(
            "Kafka, a day",
            stored("Kafka", days=1, replicas=1),
            "computed: messages x `memory: Kafka's disk, each message`, one replica, not compressed",
        ),
        line(
            f"Kafka, {days} days",
            stored("Kafka", days=days, replicas=REPLICAS),
            f"computed: the same x {days} days x {REPLICAS} replicas; of what is kept 35 days there is little where little fails",
        ),
        line(
            "Cassandra, a day",
            stored("Cassandra", days=1, replicas=1),
            "computed: messages x `memory: Cassandra's disk, each message`, one replica",
        ),
        line(
            f"Cassandra, {days} days",
            stored("Cassandra", days=days, replicas=REPLICAS),
            f"computed: the same x {days} days x {REPLICAS} replicas; it goes on growing, for history is never deleted",
        ),
    ]


def _remembered(needs: Needs) -> list[Line]:
    return [
        line("ids", lambda: f"{needs.ids / 1e6:,.0f} million", f"computed: messages a day x {_REMEMBERED_DAYS} days"),
        line(
            "the table",
            lambda: _bytes(needs.table_bytes),
            "computed: users x (`changelog, each conversation` less its ten ids) + ids x `changelog, each sealed id`, one replica",
        ),
        line(
            "its rows",
            lambda: f"{(needs.users + needs.sealed_rows) / 1e6:.1f} million",
            f"computed: users, and a sealed row for every {_SEALED_IDS} ids of each",
        ),
        line(
            "a streams worker's disk is lost",
            lambda: f"{needs.restore_s(needs.processes('streams')):.0f} s",
            "computed: rows / processes of streams / `ids: rows restored`, if it has a core for itself",
        ),
        line("one worker without a disk takes all", lambda: f"{needs.restore_s(1):.0f} s", "computed: rows / `ids: rows restored`"),
        line(
            "a message writes to the changelog",
            lambda: _bytes(needs.row_bytes),
            f"computed: its conversation's row without ids, as before, and {_SEALED_IDS // 2} ids or as many as there are",
        ),
        line(
            "the changelog takes at the peak", lambda: f"{_bytes(needs.rate * needs.row_bytes)} a second", "computed: the rate x the same"
        ),
    ]


def _markdown(lines: Sequence[Line]) -> str:
    return (
        "\n".join(["| what | figure | how |", "|---|---|---|", *(f"| {line.what} | {line.value} | {line.how} |" for line in lines)]) + "\n"
    )


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"  # noqa: PLR2004  # as many digits as it deserves


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"


def kept() -> dict[str, Measured]:
    """Return what was measured."""
    return msgspec.json.decode(MEASURED.read_bytes(), type=dict[str, Measured])


def page(text: str, measured: Mapping[str, Measured]) -> str:
    """Return the page with the tables in their place."""
    return _TABLES.sub(lambda _: "\n" + tables(measured) + "\n", text)


def main() -> None:
    """Take the figures of the reports that the command line names, and write file and page."""
    measured = kept()
    for path in sys.argv[1:]:
        try:
            measured |= taken(msgspec.json.decode(Path(path).read_bytes()))
        except (OSError, msgspec.DecodeError, TypeError, KeyError, AttributeError):
            sys.exit(f"{path} cannot be read: name report.json of `ottla bench --report FOLDER`.")
    MEASURED.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
    PAGE.write_text(page(PAGE.read_text("utf-8"), measured), encoding="utf-8")


if __name__ == "__main__":
    main()
