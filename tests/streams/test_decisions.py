"""streams.decisions: what becomes of an item, and who answers."""

import msgspec
import pytest

from schemas.channels.base import Item
from schemas.events.config import Account, Agent
from schemas.events.inbound import Person
from streams.decisions import Action, configured, decide, turns_of


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
    ("what", "known", "action"),
    [
        (item(answerable=True), False, Action.ANSWER),
        (item(answerable=True), True, Action.DUPLICATE),
        (item(silence="reaction"), False, Action.STORE),
        (item(silence="reaction"), True, Action.DUPLICATE),
        (item(kind="echo", silence="echo"), False, Action.STORE),
        (item(silence="no-account"), False, Action.DEAD_LETTER),
        (item(silence="no-identity"), False, Action.DEAD_LETTER),
        (item(kind="echo", silence="no-account"), False, Action.DEAD_LETTER),
        (item(kind="unknown", silence="unparseable"), False, Action.DEAD_LETTER),
        (item(kind="change", silence="no-account"), False, Action.STORE),
        (item(kind="call", silence="no-identity"), False, Action.STORE),
    ],
)
def test_what_becomes_of_an_item(what: Item, known: bool, action: Action) -> None:
    """A user's new message is answered; what was seen is a duplicate; a message of nobody is for an operator; the rest is stored."""
    assert decide(what, known=known).action is action


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
