"""Which status counts."""

import itertools

import pytest

from infra.cassandra.ladder import highest


@pytest.mark.parametrize(
    ("base", "told", "expected"),
    [
        ("queued", [], "queued"),
        ("accepted", [], "accepted"),
        ("accepted", ["sent"], "sent"),
        ("accepted", ["sent", "read"], "read"),
        ("accepted", ["delivered", "sent"], "delivered"),
        ("accepted", ["played", "read", "delivered"], "played"),
        ("accepted", ["failed"], "failed"),
        ("accepted", ["sent", "failed"], "failed"),
        ("accepted", ["delivered", "failed"], "delivered"),
        ("accepted", ["read", "failed"], "read"),
        ("accepted", ["warning", "deleted"], "accepted"),
        ("accepted", ["warning", "sent"], "sent"),
        ("queued", ["sent"], "sent"),
        ("unknown", ["sent"], "sent"),
        ("unknown", ["failed"], "failed"),
        ("unknown", [], "unknown"),
        ("rejected", [], "rejected"),
        ("rejected", ["delivered"], "delivered"),
        ("accepted", ["queued"], "accepted"),
    ],
)
def test_the_highest_counts_in_any_order_and_any_number(base: str, told: list[str], expected: str) -> None:
    """Statuses come late, twice and in any order: only which ones came decides."""
    for order in itertools.permutations(told):
        assert highest(base, order) == expected
        assert highest(base, [*order, *order]) == expected
