"""Rows are written together where they share a partition, and only there."""

from infra.cassandra.rows import Row, batches


def row(send: str, platform_id: str = "p") -> Row:
    return Row("send_platform_ids", {"send": send, "platform_id": platform_id}, 1)


def test_a_batch_has_rows_of_one_partition() -> None:
    """A batch over several partitions would make the coordinator wait for all their nodes."""
    found = batches([row("a", "1"), row("b"), row("a", "2"), Row("sends", {"id": "a"}, 1)])
    assert [[each.partition for each in group] for group in found] == [
        [("send_platform_ids", "a")] * 2,
        [("send_platform_ids", "b")],
        [("sends", "a")],
    ]


def test_batches_are_bounded_in_rows_and_bytes() -> None:
    """However many rows come together, no batch is too large for the database, and none is lost."""
    many = batches([row("a", str(number)) for number in range(120)])
    assert [len(group) for group in many] == [50, 50, 20]
    large = batches([row("a", "x" * 300_000 + str(number)) for number in range(3)])
    assert [len(group) for group in large] == [1, 1, 1]
