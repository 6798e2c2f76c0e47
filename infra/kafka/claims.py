"""Claims in the metadata of an offset commit: which offsets at or above the committed one have an effect under way.

A commit is refused when its member is no longer of the group's generation, so a claim is made by the partition's owner or not at all, and
one commit claims everything that has come together, over all partitions. Whoever takes a partition reads them with the committed offset,
and carries on those that are still open.
The form is `c2:token:own:inherited`, the last two base64 of the gaps between sorted offsets, starting at the committed one, as base-128
numbers, lowest digits first.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

_PREFIX = "c2"
CLAIMS_MAX = 1_400
"""Of one partition at once: as many gaps of two bytes fit into the broker's limit for metadata, 4,096 characters."""

_METADATA_MAX = 4_096


class ClaimsError(ValueError):
    """Metadata that holds no claims of ours, or more claims than fit."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Open claims of a partition: `own` were made by the process with this token, `inherited` were found when it took the partition."""

    own: frozenset[int] = frozenset()
    inherited: frozenset[int] = frozenset()
    token: str = ""


def encode_claims(committed: int, claims: Claims) -> str:
    """Return the metadata for a commit of `committed`; ClaimsError if it is too long or an offset lies below."""
    if not claims.own and not claims.inherited:
        return ""
    text = ":".join((_PREFIX, claims.token, _encoded(committed, claims.own), _encoded(committed, claims.inherited)))
    if len(text) > _METADATA_MAX:
        raise ClaimsError(f"{len(text)} characters of claims do not fit into a commit")
    return text


def _encoded(committed: int, offsets: Iterable[int]) -> str:
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
    return base64.b64encode(digits).decode()


def decode_claims(committed: int, metadata: str) -> Claims:
    """Return the claims; ClaimsError if the metadata is not ours. Empty metadata claims nothing."""
    if not metadata:
        return Claims()
    parts = metadata.split(":")
    if len(parts) != 4 or parts[0] != _PREFIX:  # noqa: PLR2004  # as many as are written
        raise ClaimsError(f"not our metadata: {metadata[:20]!r}")
    return Claims(token=parts[1], own=_decoded(committed, parts[2]), inherited=_decoded(committed, parts[3]))


def _decoded(committed: int, text: str) -> frozenset[int]:
    offsets: set[int] = set()
    last, gap, shift = committed, 0, 0
    try:
        digits = base64.b64decode(text, validate=True)
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
