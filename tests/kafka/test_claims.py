"""infra.kafka.claims: what is claimed is read back exactly, and fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka.claims import CLAIMS_MAX, ClaimsError, decode_claims, encode_claims


@given(committed=st.integers(0, 1 << 50), gaps=st.lists(st.integers(0, 1 << 14), unique=True, max_size=CLAIMS_MAX))
def test_claims_are_read_back(committed: int, gaps: list[int]) -> None:
    """Whatever offsets at or above the committed one are claimed, they are what is read."""
    offsets = frozenset(committed + gap for gap in gaps)
    assert decode_claims(committed, encode_claims(committed, offsets)) == offsets


def test_as_many_as_promised_fit() -> None:
    """CLAIMS_MAX claims, each 16,000 offsets after the one before, fit into a commit."""
    offsets = range(10, 10 + CLAIMS_MAX * 16_000, 16_000)
    assert decode_claims(0, encode_claims(0, offsets)) == frozenset(offsets)


def test_more_than_fit_are_refused() -> None:
    """Too many claims are an error before they are sent, never cut."""
    with pytest.raises(ClaimsError):
        encode_claims(0, range(10_000))


@pytest.mark.parametrize("metadata", ["x", "c1:!", "c2:AA==", "c1:A"])
def test_what_is_not_ours_is_refused(metadata: str) -> None:
    """Another program's metadata is never taken for claims."""
    with pytest.raises(ClaimsError):
        decode_claims(0, metadata)


def test_nothing_claimed_is_no_metadata() -> None:
    """A commit without claims looks like any other."""
    assert encode_claims(5, ()) == ""
    assert decode_claims(5, "") == frozenset()


def test_an_offset_below_is_refused() -> None:
    """What is committed cannot be claimed."""
    with pytest.raises(ClaimsError):
        encode_claims(5, [4])
