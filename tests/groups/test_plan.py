"""infra.groups.plan: what a reset would do, and what is refused because it could have effects twice or forget them."""

import pytest

from infra.errors import RefusedError
from infra.groups.plan import planned, refuse_beyond_horizon, refuse_live
from infra.groups.positions import Position, Standing
from infra.kafka.claims import Claims, decode_claims, encode_claims
from infra.kafka.questions import Member, Membership
from schemas.groups import HORIZON_MS

NOW_MS = 1_800_000_000_000
STANDING = Standing(topic="outbound-high", partition=3, committed=40, begin=10, end=100)
PLACE = ("outbound-high", 3)


def test_what_is_handled_again_and_what_is_skipped() -> None:
    """Counted from where the group would have gone on, also where retention took what it stood before."""
    (back,) = planned(Position(to="earliest"), [STANDING], {})
    (forward,) = planned(Position(to="latest"), [STANDING], {})
    assert (back.old, back.new, back.again, back.skipped) == (40, 10, 30, 0)
    assert (forward.old, forward.new, forward.again, forward.skipped) == (40, 100, 0, 60)
    behind = Standing(topic="raw", partition=0, committed=4, begin=10, end=100)
    (stay,) = planned(Position(to="current"), [behind], {})
    assert (stay.old, stay.new, stay.again, stay.skipped) == (4, 10, 0, 0)


def test_open_claims_go_along() -> None:
    """Who takes the partition must find them, or what may have been sent is sent again; they are counted from the new offset."""
    claims = Claims(own=frozenset({41, 60}), inherited=frozenset({45}), token="token")
    metadata = {PLACE: encode_claims(40, claims)}
    (back,) = planned(Position(to="earliest"), [STANDING], metadata)
    assert decode_claims(back.new, back.metadata) == claims
    (near,) = planned(Position(to="offset", amount=41), [STANDING], metadata)
    assert decode_claims(near.new, near.metadata) == claims
    for amount in (42, 100):
        with pytest.raises(RefusedError, match="outcome is not known"):
            planned(Position(to="offset", amount=amount), [STANDING], metadata)
    (foreign,) = planned(Position(to="latest"), [STANDING], {PLACE: "of somebody else"})
    assert foreign.metadata == ""


@pytest.mark.parametrize(
    "membership",
    [
        Membership(state="Stable", members=(Member(client="sinks-1-sender", places=frozenset()),)),
        Membership(state="PreparingRebalance", members=(Member(client="sinks-1-sender", places=frozenset()),) * 2),
        Membership(state="CompletingRebalance", members=()),
    ],
)
def test_a_live_group_is_refused(membership: Membership) -> None:
    """Members would go on from where they are; the sentence says whom to stop."""
    with pytest.raises(RefusedError, match="stop every `ottla run sinks`"):
        refuse_live("sender", "sinks", membership)


def test_a_group_without_members_is_not() -> None:
    """One that was left, and one that never was."""
    for state in ("Empty", "Dead"):
        refuse_live("sender", "sinks", Membership(state=state, members=()))


def test_beyond_what_is_remembered_is_refused() -> None:
    """Only where something is handled again, and only beyond the horizon."""
    back = planned(Position(to="earliest"), [STANDING], {})
    refuse_beyond_horizon(back, {PLACE: NOW_MS - HORIZON_MS}, now_ms=NOW_MS)
    refuse_beyond_horizon(back, {}, now_ms=NOW_MS)
    with pytest.raises(RefusedError, match=r"outbound-high/3 .* 8\.5 days ago, .*--by-duration P8D"):
        refuse_beyond_horizon(back, {PLACE: NOW_MS - HORIZON_MS - 43_200_000}, now_ms=NOW_MS)
    forward = planned(Position(to="latest"), [STANDING], {})
    refuse_beyond_horizon(forward, {PLACE: 0}, now_ms=NOW_MS)
