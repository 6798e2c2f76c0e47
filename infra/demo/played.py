"""What was played: each message as it was posted and each reply as the platform got it. The demo's own notes, made outside of Ottla."""

from dataclasses import dataclass, field

from infra.demo.conversations import Conversation
from schemas.ids import conversation_key


@dataclass(kw_only=True)
class UserMessage:
    """One message of a user. Times are milliseconds since 1970; `posts` counts every time it was posted."""

    platform_id: str
    text: str
    posted_at: float
    posts: int = 0
    stored: bool = False


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One send that the platform accepted. `send` is the id in its callback data, empty if that is not ours."""

    send: str
    platform_id: str
    at: float
    text: str


@dataclass(kw_only=True)
class PlayedConversation:
    """A conversation between a phone number and an account, messages and replies in the order of their arrival."""

    conversation: Conversation
    account: str
    phone: str
    messages: list[UserMessage] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The conversation's key in Ottla."""
        return conversation_key(channel="wa", account=self.account, contact=self.phone)


@dataclass(kw_only=True)
class PostTimes:
    """How long each webhook took to be answered with 200, in seconds, and how often it was refused before."""

    answered_s: list[float] = field(default_factory=list)
    refused: int = 0
