"""CAPACITY.md: its tables follow from what was measured, and every line says how it was come by."""

import math

import pytest

from infra.bench.run import chosen
from infra.monitoring.capacity import PAGE, WANTED, Measured, Needs, NotMeasuredError, kept, page, tables, taken


def measured(**changes: float) -> dict[str, Measured]:
    """Return figures of round numbers for all that the tables need."""
    values = dict.fromkeys(WANTED, 100.0)
    return {
        name: Measured(value=changes.get(name.partition(": ")[2].partition(",")[0], value), unit="µs", command="ottla bench", when="now")
        for name, value in values.items()
    }


def test_the_page_has_the_tables_of_what_was_measured() -> None:
    """`python -m infra.monitoring.capacity` writes them."""
    assert page(PAGE.read_text("utf-8"), kept()) == PAGE.read_text("utf-8")
    assert "### Disk" in PAGE.read_text("utf-8")


def test_every_line_is_measured_or_computed() -> None:
    """With the command, or with the formula."""
    lines = [line for line in tables(kept()).splitlines() if line.startswith("|") and not line.startswith(("| what", "|---"))]
    assert len(lines) > 30
    assert [line for line in lines if not line.split("|")[-2].strip().startswith(("measured: ", "computed: "))] == []


def test_wanted_figures_are_of_scenarios_that_there_are() -> None:
    for name in {name.partition(":")[0] for name in WANTED}:
        assert chosen([name])


def test_processes_and_partitions_follow_from_costs() -> None:
    """1,000 messages of 1.2 ms each keep 1.2 cores busy: two processes at 60 %; the largest role has two partitions for each of its own."""
    needs = Needs(measured(streams=1_200.0, history=3_000.0), rate=1_000, users=1_000)
    assert needs.cores("streams") == pytest.approx(1.2)
    assert needs.processes("streams") == 2
    assert needs.processes("history") == 5
    assert needs.partitions == 16
    assert Needs(measured(), rate=1, users=1).partitions == 8


def test_a_restore_reads_sealed_rows_too() -> None:
    """At a peak of 5 a second the mean is 1: 691,200 ids in eight days, of 100 users 6,912 each, 27 sealed rows and their own."""
    needs = Needs(measured(), rate=5, users=100)
    assert needs.ids == 691_200
    assert needs.sealed_rows == 2_700
    assert needs.restore_s(1) == pytest.approx(28.0)
    assert needs.restore_s(4) == pytest.approx(7.0)


def test_a_report_gives_what_it_has() -> None:
    """A figure that was not measured does not take the place of one that was."""
    machine = {"when": "today", "cores": "2", "load before": "0.1"}
    figures = [
        {"name": "streams, each message", "value": 900.0, "unit": "µs"},
        {"name": "history, each message", "value": None, "unit": "µs"},
        {"name": "rate", "value": 1.0, "unit": "messages/s"},
    ]
    found = taken({"machine": machine, "scenarios": {"cost": {"figures": figures}}})
    assert {name: each.value for name, each in found.items()} == {"cost: streams, each message": 900.0}
    assert found["cost: streams, each message"].command == "ottla bench cost"


def test_what_was_not_measured_is_not_made_up() -> None:
    """Its lines say which figure they want; all others have theirs."""
    some = measured()
    del some["memory: Kafka's disk, each message"]
    text = tables(some)
    assert "| Kafka, a day | not measured yet: `memory: Kafka's disk, each message` |" in text
    assert "| Cassandra, a day | " in text
    assert text.count("not measured yet") == 2
    with pytest.raises(NotMeasuredError, match="cost: ingress"):
        Needs({}, rate=1, users=1).processes("ingress")
    assert all(math.isfinite(each.value) for each in kept().values())
