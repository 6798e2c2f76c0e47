"""streams.decisions: what becomes of an item, and who answers."""

import msgspec
import pytest

from schemas.channels.base import Item
from schemas.events.config import Account, Agent
from schemas.events.inbound import Person
from streams.decisions import Action, Decision, configured, decide, turns_of
from streams.rows import REMEMBERED_MS


def item(*, kind: str = "message", answerable: bool = False, silence: str = "", text: str = "hello", direction: str = "in") -> Item:
    return Item(
        kind=kind,
        type="text",
        id="wamid.1",
        at_ms=1,
        direction=direction,
        text=text,
        answerable=answerable,
        silence=silence,
        reply_to="1555",
        reply_to_kind="phone",
        person=Person(),
        payload=msgspec.Raw(b"{}"),
    )


@pytest.mark.parametrize(
    ("what", "action"),
    [
        (item(answerable=True), Action.ANSWER),
        (item(silence="reaction"), Action.STORE),
        (item(kind="echo", silence="echo"), Action.STORE),
        (item(silence="no-account"), Action.DEAD_LETTER),
        (item(silence="no-identity"), Action.DEAD_LETTER),
        (item(kind="echo", silence="no-account"), Action.DEAD_LETTER),
        (item(kind="unknown", silence="unparseable"), Action.DEAD_LETTER),
        (item(kind="change", silence="no-account"), Action.STORE),
        (item(kind="call", silence="no-identity"), Action.STORE),
    ],
)
def test_what_becomes_of_an_item(what: Item, action: Action) -> None:
    """A user's message is answered; a message of nobody is for an operator; the rest is stored."""
    assert decide(what, received_at=1, reply_window_ms=100).action is action


@pytest.mark.parametrize(
    ("received_at", "decision"),
    [
        (0, Decision(action=Action.ANSWER)),
        (101, Decision(action=Action.ANSWER)),
        (102, Decision(action=Action.STORE, reason="late")),
        (1 + REMEMBERED_MS, Decision(action=Action.STORE, reason="late")),
        (2 + REMEMBERED_MS, Decision(action=Action.ANSWER)),
    ],
)
def test_what_is_late(received_at: int, decision: Decision) -> None:
    """Later than the window and no later than a platform delivers again: such a message is stored; silent ones keep their own reason."""
    assert decide(item(answerable=True), received_at=received_at, reply_window_ms=100) == decision
    assert decide(item(silence="reaction"), received_at=received_at, reply_window_ms=100).reason == "reaction"


HELP = Agent(id="help", kind="offline", tenant="acme")
DEFAULT = Agent(id="default", kind="offline", tenant="acme")
OTHERS = Agent(id="default2", kind="offline", tenant="other")


@pytest.mark.parametrize(
    ("account", "agents", "tenant", "agent"),
    [
        (None, {}, "default", ("default", "openai")),
        (
            Account(id="a", phone_number_id="1", tenant="acme", agent="help"),
            {"help": HELP, "default": DEFAULT},
            "acme",
            ("help", "offline"),
        ),
        (Account(id="a", phone_number_id="1", tenant="acme"), {"help": HELP, "default": DEFAULT}, "acme", ("default", "offline")),
        (Account(id="a", phone_number_id="1", tenant="acme", agent="gone"), {"help": HELP}, "acme", ("default", "openai")),
        (Account(id="a", phone_number_id="1", tenant="acme"), {"default2": OTHERS}, "acme", ("default", "openai")),
    ],
)
def test_who_answers(account: Account | None, agents: dict[str, Agent], tenant: str, agent: tuple[str, str]) -> None:
    """The account's own agent, else its tenant's default, else the installation's; never another tenant's."""
    whose = configured(account, agents, default_kind="openai")
    assert whose.tenant == tenant
    assert (whose.agent.id, whose.agent.kind) == agent


def test_what_is_remembered() -> None:
    """A turn is what was said by either side; a reaction or an empty text is none."""
    assert [(turn.role, turn.text) for turn in turns_of(item(), "hi")] == [("user", "hello"), ("assistant", "hi")]
    assert [turn.role for turn in turns_of(item(kind="echo", direction="out"), "")] == ["assistant"]
    assert turns_of(item(kind="call"), "") == []
    assert turns_of(item(text=""), "") == []
