"""Connections of the ingress, bounded: in the time and size of a request's head, and in their number. uvicorn bounds none of them.

A connection waits for its client (for a head, for the rest of a body, or to take its answer) or is being answered. Those that wait are
closed when there are too many, the one first that has waited for longest: a client that says nothing, or takes nothing, never keeps out one
that does. One that takes nothing at all of what is ready for it is closed in any case: its answer is memory that nobody gives back.
"""

import asyncio
import resource
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_DEADLINE_S = 10.0
"""From the connection, or from the first byte after the request before, to the end of the head."""

UNREAD_DEADLINE_S, TAKEN_BYTES_MIN = 30.0, 16 * 1024
"""How much a client must take of its answer in what time, once over 64 KiB of it wait."""

HEAD_BYTES_MAX = 64 * 1024
"""Also of what may follow the chunks of a body."""

HEADERS_MAX = 100
CONNECTIONS_MAX = 4_096
# For what is no connection of a client: to Kafka, Cassandra and the roles, logs, stores.
_OTHER_FILES = 256


class TooManyHeadersError(Exception):
    """A head with more lines than any client sends; uvicorn answers 400."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with the bounds."""

    connections_max: ClassVar[int] = CONNECTIONS_MAX
    _waiting: ClassVar[dict["Connection", None]] = {}  # the one first that has waited for longest

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._is_in_head = False
        self._kept_bytes = 0  # that came since the parser last handed something on: of a head, or of what may follow a body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make room for it if there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]  # as uvicorn narrows it
        self._waiting[self] = None
        self._set_deadline()
        if len(self.connections) > self.connections_max:
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._waiting.pop(self, None)
        self._unset_deadline()
        self._unset_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to take more of its answer."""
        super().pause_writing()
        self._waiting[self] = None
        self._unset_unread()
        self._watch_unread()

    def resume_writing(self) -> None:
        """Go on: it has taken most of what waited."""
        self._unset_unread()
        if not self._is_idle():
            self._waiting.pop(self, None)
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the parser has too much to keep after that."""
        self._kept_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._kept_bytes > HEAD_BYTES_MAX:
            if self._is_idle():
                self.send_400_response("Request head too large.")
            else:
                self.transport.abort()
        elif self._deadline is None and (self._is_in_head or self._is_idle()):
            self._set_deadline()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._is_in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one line of a head."""
        if len(self.headers) >= HEADERS_MAX:
            raise TooManyHeadersError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head."""
        self._is_in_head = False
        self._kept_bytes = 0
        self._unset_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Say that the client has sent all of its request: now it waits for us."""
        self._kept_bytes = 0
        super().on_message_complete()
        if not self._is_idle() and self._unread is None:
            self._waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if self._unread is None:
            self._waiting.pop(self, None)
            if not self.pipeline:
                self._waiting[self] = None
        super().on_response_complete()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEAD_DEADLINE_S, self._late)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_unread(self) -> None:
        self._unread = self.loop.call_later(UNREAD_DEADLINE_S, self._late_to_take, self.transport.get_write_buffer_size())

    def _late_to_take(self, waited: int) -> None:
        """Close it if it has hardly taken anything of so many bytes; one that takes its answer slowly gets all of it."""
        if waited - self.transport.get_write_buffer_size() < TAKEN_BYTES_MIN:
            self.transport.abort()
        else:
            self._watch_unread()

    def _unset_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _late(self) -> None:
        self._deadline = None
        # A client that writes its next request slowly while we answer the one before still gets its answer.
        if self._is_idle() and not self.transport.is_closing():
            self.transport.abort()


def connections_allowed() -> int:
    """Return how many connections the process may have, by its limit of open files, which is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, soft - _OTHER_FILES))
