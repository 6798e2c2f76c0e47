"""What was seen from outside during a run, in order: one JSON line for each. The checker reads nothing else.

Nothing in it is what Ottla says of itself but `Reading`, `Listed` and `Letter`, which are its answers to a client's questions.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    at: float  # seconds since 1970


class Begun(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="begun"):
    """The run: its seed and what it was asked for, as the command says it."""

    seed: int
    command: str
    profile: dict[str, int | float | str] = {}


class Posted(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="posted"):
    """A webhook body is about to be posted. `message` is the platform's id of the message in it; `answer` how it may be answered.

    The driver posts a message of a conversation only after the one before it was stored, so this order is the conversation's.
    `answer` is `text` (an answer is due), `none` (nobody waits for one) or `dead-letter` (it cannot be handled and must be listed).
    `repeat` is True for a body that was stored before.
    """

    body: int
    message: str
    conversation: str
    answer: str = "text"
    repeat: bool = False


class Stored(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="stored"):
    """The ingress answered 200 to a body."""

    body: int


class Refused(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="refused"):
    """The ingress answered something else, or (status 0) nothing: it may be in the log or not, and is posted again."""

    body: int
    status: int = 0


class Effect(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="effect"):
    """The platform took a send (`platform_id` names it). `answered` is the HTTP status the sender got, 0 if its connection was cut."""

    conversation: str
    callback: str
    platform_id: str
    text: str
    answered: int


class Status(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="status"):
    """The platform told a delivery status, and the ingress answered 200 to it."""

    platform_id: str
    status: str
    callback: str = ""


class Fault(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="fault"):
    """A fault begins or ends, or (phase `progress`) a role works again after one, `seconds` after it."""

    name: str
    target: str
    phase: str
    seconds: float = 0.0


class Reading(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="reading"):
    """One message as `GET /v1/conversations/{id}/messages` shows it; `final` for the readings after everything has come to rest.

    `id` is the platform's message id for what came in, the send's id for what went out. `settled` is True for a send that was recorded as
    unknown before a status told more.
    """

    conversation: str
    id: str
    direction: str
    status: str = ""
    platform_id: str = ""
    settled: bool = False
    final: bool = False


class Recorded(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="recorded"):
    """The outcome of a send as it stands in [sent]; `at` is when the broker wrote it."""

    send: str
    outcome: str


class Listed(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="listed"):
    """A send as `ottla sends list -o json` shows it at the end: unknown or parked."""

    send: str
    conversation: str


class Letter(_Line, frozen=True, kw_only=True, omit_defaults=True, tag="letter"):
    """A dead letter at the end: where its record stood, why, and the ids of messages that its original bytes hold."""

    conversation: str
    stage: str
    cause: str
    messages: list[str] = []
    sends: list[str] = []


Entry = Begun | Posted | Stored | Refused | Effect | Status | Fault | Reading | Recorded | Listed | Letter


class HistoryWriter:
    """Appends entries to a file; a context manager. Entries may be written from one event loop only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, entry: Entry) -> None:
        """Append an entry."""
        if self._file is None:
            raise ValueError("the history is not open")
        self._file.write(self._encoder.encode(entry) + b"\n")


def read_history(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file; msgspec.ValidationError for a line that is none."""
    decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)
