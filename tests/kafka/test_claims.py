"""infra.kafka.claims: what is claimed is read back exactly, and fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka.claims import CLAIMS_MAX, Claims, ClaimsError, decode_claims, encode_claims

TOKEN = "0123456789abcdef"


@given(
    committed=st.integers(0, 1 << 50),
    own=st.lists(st.integers(0, 1 << 14), unique=True, max_size=CLAIMS_MAX // 2),
    inherited=st.lists(st.integers(0, 1 << 14), unique=True, max_size=CLAIMS_MAX // 2),
)
def test_claims_are_read_back(committed: int, own: list[int], inherited: list[int]) -> None:
    """Whatever offsets at or above the committed one are claimed, and by whom, is what is read."""
    first, second = (frozenset(committed + gap for gap in gaps) for gaps in (own, inherited))
    claims = Claims(own=first, inherited=second, token=TOKEN if own or inherited else "")
    assert decode_claims(committed, encode_claims(committed, claims)) == claims


@pytest.mark.parametrize("of_others", [0, CLAIMS_MAX // 2, CLAIMS_MAX])
def test_as_many_as_promised_fit(of_others: int) -> None:
    """CLAIMS_MAX claims, each 16,000 offsets after the one before, fit into a commit, however many were inherited."""
    offsets = range(10, 10 + CLAIMS_MAX * 16_000, 16_000)
    claims = Claims(own=frozenset(offsets[of_others:]), inherited=frozenset(offsets[:of_others]), token=TOKEN)
    assert decode_claims(0, encode_claims(0, claims)) == claims


def test_more_than_fit_are_refused() -> None:
    """Too many claims are an error before they are sent, never cut."""
    with pytest.raises(ClaimsError):
        encode_claims(0, Claims(own=frozenset(range(10_000))))


@pytest.mark.parametrize("metadata", ["x", "c2:a:!:", "c1:AA==", "c3:a:AA==:", "c2:a:A:", "c2:a:AA=="])
def test_what_is_not_ours_is_refused(metadata: str) -> None:
    """Another program's metadata is never taken for claims."""
    with pytest.raises(ClaimsError):
        decode_claims(0, metadata)


def test_nothing_claimed_is_no_metadata() -> None:
    """A commit without claims looks like any other."""
    assert encode_claims(5, Claims(token=TOKEN)) == ""
    assert decode_claims(5, "") == Claims()


def test_an_offset_below_is_refused() -> None:
    """What is committed cannot be claimed."""
    with pytest.raises(ClaimsError):
        encode_claims(5, Claims(own=frozenset({4})))
