"""The conversations that the demo plays: what real users wrote, in bursts. Where they come from is in README.md beside the file."""

import gzip
from collections.abc import Iterable
from pathlib import Path

import msgspec

CONVERSATIONS = Path(__file__).with_name("conversations.jsonl.gz")


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation. A burst is what the user wrote before waiting for an answer."""

    id: str
    source: str
    lang: str
    bursts: list[list[str]]

    @property
    def size(self) -> int:
        """How many messages it has."""
        return sum(len(burst) for burst in self.bursts)


def load_conversations(path: Path = CONVERSATIONS) -> list[Conversation]:
    """Return all conversations of the file."""
    decoder = msgspec.json.Decoder(Conversation)
    return [decoder.decode(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def dump_conversations(conversations: Iterable[Conversation]) -> bytes:
    """Return the bytes of such a file, the same for the same conversations."""
    lines = b"".join(msgspec.json.encode(conversation) + b"\n" for conversation in conversations)
    return gzip.compress(lines, compresslevel=9, mtime=0)
