"""Fetch sessions (KIP-227) for aiokafka's consumers, Faust's too: a fetch names, and its answer holds, only what has changed.

aiokafka 0.14 asks for all of its partitions each time, and gets an answer about each of them, in Python, however few have records. A
consumer of many partitions that waits for the next record spends more on that than on its records, and so does the broker
(infra/decisions/0022-fetch-sessions.md). With a session the broker remembers what was asked: the first request of it names everything, each
later one what was added, moved or left out since the one before, by its number in the session.
https://cwiki.apache.org/confluence/display/KAFKA/KIP-227%3A+Introduce+Incremental+FetchRequests+to+Increase+Partition+Scalability

A session is given up, and the next request names everything again, whenever it is not certain that the broker has the same of it: after
an error of the session, after a request without an answer, and on a connection to another node.
"""

from typing import Any

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest

_SESSIONS_FROM_VERSION = 7
_FIRST_EPOCH = 0
_EPOCH_MAX = 2**31 - 1

Partition = tuple[str, int]
Asked = tuple[int, int]
"""From which offset on, and how many bytes at most."""


class Session:
    """What one node remembers of what one consumer asked it for."""

    def __init__(self) -> None:
        self._id = 0
        self._epoch = _FIRST_EPOCH
        self._known: dict[Partition, Asked] = {}

    @property
    def is_open(self) -> bool:
        """Whether the next request may name less than everything."""
        return self._epoch != _FIRST_EPOCH

    def next_request(self, wanted: dict[Partition, Asked]) -> tuple[int, int, dict[Partition, Asked], list[Partition]]:
        """Return the session's id and number of a request for what is `wanted`, what it names, and what it leaves out from now on.

        Until `answered` says otherwise the session counts as lost.
        """
        if self.is_open:
            named = {partition: asked for partition, asked in wanted.items() if self._known.get(partition) != asked}
            left_out = [partition for partition in self._known if partition not in wanted]
        else:
            named, left_out = wanted, []
        self._known = wanted
        epoch, self._epoch = self._epoch, _FIRST_EPOCH
        return self._id, epoch, named, left_out

    def answered(self, *, error_code: int, session_id: int, epoch: int) -> None:
        """Go on with the session after the answer to the request of this number, if the broker does."""
        if error_code or not session_id:
            self._id = 0
        else:
            self._id = session_id
            self._epoch = epoch + 1 if epoch < _EPOCH_MAX else 1


class SessionFetchRequest(FetchRequest):  # type: ignore[misc]  # aiokafka publishes no types
    """aiokafka's request for everything (`topics`, by which it takes the answer apart), sent as one of a session."""

    def __init__(self, request: Any, session: Session) -> None:
        super().__init__(
            request._max_wait_ms,  # noqa: SLF001  # there is nothing public
            request._min_bytes,  # noqa: SLF001
            request._max_bytes,  # noqa: SLF001
            request._isolation_level,  # noqa: SLF001
            request._topics,  # noqa: SLF001
            rack_id=request._rack_id,  # noqa: SLF001
        )
        self._session = session
        self.named = 0
        """How many partitions it named."""

    def build(self, request_struct_class: Any) -> Any:
        """Return the request in the version of the connection; before version 7 there are no sessions."""
        version = request_struct_class.API_VERSION
        if version < _SESSIONS_FROM_VERSION:
            return super().build(request_struct_class)
        wanted = {(topic, number): (offset, size) for topic, numbers in self._topics for number, offset, size in numbers}
        session_id, epoch, named, left_out = self._session.next_request(wanted)
        self.named = len(named)
        built = FetchRequest(
            self._max_wait_ms, self._min_bytes, self._max_bytes, self._isolation_level, _by_topic(named), rack_id=self._rack_id
        ).build(request_struct_class)
        built.session_id, built.session_epoch = session_id, epoch
        built.forgotten_topics_data = _numbers_by_topic(left_out)
        built.RESPONSE_TYPE = _Answered(request_struct_class.RESPONSE_TYPE, self._session, epoch)
        return built


class _Answered:
    """Decodes an answer for aiokafka, and lets the session know of it first."""

    def __init__(self, decoder: Any, session: Session, epoch: int) -> None:
        self._decoder = decoder
        self._session = session
        self._epoch = epoch

    def decode(self, data: Any) -> Any:
        answer = self._decoder.decode(data)
        self._session.answered(error_code=answer.error_code, session_id=answer.session_id, epoch=self._epoch)
        return answer


def _by_topic(asked: dict[Partition, Asked]) -> list[tuple[str, list[tuple[int, int, int]]]]:
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, number), (offset, size) in asked.items():
        topics.setdefault(topic, []).append((number, offset, size))
    return list(topics.items())


def _numbers_by_topic(partitions: list[Partition]) -> list[tuple[str, list[int]]]:
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    return list(topics.items())


_fetch = Fetcher._proc_fetch_request  # noqa: SLF001


async def _fetch_in_session(fetcher: Any, assignment: Any, node_id: int, request: Any) -> Any:
    """Send a fetcher's request as one of its session with that node."""
    if not hasattr(fetcher, "sessions"):
        fetcher.sessions = {}
    session = fetcher.sessions.setdefault(node_id, Session())
    return await _fetch(fetcher, assignment, node_id, SessionFetchRequest(request, session))


Fetcher._proc_fetch_request = _fetch_in_session  # noqa: SLF001
