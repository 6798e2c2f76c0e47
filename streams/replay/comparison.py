"""Writes the comparison out of what the store holds: one JSON line for each item, and their sum."""

from pathlib import Path

import msgspec

from streams.replay.answers import NO_RECORD
from streams.replay.compare import Compared, Outcome, chosen, judge, outcome_of
from streams.replay.plan import Plan
from streams.replay.store import NOW, WAS, Decided, Store, Unit
from streams.replay.summary import Counting, Summary


def write_comparison(store: Store, plan: Plan, path: Path) -> Summary:
    """Compare every item, write the lines to `path`, and return what they sum up to."""
    counting = Counting()
    draft = path.with_suffix(".draft")
    with draft.open("wb") as lines:
        for unit in store.units():
            item = _compared(store, unit, counting)
            if item is not None:
                counting.add(item, is_asked=plan.agent is not None)
                lines.write(msgspec.json.encode(item) + b"\n")
    draft.replace(path)
    return counting.summary(plan.id, unhandled=plan.unhandled)


def _compared(store: Store, unit: Unit, counting: Counting) -> Compared | None:
    was_decided, was = _was(store, unit)
    now_decided, now = _now(store, unit)
    if now is None and store.is_on_its_way(unit):
        counting.on_their_way += 1
        return None
    if was is None and store.is_elsewhere(unit):
        counting.elsewhere += 1
        return None
    known = was_decided or now_decided
    if known is None:
        return None
    verdict, why = judge(was, now)
    if now is not None and now.reason == NO_RECORD:
        # What the stage said instead is nobody's answer.
        now = Outcome(decision=now.decision, reason=now.reason)
    return Compared(
        conversation=known.conversation,
        tenant=known.tenant,
        cause=unit.cause,
        partition=unit.partition,
        offset=unit.offset,
        received_at=known.received_at,
        question=known.question,
        kind=known.kind,
        verdict=verdict,
        why=why,
        was=was,
        now=now,
    )


def _was(store: Store, unit: Unit) -> tuple[Decided | None, Outcome | None]:
    decided = store.decided(WAS, unit)
    name = _send_of(decided)
    send = store.send(WAS, name) if name else None
    picked = chosen(decided, send.step if send is not None else "")
    if picked is None:
        return None, None
    return picked, outcome_of(picked, send, sent=store.sent(name) if name else None)


def _now(store: Store, unit: Unit) -> tuple[Decided | None, Outcome | None]:
    decided = store.decided(NOW, unit)
    name = _send_of(decided)
    send = store.send_at(NOW, name, unit) if name else None
    picked = chosen(decided, send.step if send is not None else "")
    if picked is None:
        return None, None
    return picked, outcome_of(picked, send, answered=store.answered(name) if name else None)


def _send_of(decided: list[Decided]) -> str:
    return next((each.send for each in decided if each.send), "")
