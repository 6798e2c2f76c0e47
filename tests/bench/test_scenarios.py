"""What the scenarios make of what they counted."""

import dataclasses

import pytest

from infra.bench.figures import Figure, Slice
from infra.bench.filled import Filled
from infra.bench.hostile import KINDS
from infra.bench.run import chosen
from infra.bench.scenarios import SCENARIOS, cost, hostile, ids, intake, kill, latency, memory, plain, slow_model, workers
from infra.errors import UsageError


def named(figures: list[Figure], name: str) -> Figure:
    """Return the figure of a name."""
    return next(each for each in figures if each.name == name)


def floor(micros: float, count: int = 1_000) -> Slice:
    """Return a turn of a floor that took so many microseconds for each."""
    return Slice(cpu_s={"floor": micros * count / 1e6}, count=count, wall_s=1.0)


def whole(**micros: float) -> Slice:
    """Return a turn of the whole path with so many microseconds of each process for each of 500 messages."""
    return Slice(cpu_s={name: each * 500 / 1e6 for name, each in micros.items()}, count=500, wall_s=2.0)


def turns(one: Slice) -> cost.Turns:
    """Return one turn with floors of round numbers."""
    floors = {"echo": 100.0, "plain_echo": 290.0, "client": 200.0, "batches": 20.0, "empty": 100.0, "table": 400.0}
    return cost.Turns(whole=[one], rows=[5_000], floors={name: [floor(each)] for name, each in floors.items()})


def test_cost_against_the_floors() -> None:
    figures = cost.figures(turns(whole(ingress=300, streams=800, sender=600, history=240, kafka=500, cassandra=460)))
    assert named(figures, "whole path against echo").value == pytest.approx(29.0)
    assert named(figures, "whole path against plain echo").value == pytest.approx(10.0)
    assert named(figures, "streams against Faust with one table write").value == pytest.approx(1.5)  # less one call of the model
    assert named(figures, "sender against a bare post").value == pytest.approx(3.0)
    assert named(figures, "history against bare batches").value == pytest.approx(1.2)  # 240 for 10 rows, the floor 20 for one
    assert named(figures, "rows of history, each message").value == pytest.approx(10)
    assert named(figures, "rate").value == 250
    assert [each.verdict for each in figures if each.must is not None] == ["kept", "kept", "missed", "kept"]


def test_without_broker_and_database_there_is_no_verdict_on_the_whole() -> None:
    figure = named(cost.figures(turns(whole(ingress=300, streams=800, sender=600, history=240))), "whole path against echo")
    assert figure.verdict == ""
    assert "NOT counted" in figure.how


def test_bars_of_the_cost_are_its_processes_and_the_floors() -> None:
    bars = cost.plot(turns(whole(ingress=300, streams=800, sender=600, history=240, kafka=500, cassandra=560))).bars
    assert bars["whole path"] == pytest.approx(
        {"ingress": 300, "streams": 800, "sender": 600, "history": 240, "kafka": 500, "cassandra": 560}
    )
    assert bars["bare Starlette POST echo"] == pytest.approx({"floor": 100})


def test_intake_against_its_floor() -> None:
    ours = Slice(cpu_s={"ingress": 0.5, "kafka": 0.2}, count=1_000, wall_s=1.0)
    figures = intake.figures([ours], [Slice(cpu_s={"floor": 0.25}, count=1_250, wall_s=1.0)])
    assert named(figures, "rate against the floor").value == pytest.approx(0.8)
    assert named(figures, "rate against the floor").verdict == "kept"
    assert named(figures, "processor time against the floor").value == pytest.approx(2.5)


def test_hostile_clients_are_judged_by_all_kinds_and_by_what_honest_ones_lose() -> None:
    seen = hostile.Seen(stored=set(range(600)), refused=1)
    for turn, p99 in ((hostile.WITHOUT, 0.004), (hostile.ALL, 0.007), *((kind, 0.012) for kind in KINDS)):
        seen.times[turn] = [[0.002] * 98 + [p99] * 2] * 3
    figures = hostile.figures(seen, hostile.Memory(before=100.0, most=1_200.0, after=150.0), lost=0, rate=100)
    assert named(figures, "honest p99 with all kinds").value == pytest.approx(1.75)
    assert named(figures, "honest p99 with huge JSON").value == pytest.approx(3.0)
    assert named(figures, "honest p50, none").value == pytest.approx(2.0)
    assert named(figures, "memory, growth at most").value == pytest.approx(1_100)
    assert [each.verdict for each in figures if each.must is not None] == ["kept", "missed", "kept", "missed"]


def test_latency_bounds() -> None:
    figures = latency.figures([0.010] * 98 + [0.060] * 2, 0, rate=50)
    assert [each.verdict for each in figures] == ["kept", "missed", "", "kept"]


def test_slow_model_against_the_ideal() -> None:
    figures = slow_model.figures([2.1] * 600, 6.9, at_once=200, model_s=2.0)
    assert figures[0].value == pytest.approx(600 / 6.9 / 100)
    assert figures[0].verdict == "kept"


def test_a_kill_has_the_longest_reply() -> None:
    figures = kill.figures({"streams": [0.1, 5.0], "sender": [0.1, 13.0]}, 2)
    assert [(each.value, each.verdict) for each in figures] == [(5.0, "goal"), (13.0, "missed"), (2.0, "")]


def test_growth_with_workers() -> None:
    figures = workers.figures(whole(streams=1_000, kafka=1_000), whole(streams=1_100, kafka=1_300), workers=4)
    assert [each.value for each in figures[:2]] == pytest.approx([10.0, 20.0])
    assert figures[0].verdict == "kept"


def test_plain_use_is_beside_ottla() -> None:
    turns = plain.Turns(ours=[whole(ingress=1_000, kafka=2_000)], plain=[whole(intake=2_000, kafka=4_000)])
    turns.kills["plain", "sender"] = plain.Kill(count=300, longest_s=7.5, lost=2, doubled=3, disordered=4)
    figures = plain.figures(turns)
    assert named(figures, "Ottla against plain").value == pytest.approx(0.5)
    assert named(figures, "plain, each message").value == pytest.approx(6_000)
    assert named(figures, "plain intake, each message").value == pytest.approx(2_000)
    after = {each.name.removeprefix("plain, sender killed, "): each.value for each in figures if "killed" in each.name}
    assert after == {"longest reply": 7.5, "lost": 2, "sent twice": 3, "out of order": 4}
    bars = plain.plot(turns).bars
    assert bars["Ottla"] == pytest.approx({"ingress": 1_000, "kafka": 2_000})
    assert bars["plain"] == pytest.approx({"ingress": 2_000, "kafka": 4_000})  # the same parts have the same colours


def test_ids_are_counted_by_conversation_and_by_id() -> None:
    filled = Filled(
        records=102,
        conversations=100,
        ids=1_000,
        row_bytes=50_000,
        id_bytes=12_000,
        turn_bytes=30_000,
        sealed_ids=512,
        sealed_bytes=5_632,
        busy_row_bytes=900,
        busy_look_up_s=0.002,
    )
    starts = ids.Starts(
        empty=start(2.0, 0, 100.0),
        without_disk=start(4.0, 102, 150.0),
        with_disk=start(2.5, 0, 120.0, disk_bytes=30_240),
        filled=filled,
        log_bytes=60_000,
    )
    figures = {each.name: each.value for each in ids.figures(starts)}
    assert figures["ready, without its disk"] == 4.0
    assert figures["rows restored"] == 51.0
    assert figures["changelog, each conversation"] == 500
    assert figures["changelog, each id"] == 50
    assert figures["of which the id"] == 12
    assert figures["of which turns"] == 300
    assert figures["changelog, each sealed id"] == 11
    assert figures["busy conversation, a new id"] == 2_000
    assert figures["broker's disk, each conversation"] == 600
    assert figures["streams' disk, each id"] == 20
    elsewhere = ids.figures(dataclasses.replace(starts, log_bytes=None))
    assert "broker's disk, each conversation" not in {each.name for each in elsewhere}


def start(ready_s: float, records: int, memory_mb: float, *, disk_bytes: int = 0) -> ids.Start:
    """Return a start."""
    return ids.Start(ready_s=ready_s, records=records, memory_mb=memory_mb, disk_bytes=disk_bytes)


def test_memory_must_not_grow_in_roles_once_they_are_warm() -> None:
    """What is filled in the first third does not count, and of servers growth is only shown."""
    warm = [(0.0, 50.0), (1.0, 90.0), (2.0, 100.0), (3.0, 100.05), (4.0, 100.1), (5.0, 100.15)]
    leaking = [(float(minute), 100.0 + minute) for minute in range(6)]
    figures = memory.figures({"streams": warm, "sender": leaking, "kafka": leaking}, 0, rate=50)
    assert [each.value for each in figures[:3]] == pytest.approx([0.5, 10.0, 10.0])
    assert [each.verdict for each in figures[:3]] == ["kept", "missed", ""]
    assert named(figures, "streams, memory").value == 100.15
    assert [each.value for each in memory.disk_figures({memory.KAFKA_DISK: 5_000.0})] == [5_000.0]


def test_scenarios_are_chosen_by_name_and_played_in_their_order() -> None:
    assert [each.name for each in chosen(["kill", "intake"])] == ["intake", "kill"]
    assert [each.name for each in SCENARIOS if each not in chosen([])] == ["ids", "memory"]  # they take long
    assert [each.name for each in chosen(["memory", "ids"])] == ["ids", "memory"]
    with pytest.raises(UsageError, match="choose from intake, hostile, cost"):
        chosen(["speed"])
