"""One webhook body's whole way through our own code in this process: the endpoint, the stage, history's rows; no servers.

The log is a list, the table a dict, the agent a constant: what they really do is tested elsewhere, here a million bodies count.
"""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import structlog
from pydantic import SecretStr
from starlette.requests import Request
from starlette.types import Message

from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.kafka.producer import Producer
from infra.kafka.record import Record
from infra.retries import Patience
from infra.settings import Settings
from infra.simulator.signing import sign
from ingress.webhook_to_raw import WebhookToRaw
from schemas.channels import CHANNELS
from schemas.codec import DecodeError, Headers, decode
from schemas.events.dead_letter import read_dead_letter
from schemas.events.routed_part import RoutedPart
from schemas.events.webhook_part import WebhookPart
from schemas.ids import split_conversation_key
from schemas.topics import BODY_BYTES_MAX, DEAD_LETTERS, INBOUND, OUTBOUND, RAW, SENT, STATUS, Topic
from sinks.history_rows import history_rows
from sinks.ledger import Ledger
from sinks.ledger_reading import settlements
from streams.agents.base import Reply
from streams.agents.base import Turn as AgentTurn
from streams.decisions import Configured
from streams.raw_to_outbound import RawToOutbound

_SECRET = b"torture-secret"
_ROWS_MAX = 2_000
_PARTITIONS = 12
_KEY_BYTES_MAX = 1 << 16
_HOPS_MAX = 5  # of one item: asked, answered, delivered, and what other keys are told
_BIGINT = range(-(1 << 63), 1 << 63)
_SCOPE = {"type": "http", "method": "POST", "path": "/webhooks/whatsapp", "query_string": b"", "server": ("127.0.0.1", 8000)}
SECONDS_MAX = 10.0
"""What one body may cost of a processor, in seconds, on a busy machine; 4 MiB of hostile JSON take two or three."""

_TOPICS: dict[str, Topic] = {topic.name: topic for topic in (RAW, STATUS, INBOUND, SENT, DEAD_LETTERS, *OUTBOUND.values())}


def statuses_for(body: bytes) -> frozenset[int]:
    """Return what a signed body may be answered: Python's own decoder is the judge of what is JSON, unless it nests too deeply for it."""
    if len(body) > BODY_BYTES_MAX:
        return frozenset({413})
    try:
        _JUDGE.decode(body.decode())
    except RecursionError:
        return frozenset({200, 400})
    except ValueError:
        return frozenset({400})
    return frozenset({200})


def _no_constant(name: str) -> None:
    raise ValueError(name)


_JUDGE = json.JSONDecoder(parse_int=str, parse_constant=_no_constant)


class _Log(Producer):
    """Keeps what is produced until it is taken, and acknowledges at once."""

    def __init__(self) -> None:
        self._offset = 0
        self.records: list[Record] = []

    def produce(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = -1
    ) -> asyncio.Future[int]:
        assert key is not None
        assert value is not None
        assert len(key) + len(value) + sum(len(name) + len(text) for name, text in headers or ()) < _TOPICS[topic].record_bytes_max, topic
        self._offset += 1
        self.records.append(Record(topic, max(0, partition), self._offset, key, value, headers or [], 0))
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(self._offset)
        return future

    async def partitions(self, topic: str) -> int:
        assert topic == STATUS.name
        return _PARTITIONS

    def taken(self) -> list[Record]:
        records, self.records = self.records, []
        return records


class _Table:
    """Rows of the newest conversations."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def get(self, partition: int, key: bytes) -> bytes | None:
        assert partition in range(_PARTITIONS)
        return self._rows.get(key)

    async def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        assert partition in range(_PARTITIONS)
        self._rows.pop(key, None)
        if value is not None:
            self._rows[key] = value
        if len(self._rows) > _ROWS_MAX:
            del self._rows[next(iter(self._rows))]


class _Secrets:
    complete = True

    def app_secrets(self, _: str | None = None) -> tuple[bytes]:
        return (_SECRET,)

    def verify_token(self) -> str:
        return ""


class InProcess:
    """The way of a body; make it and call it on one event loop."""

    def __init__(self) -> None:
        settings = Settings(whatsapp_app_secret=SecretStr(_SECRET.decode()), _env_file=None)
        self._log = _Log()
        self._webhook = WebhookToRaw(CHANNELS["whatsapp"], producer=self._log, secrets=_Secrets(), clock=SystemClock())
        self._stage = RawToOutbound(
            table=_Table(),
            producer=self._log,
            config=ConfigTables(settings),
            answer=_answer,
            clock=SystemClock(),
            default_kind="offline",
            patience=Patience(tries=1),
        )
        self._ledger = Ledger()

    async def take(self, body: bytes) -> str:
        """Take one body all the way; return what became of it, such as `400`, `answered` or `dead-letter`.

        Raises AssertionError for whatever breaks a promise, and whatever our code raises.
        """
        started = time.thread_time()
        status = await self._post(body)
        assert status in statuses_for(body), f"answered {status}"
        parts = self._log.taken()
        assert bool(parts) == (status == 200), f"answered {status} with {len(parts)} parts"
        results = [await self._part(part, body) for part in parts]
        seconds = time.thread_time() - started
        assert seconds < SECONDS_MAX, f"took {seconds:.1f} s"
        return max(results, default=str(status))

    async def _post(self, body: bytes) -> int:
        headers = [(name.lower().encode(), text.encode()) for name, text in sign(body, _SECRET).items()]
        chunks = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> Message:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        response = await self._webhook.receive(Request({**_SCOPE, "headers": headers}, receive))
        return response.status_code

    async def _part(self, part: Record, body: bytes) -> str:
        assert len(part.key) < _KEY_BYTES_MAX
        channel, account, contact = split_conversation_key(part.key.decode())
        assert (channel, bool(account), bool(contact)) == ("wa", True, True)
        try:
            event = decode(part.value, WebhookPart)
        except DecodeError:
            assert (part.topic, part.key, part.value) == ("raw", b"wa:-:-", body)
            count = 0
        else:
            assert event.conversation == part.key.decode()
            count = sum(len(change.items) for change in event.changes)
            assert count
        if part.topic == STATUS.name:
            return self._status(part, count)
        await self._stage.handle(part, _owned)
        outputs = self._log.taken()
        _check_outputs(outputs, part)
        routed = [record for record in outputs if record.topic == RAW.name]
        for _ in range(_HOPS_MAX * (count + 1)):
            if not routed:
                break
            record = routed.pop(0)
            await self._stage.handle(record, _owned)
            more = self._log.taken()
            _check_outputs(more, record)
            routed += [each for each in more if each.topic == RAW.name]
            outputs += more
        assert not routed, "what is keyed again goes round and round"
        if not count:
            assert [record.topic for record in outputs] == [DEAD_LETTERS.name]
        assert sum(record.topic == INBOUND.name and not _is_link(record) for record in outputs) <= count
        topics = {record.topic for record in outputs}
        if DEAD_LETTERS.name in topics:
            return "dead-letter"
        answered = any(topic.name in topics for topic in OUTBOUND.values())
        return "answered" if answered else "stored" if INBOUND.name in topics else "duplicate"

    def _status(self, part: Record, count: int) -> str:
        rows = history_rows(part)
        assert sum(row.table == "statuses" for row in rows) == count
        _check_rows(part)
        for send, platform_id in settlements(part.value):
            self._ledger.note_accepted(part, send, platform_id)
        return "status"


async def _answer(_: Configured, __: AgentTurn) -> Reply:
    return Reply(text="an answer", model="none")


def _owned() -> bool:
    return True


def _is_link(record: Record) -> bool:
    return ("ce_type", b"ottla.linked") in record.headers


def _check_outputs(outputs: Sequence[Record], part: Record) -> None:
    for record in outputs:
        if record.topic == RAW.name:
            routed = decode(record.value, RoutedPart)
            assert len(record.key) < _KEY_BYTES_MAX
            assert split_conversation_key(record.key.decode())[:2] == split_conversation_key(routed.conversation)[:2]
            continue
        assert record.key == part.key
        if record.topic == DEAD_LETTERS.name:
            assert record.value == part.value
            letter = read_dead_letter(record.headers)
            assert (letter.offset, bool(letter.cause)) == (part.offset, True)
        else:
            _check_rows(record)


def _check_rows(record: Record) -> None:
    """Check that the database can hold every column of history's rows."""
    for row in history_rows(record):
        for column, value in row.columns.items():
            _check_value(f"{row.table}.{column}", value)
        key: tuple[Any, ...] = row.partition
        assert sum(len(str(part).encode()) for part in key) < _KEY_BYTES_MAX, row.table


def _check_value(name: str, value: object) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int):
        assert value in _BIGINT, name
    else:
        assert isinstance(value, (bytes, list)), name


def silent() -> None:
    """Let this process log nothing: every hostile body would be told of."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
