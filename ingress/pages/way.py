"""A message's way as hops with bars: what was said, what became of it, and where the time went. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from infra.cassandra.history import Hop, Message, Position
from ingress.pages.words import milliseconds
from schemas.events.config import Agent

FALLBACK = "fallback"
"""The step of what is sent in place of an answer."""

_WIDTH = 1000.0
_LEAST = 4.0
_NAMES = {
    "received": "Webhook stored",
    "decided": "Decided",
    "outbound": "Queued to send",
    "sent": "Sent",
    "platform sent": "Left the platform",
    "delivered": "Delivered",
    "read": "Read",
    "played": "Played",
    "failed": "Failed",
}
_OURS = frozenset({"received", "decided", "outbound", "sent"})
_BAD_OUTCOMES = ("rejected", "unknown")


class Bar(msgspec.Struct, frozen=True):
    """A piece of time; `x` and `width` of 1000. `kind` is between, wait, work or told."""

    x: float
    width: float
    kind: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One hop; `since_ms` is counted from the beginning of the whole way."""

    name: str
    at: str
    since_ms: int
    record: Position | None
    waited_ms: int | None
    worked_ms: int | None
    detail: str
    bars: list[Bar]
    is_bad: bool
    is_first: bool


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Hops on one scale, which is `span_ms` long."""

    title: str
    span_ms: int
    steps: list[Step]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer, or no certainty, and where to go on; `kind` is bad or warn."""

    kind: str
    text: str
    href: str = ""
    link: str = ""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A question with its answers, or something that was sent unasked."""

    id: str
    at: str
    conversation: str
    text: str
    is_question: bool
    answers: list[str]
    phases: list[Phase]
    notice: Notice | None


class Turn(msgspec.Struct, frozen=True):
    """What was said first, and what was sent because of it."""

    first: Message
    answers: list[Message]


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """Return messages, given newest first, as turns, newest first: what was sent because of another one stands with it."""
    turns: dict[str, Turn] = {}
    belongs: dict[str, str] = {}
    for message in reversed(messages):
        root = belongs.get(message.cause, message.cause)
        if message.direction == "out" and root in turns:
            turns[root].answers.append(message)
            belongs[message.id] = root
        else:
            turns[message.id] = Turn(message, [])
    return list(turns.values())[::-1]


def way_of(turn: Turn, agents: Mapping[str, Agent]) -> Way:
    """Return a turn's way; `agents` are those applied, to name their models."""
    messages = [turn.first, *turn.answers]
    start = milliseconds(turn.first.at)
    ours: list[tuple[Hop, Message]] = []
    told: list[tuple[Hop, Message]] = []
    for message in messages:
        for hop in message.hops:
            (ours if hop.name in _OURS else told).append((hop, message))
    phases = [_phase("From the webhook to the platform's answer", ours, start, agents)] if ours else []
    if told:
        left = max((milliseconds(hop.at) for hop, _ in ours), default=start)
        phases.append(_phase("What the platform told since", told, start, agents, begin=left))
    return Way(
        id=turn.first.id,
        at=turn.first.at,
        conversation=turn.first.conversation,
        text=turn.first.text,
        is_question=turn.first.direction == "in",
        answers=[each.text for each in turn.answers if each.text],
        phases=phases,
        notice=next((found for each in reversed(messages) if (found := notice_of(each, turn.answers)) is not None), None),
    )


def notice_of(message: Message, answers: Sequence[Message] = ()) -> Notice | None:
    """Return what somebody has to know who asks why there is no answer; None where all is well. `answers` are those of its turn."""
    if message.direction == "in":
        if message.decision == "failed" and any(each.step not in ("", FALLBACK) for each in answers):
            return Notice(kind="warn", text=f"The agent failed at first ({message.reason}); answered when it was redriven.")
        return _unanswered(message)
    if message.status in ("failed", "rejected"):
        why = _error(message)
        return Notice(kind="bad", text=f"The platform did not deliver this{why}." if message.status == "failed" else f"Refused{why}.")
    if message.status == "unknown":
        text = f"The answer to this send was lost{_error(message)}: nobody knows yet whether it arrived."
        return Notice(kind="bad", text=text, href="/sends", link="Unknown sends")
    if len(message.platform_ids) > 1:
        return Notice(kind="warn", text=f"The platform took this {len(message.platform_ids)} times: {', '.join(message.platform_ids)}.")
    return None


def _unanswered(message: Message) -> Notice | None:
    if message.decision == "failed":
        from urllib.parse import urlencode

        text = f"Not answered: the agent failed ({message.reason or 'see the dead letter'}). The user got the fallback text."
        href = "/dead-letters/all?" + urlencode({"conversation": message.conversation})
        return Notice(kind="bad", text=text, href=href, link="Its dead letter")
    if message.decision == "stored" and message.kind == "message":
        return Notice(kind="warn", text=f"Stored, not answered{_because(message.reason)}.")
    return None


def _because(reason: str) -> str:
    words = {"late": "it came over 24 hours after it was written", "": ""}.get(reason, reason)
    return f": {words}" if words else ""


def _error(message: Message) -> str:
    told = next((each for each in reversed(message.statuses) if each.error or each.error_code), None)
    code, text = (told.error_code, told.error) if told is not None else (message.error_code, message.error)
    words = " ".join(part for part in (str(code) if code else "", text) if part)
    return f" ({words})" if words else ""


def _phase(title: str, hops: Sequence[tuple[Hop, Message]], start: int, agents: Mapping[str, Agent], begin: int | None = None) -> Phase:
    hops = sorted(hops, key=lambda each: milliseconds(each[0].at))
    low = begin if begin is not None else min(_begun(hop) for hop, _ in hops)
    low = min(low, start) if begin is None else low
    high = max(milliseconds(hop.at) for hop, _ in hops)
    span = max(1, high - low)
    steps = []
    before = low
    for hop, message in hops:
        # The platform tells whole seconds only, and by its own clock: what it told was not before what it was told of.
        end = max(low, milliseconds(hop.at))
        steps.append(
            Step(
                name=_NAMES.get(hop.name, hop.name),
                at=hop.at,
                since_ms=max(0, end - start),
                record=hop.record,
                waited_ms=hop.waited_ms,
                worked_ms=hop.worked_ms,
                detail=_detail(hop, message, agents),
                bars=[_bar(low, span, *piece) for piece in _pieces(hop, before, end)],
                is_bad=_is_bad(hop, message),
                is_first=begin is None and hop is hops[0][0],
            )
        )
        before = max(before, end)
    return Phase(title=title, span_ms=high - low if high > low else 0, steps=steps)


def _begun(hop: Hop) -> int:
    return milliseconds(hop.at) - (hop.worked_ms or 0) - (hop.waited_ms or 0)


def _pieces(hop: Hop, before: int, end: int) -> list[tuple[int, int, str]]:
    """Return a hop's pieces of time as (from, to, kind)."""
    if hop.name not in _OURS:
        return [(min(before, end), end, "told")]
    worked_from = end - (hop.worked_ms or 0)
    waited_from = worked_from - (hop.waited_ms or 0)
    pieces = [(waited_from, worked_from, "wait")] if hop.waited_ms else []
    if before < waited_from:
        pieces.insert(0, (before, waited_from, "between"))
    return [*pieces, (worked_from, end, "work")]


def _bar(low: int, span: int, begin: int, end: int, kind: str) -> Bar:
    x = max(0.0, (begin - low) / span * _WIDTH)
    width = max(_LEAST, (end - begin) / span * _WIDTH)
    return Bar(min(x, _WIDTH - _LEAST), min(width, max(_LEAST, _WIDTH - x)), kind)


def _is_bad(hop: Hop, message: Message) -> bool:
    if hop.name == "decided":
        return message.decision == "failed"
    return hop.name == "failed" or (hop.name == "sent" and hop.detail.startswith(_BAD_OUTCOMES))


def _detail(hop: Hop, message: Message, agents: Mapping[str, Agent]) -> str:
    if hop.name == "decided":
        decided = ": ".join(part for part in (message.decision, message.reason) if part)
        return " · ".join(part for part in (decided, _agent(message.agent, agents)) if part)
    if hop.name == "outbound":
        return " · ".join(part for part in (message.step, f"{hop.detail} priority" if hop.detail else "") if part)
    if hop.name == "sent":
        tries = f"{message.attempts} attempt{'' if message.attempts == 1 else 's'}" if message.attempts else ""
        status = f"HTTP {message.http_status}" if message.http_status else ""
        return " · ".join(part for part in (hop.detail, status, tries, message.platform_id) if part)
    return hop.detail


def _agent(name: str, agents: Mapping[str, Agent]) -> str:
    if not name:
        return ""
    applied = agents.get(name)
    how = " ".join(part for part in (applied.kind, applied.model) if part) if applied is not None else ""
    return f"agent {name}" + (f" ({how})" if how else "")
