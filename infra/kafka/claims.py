"""Claims in the metadata of an offset commit: which offsets at or above the committed one have an effect under way.

A commit is refused when its member is no longer of the group's generation, so a claim is made by the partition's owner or not at all, and
one commit claims everything that has come together, over all partitions. Whoever takes a partition reads them with the committed offset.
The form is `c1:` and base64 of the gaps between sorted offsets, starting at the committed one, as base-128 numbers, lowest digits first.
"""

import base64
from collections.abc import Iterable

_PREFIX = "c1:"
CLAIMS_MAX = 1_400
"""Of one partition at once: as many gaps of two bytes fit into the broker's limit for metadata, 4,096 characters."""

_METADATA_MAX = 4_096


class ClaimsError(ValueError):
    """Metadata that holds no claims of ours, or more claims than fit."""


def encode_claims(committed: int, offsets: Iterable[int]) -> str:
    """Return the metadata for a commit of `committed`; ClaimsError if it is too long or an offset lies below."""
    digits = bytearray()
    last = committed
    for offset in sorted(offsets):
        gap = offset - last
        if gap < 0:
            raise ClaimsError(f"offset {offset} lies below the committed {committed}")
        last = offset
        while gap >= 0x80:  # noqa: PLR2004  # base 128
            digits.append(0x80 | gap & 0x7F)
            gap >>= 7
        digits.append(gap)
    text = _PREFIX + base64.b64encode(digits).decode() if digits else ""
    if len(text) > _METADATA_MAX:
        raise ClaimsError(f"{len(text)} characters of claims do not fit into a commit")
    return text


def decode_claims(committed: int, metadata: str) -> frozenset[int]:
    """Return the claimed offsets; ClaimsError if the metadata is not ours. Empty metadata claims nothing."""
    if not metadata:
        return frozenset()
    if not metadata.startswith(_PREFIX):
        raise ClaimsError(f"not our metadata: {metadata[:20]!r}")
    offsets: set[int] = set()
    last, gap, shift = committed, 0, 0
    try:
        digits = base64.b64decode(metadata.removeprefix(_PREFIX), validate=True)
    except ValueError as error:
        raise ClaimsError(f"damaged metadata: {error}") from None
    for digit in digits:
        gap |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:  # noqa: PLR2004  # base 128
            last += gap
            offsets.add(last)
            gap = shift = 0
    return frozenset(offsets)
