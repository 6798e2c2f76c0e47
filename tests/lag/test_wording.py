"""infra.lag.wording: what people read."""

import pytest

from infra.lag.wording import duration, partition_cells, rate, topic_cells

ROW = {
    "group": "streams",
    "topic": "raw",
    "state": "WARN",
    "complete": 1.0,
    "lag_messages": 12,
    "lag_seconds": 61.5,
    "in_per_second": 4.0,
    "out_per_second": 2.0,
    "drain_seconds": None,
    "retention_left_seconds": 1_209_538.5,
    "lost_messages": 0,
}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "?"),
        (0.0, "0.0 s"),
        (8.44, "8.4 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min"),
        (61.5, "1 min 2 s"),
        (3600, "1 h"),
        (3_599.7, "1 h"),
        (90_061, "1 d 1 h"),
        (1_209_538, "13 d 23 h"),
        (86_400 + 59, "1 d"),
        (-5.0, "-5.0 s"),
        (-90_061, "-1 d 1 h"),
    ],
)
def test_times_have_two_units_at_most(seconds: float | None, expected: str) -> None:
    """Tenths below a minute, then whole units; what is over is told with a minus."""
    assert duration(seconds) == expected


def test_rates() -> None:
    """Tenths while they say something."""
    assert [rate(each) for each in (None, 0.0, 0.04, 2.25, 99.0, 1234.5)] == ["?", "0.0", "0.0", "2.2", "99.0", "1234"]


def test_cells() -> None:
    """A lag that grows is never drained; nothing unprocessed has no age; a window that is not full says so; what is lost is told."""
    assert topic_cells([ROW])[0] == {
        "group": "streams",
        "topic": "raw",
        "state": "WARN",
        "lag": "12",
        "oldest": "1 min 2 s",
        "in": "4.0",
        "out": "2.0",
        "drain": "never",
        "left": "13 d 23 h",
    }
    idle = topic_cells([ROW | {"lag_messages": 0, "complete": 0.25, "state": "OK", "lost_messages": 3}])[0]
    assert (idle["lag"], idle["oldest"], idle["drain"], idle["left"]) == ("0 (3 lost)", "-", "-", "-")
    assert idle["state"] == "OK (25% seen)"
    partition = ROW | {"partition": 3, "committed": None, "end": 12, "owner": ""}
    cells = partition_cells([ROW | {"partitions": [partition]}])[0]
    assert (cells["partition"], cells["committed"], cells["owner"], cells["lag"]) == (3, "-", "-", "12")
