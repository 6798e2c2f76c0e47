"""What setting a group's offsets would do, and whether it is safe. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.errors import RefusedError
from infra.groups.positions import Position, Standing, new_offset
from infra.kafka.claims import Claims, ClaimsError, decode_claims, encode_claims
from infra.kafka.questions import Membership
from schemas.groups import HORIZON_MS
from schemas.topics import DAY_MS

# What a coordinator says of a group that nobody is in, and of one that it does not know.
_WITHOUT_MEMBERS = frozenset({"Empty", "Dead"})
_MEMBERS_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Change:
    """One partition's offset, and what becomes of it. `metadata` goes with the commit: open claims of the sender are kept in it."""

    topic: str
    partition: int
    old: int | None
    new: int
    again: int  # records that were handled and are handled again
    skipped: int  # records that were not handled and never are
    metadata: str = ""


def refuse_live(group: str, role: str, membership: Membership) -> None:
    """Raise RefusedError if the group has members, who would go on from where they are and commit over what was set."""
    if membership.state in _WITHOUT_MEMBERS and not membership.members:
        return
    names = sorted({member.client for member in membership.members})
    named = ", ".join(names[:_MEMBERS_NAMED]) + (", ..." if len(names) > _MEMBERS_NAMED else "")
    who = f"{len(membership.members)} member{'s' * (len(membership.members) != 1)}: {named}" if names else membership.state
    raise RefusedError(f"Group {group} is live ({who}): stop every `ottla run {role}`, wait 6 s for their sessions to end, and try again.")


def planned(position: Position, standings: Sequence[Standing], metadata: Mapping[tuple[str, int], str]) -> list[Change]:
    """Return the change of each partition; RefusedError where open claims of sends would be lost."""
    changes = []
    for standing in standings:
        new = new_offset(position, standing)
        changes.append(
            Change(
                topic=standing.topic,
                partition=standing.partition,
                old=standing.committed,
                new=new,
                again=max(0, standing.next - new),
                skipped=max(0, new - standing.next),
                metadata=_kept(standing, new, metadata.get((standing.topic, standing.partition), "")),
            )
        )
    return changes


def refuse_beyond_horizon(changes: Sequence[Change], times_ms: Mapping[tuple[str, int], int], *, now_ms: int) -> None:
    """Raise RefusedError if a partition would go back to a record older than what is remembered.

    `times_ms` says when the records at the new offsets were written.
    """
    for change in changes:
        written_ms = times_ms.get((change.topic, change.partition))
        if change.again and written_ms is not None and written_ms < now_ms - HORIZON_MS:
            ago, days = (now_ms - written_ms) / DAY_MS, HORIZON_MS // DAY_MS
            raise RefusedError(
                f"{change.topic}/{change.partition} would go back to a record of {ago:.1f} days ago, "
                f"and ids are remembered for {days} days: go back no further than `--by-duration P{days}D`."
            )


def _kept(standing: Standing, new: int, metadata: str) -> str:
    """Return the metadata with the claims it has, counted from the new offset: who takes the partition must find them."""
    try:
        claims = decode_claims(standing.committed or 0, metadata)
    except ClaimsError:
        claims = Claims()  # not of ours, and nobody of ours reads it
    try:
        return encode_claims(new, claims)
    except ClaimsError:
        raise RefusedError(
            f"{standing.topic}/{standing.partition} has sends whose outcome is not known, and going on at {new} would forget them: "
            "let `ottla run sinks sender` settle them first."
        ) from None
