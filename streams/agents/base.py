"""What an agent is: it is given a turn of a conversation and returns a reply, or says by its cause why it cannot.

A kind of agent is one module of this package that defines `KIND` and `build(agent, context)`; nothing else has to be edited to add one.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from infra.errors import OttlaError
from infra.settings import Settings

T = TypeVar("T")


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent answers: `text` is what the user just wrote, `history` what was said before, oldest first.

    `send` is the id of the send that the answer becomes: the same one whenever the same turn is asked again.
    """

    conversation: str
    text: str
    instructions: str = ""
    send: str = ""
    history: tuple[tuple[Literal["user", "assistant"], str], ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `known` is false where the agent says that it does not know; tokens are 0 where nobody counts them."""

    text: str
    model: str
    tokens_in: int = 0
    tokens_out: int = 0
    known: bool = True


class AgentError(Exception):
    """A turn without an answer.

    `cause` is a short stable word to group by (`model-timeout`, ...); `retryable` says that the same turn may succeed later.
    """

    def __init__(self, cause: str, message: str = "", *, retryable: bool) -> None:
        super().__init__(message or cause)
        self.cause = cause
        self.retryable = retryable


class AgentBuildError(AgentError, OttlaError):
    """An agent that cannot be built from its configuration; the text is one sentence that says what to change."""

    def __init__(self, message: str) -> None:
        super().__init__("agent-misconfigured", message, retryable=False)


class Agent(Protocol):
    """An AI agent; many turns may be under way at once, of one conversation only one."""

    async def answer(self, turn: Turn) -> Reply:
        """Return the reply to a turn; AgentError if there is none. Never takes longer than `settings.ai_timeout` seconds."""


class Context:
    """What the agents of one process share: the settings, and things such as a connection pool that are made once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._shared: dict[str, Any] = {}

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """Return what the first caller with this name made."""
        if name not in self._shared:
            self._shared[name] = make()
        thing: T = self._shared[name]
        return thing

    async def close(self) -> None:
        """Close everything shared that can be closed."""
        for thing in self._shared.values():
            if hasattr(thing, "close"):
                await thing.close()
        self._shared.clear()
