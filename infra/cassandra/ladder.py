"""Which of a message's statuses counts.

They come in any order, twice, with steps left out and with one second's resolution, so none is ever overwritten: the highest counts.
`read` without `delivered` is normal (the user had the chat open). `failed` counts unless the message was seen to arrive.
"""

from collections.abc import Iterable

RANKS = {"queued": 0, "unknown": 1, "rejected": 1, "accepted": 2, "sent": 3, "delivered": 4, "read": 5, "played": 6}
"""From what is only planned to what was certainly noticed."""

FAILED = "failed"
_ACCEPTED, _ARRIVED = RANKS["accepted"], RANKS["delivered"]


def highest(base: str, statuses: Iterable[str]) -> str:
    """Return the status of a message whose sending ended as `base` and of which the platform told `statuses`.

    Kinds that nobody knows change nothing.
    """
    told = set(statuses)
    best = max((status for status in told if RANKS.get(status, 0) >= _ACCEPTED), key=RANKS.__getitem__, default=base)
    if FAILED in told and RANKS[best] < _ARRIVED:
        return FAILED
    return best if RANKS[best] > RANKS[base] else base


def rank(status: str) -> int:
    """Return where a status stands, for sorting those of one second; kinds that nobody knows come last."""
    return RANKS.get(status, len(RANKS))
