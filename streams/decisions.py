"""What to do about an item: the pure half of the stage. An event and what is known in, a decision out."""

import enum

import msgspec

from schemas.channels.base import Item
from schemas.events.config import DEFAULT_TENANT, Account, Agent
from streams.rows import REMEMBERED_MS, Turn

DEFAULT_AGENT = "default"
DEFAULT_FALLBACK = "Sorry, I cannot answer right now. Somebody will get back to you."
ANSWER_STEP = "reply"
FALLBACK_STEP = "fallback"
REDRIVE_STEP = "redrive"
REPLY_PRIORITY = "high"


class Action(enum.Enum):
    """What becomes of an item."""

    STORE = "stored"  # kept for history, nobody waits for an answer
    DEAD_LETTER = "dead-letter"  # kept, and an operator must look
    ANSWER = "answered"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an item, and why where that is not plain."""

    action: Action
    reason: str = ""


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a conversation belongs to and who answers it."""

    tenant: str
    agent: Agent


_LOST_ITEMS = frozenset({"no-identity", "no-account"})
_UNREADABLE = "unparseable"
_LATE = "late"


def decide(item: Item, *, received_at: int, reply_window_ms: int) -> Decision:
    """Decide about one new item that reached us at `received_at`: only what a user wrote, and wrote lately, is answered."""
    if item.answerable:
        # A platform delivers again for some days, and what it delivers later than it may be answered freely is late. What claims to be
        # older than that was not delivered again: its time is of no use, and its user waits.
        is_late = reply_window_ms < received_at - item.at_ms <= REMEMBERED_MS
        return Decision(action=Action.STORE, reason=_LATE) if is_late else Decision(action=Action.ANSWER)
    # What belongs to nobody cannot be shown in any conversation: an operator has to see it. Account notices have no contact by nature.
    # What we cannot read may have been a question.
    lost = item.silence in _LOST_ITEMS and item.kind in ("message", "echo")
    if lost or item.silence == _UNREADABLE:
        return Decision(action=Action.DEAD_LETTER, reason=item.silence)
    return Decision(action=Action.STORE, reason=item.silence)


def configured(account: Account | None, agents: dict[str, Agent], *, default_kind: str) -> Configured:
    """Return tenant and agent for an account: the account's own agent, else its tenant's `default`, else the installation's."""
    tenant = account.tenant if account is not None else DEFAULT_TENANT
    wanted = account.agent if account is not None else ""
    agent = agents.get(wanted) if wanted else None
    if agent is None:
        agent = next((each for each in agents.values() if each.id == DEFAULT_AGENT and each.tenant == tenant), None)
    return Configured(tenant=tenant, agent=agent or Agent(id=DEFAULT_AGENT, kind=default_kind, tenant=tenant))


def turns_of(item: Item, answer: str) -> list[Turn]:
    """Return what a conversation remembers of an item and its answer; what said nothing is not remembered."""
    said = [Turn("assistant" if item.direction == "out" else "user", item.text)] if item.text and item.kind in ("message", "echo") else []
    return said + ([Turn("assistant", answer)] if answer else [])
