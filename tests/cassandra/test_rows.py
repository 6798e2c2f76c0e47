"""Rows are sent together where they share a partition, and small ones where the same nodes keep them."""

import logging
from collections.abc import Hashable, Sequence
from types import SimpleNamespace

import pytest
from cassandra import cqltypes
from cassandra.protocol import ColumnMetadata
from cassandra.query import PreparedStatement

from infra.cassandra.binding import Binder, Limits, Write
from infra.cassandra.rows import Partition, Row, requests, write_rows
from infra.cassandra.session import Cassandra

LIMITS = Limits(size=5_000, partitions=10)


def write(size: int = 100, name: str = "") -> Write:
    return Write(None, name, size)


def sent(writes: Sequence[tuple[Partition, Write]], *, nodes: Hashable = ()) -> list[list[Write]]:
    return requests(writes, lambda _: nodes, LIMITS)


def test_rows_of_one_partition_are_together_whatever_came_between() -> None:
    """One partition is one write to the database, whatever the tables; another one's rows are not sent with it if other nodes keep them."""
    first, second, third = write(name="1"), write(name="2"), write(name="3")
    assert sent([(("a",), first), (("b",), second), (("a",), third)], nodes=None) == [[first, third], [second]]


def test_requests_of_one_partition_are_bounded_in_rows_and_bytes() -> None:
    """However many rows come together, no request is too large for the database, and none is lost."""
    assert [len(each) for each in sent([(("a",), write())] * 120)] == [50, 50, 20]
    assert [len(each) for each in sent([(("a",), write(300_000))] * 3)] == [1, 1, 1]


def test_small_rows_go_together_where_the_same_nodes_keep_them() -> None:
    """As many partitions and bytes as the server takes without a warning; a partition is never torn apart for that."""
    several = [((f"{number}",), write()) for number in range(25)]
    assert [len(each) for each in sent(several)] == [10, 10, 5]
    assert [len(each) for each in sent([((f"{number}",), write(2_000)) for number in range(5)])] == [2, 2, 1]
    large = [(("a",), write(4_000)), (("b",), write(500)), (("a",), write(4_000)), (("c",), write(500))]
    assert [len(each) for each in sent(large)] == [2, 2]
    apart = requests([((name,), write(name=name)) for name in "abab"], lambda each: each.cql, LIMITS)
    assert [[each.cql for each in group] for group in apart] == [["a", "a"], ["b", "b"]]
    kept = requests([((number,), write(name="ab"[number % 2])) for number in range(6)], lambda each: each.cql, LIMITS)
    assert [{each.cql for each in group} for group in kept] == [{"a"}, {"b"}]


async def test_in_a_cluster_only_what_has_the_same_replicas_is_together() -> None:
    """Whatever their order; what is not known to be anywhere goes alone. One node keeps everything."""
    replicas = {b"a": ["n1", "n2"], b"b": ["n2", "n1"], b"c": ["n2", "n3"], b"d": []}
    hosts = ["n1", "n2", "n3"]
    metadata = SimpleNamespace(
        all_hosts=lambda: hosts, get_replicas=lambda _, key: [SimpleNamespace(host_id=name) for name in replicas[key]]
    )
    cassandra = Cassandra(SimpleNamespace(metadata=metadata), None)

    def groups() -> list[list[str]]:
        writes = [((key.decode(),), Write(SimpleNamespace(routing_key=key), key.decode(), 100)) for key in (*replicas, b"d")]
        return [[each.cql for each in group] for group in requests(writes, cassandra.nodes_of, LIMITS)]

    assert groups() == [["a", "b"], ["c"], ["d", "d"]]
    hosts[1:] = []
    assert groups() == [["a", "b", "c", "d", "d"]]


KINDS = (
    (cqltypes.UTF8Type, ["", "text", "é€😀", "\x00"]),
    (cqltypes.BytesType, [b"", b"\x00\xff"]),
    (cqltypes.Int32Type, [0, -1, (1 << 31) - 1, -(1 << 31)]),
    (cqltypes.LongType, [0, -1, (1 << 63) - 1, -(1 << 63)]),
    (cqltypes.ListType.apply_parameters([cqltypes.UTF8Type]), [[], ["a", "é"]]),
    (cqltypes.BooleanType, [True, False]),
)


def test_values_are_packed_as_the_driver_packs_them() -> None:
    """Every type that our tables have, and any other one, at the ends of its range."""
    for kind, values in KINDS:
        prepared = PreparedStatement([ColumnMetadata("k", "t", "c", kind)], b"id", [0], "", "k", 5, None, None)
        for value in values:
            assert Binder("", prepared, 5).bind([value]).statement.values == prepared.bind([value]).values


@pytest.mark.parametrize("values", [(), ("a", "b"), (None,), (1,), ("\ud800",)])
def test_what_does_not_fit_its_column_is_refused(values: Sequence[object]) -> None:
    """Before anything is sent: too many or too few values, a null, another type, half a surrogate pair."""
    prepared = PreparedStatement([ColumnMetadata("k", "t", "c", cqltypes.UTF8Type)], b"id", [0], "", "k", 5, None, None)
    with pytest.raises((ValueError, TypeError)):
        Binder("", prepared, 5).bind(values)


@pytest.mark.servers
async def test_the_server_has_nothing_to_say_of_requests_of_several_partitions(
    cassandra: Cassandra, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of every size, thousands of partitions: what is sent together is never so large that the server warns, or refuses it."""
    rows = [
        Row(
            "statuses",
            {"channel": tenant, "platform_id": f"{number}", "participant": "", "status": "sent", "at_ms": 1, "error": "x" * size},
            1,
        )
        for number, size in enumerate(range(0, 8_000, 9))
    ]
    assert (await cassandra.limits()).partitions >= Limits().partitions
    with caplog.at_level(logging.WARNING):
        await write_rows(cassandra, rows)
    assert caplog.messages == []
    for number in (0, len(rows) // 2, len(rows) - 1):
        found = await cassandra.execute("SELECT error FROM @.statuses WHERE channel = ? AND platform_id = ?", (tenant, f"{number}"))
        assert [row["error"] for row in found] == [rows[number].columns["error"]]
