"""Tenants, accounts and agents as they are applied now: this process's copy of the three compacted topics, always fresh.

With nothing applied the tables are empty: every phone number id belongs to tenant `default`, and the installation's own agent answers.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import unquote

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from infra.errors import OttlaError
from infra.kafka.admin import KafkaUnreachableError, TopicsError
from infra.kafka.connection import aiokafka_options
from infra.masking import hide
from infra.settings import Settings
from schemas.codec import DecodeError, decode
from schemas.events.config import DEFAULT_TENANT, Account, Agent, Tenant
from schemas.topics import ACCOUNTS, CONFIG_TOPICS, TENANTS, Topic

log = structlog.get_logger()

Changed = Callable[[str, str], None]
"""Called with the topic (`tenants`, `accounts` or `agents`) and the id of what was applied or deleted."""

E = TypeVar("E", Tenant, Account, Agent)

# The broker answers at once when something comes. Only what changes meanwhile (a leader, say) has to wait for the end of a fetch.
_POLL_MS = 2_000
_RETRY_S = 1.0
_FETCH_BYTES_MAX = 2 << 20
_KEY_PARTS = 3


class ConfigTables:
    """Follows [tenants] [accounts] [agents] from their beginning; the dicts hold the newest record of each id.

    Only the event loop that called `start` may read them.
    """

    def __init__(self, settings: Settings) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.accounts: dict[str, Account] = {}
        self.agents: dict[str, Agent] = {}
        self._settings = settings
        self._started = asyncio.Event()
        self._by_number: dict[str, Account] | None = None
        self._read = {topic.name: -1 for topic in CONFIG_TOPICS}
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        self._listeners: list[Changed] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._topics = {TopicPartition(topic.named(settings.topic_prefix), 0): topic.name for topic in CONFIG_TOPICS}

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Read what is applied now and follow what comes; returns when everything applied before the call is in the tables.

        KafkaUnreachableError or TopicsError if that cannot be done within `timeout_s`.
        """
        self._consumer = AIOKafkaConsumer(
            **aiokafka_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
            fetch_max_wait_ms=_POLL_MS,
            client_id="config-tables",
        )
        try:
            async with asyncio.timeout(timeout_s):
                await self._read_all(self._consumer)
        except (KafkaError, TimeoutError) as error:
            await self.stop()
            log.debug("configuration cannot be read", error=str(error))
            raise KafkaUnreachableError(self._settings.kafka) from None
        except OttlaError:
            await self.stop()
            raise
        self._started.set()
        self._task = asyncio.create_task(self._follow(self._consumer), name="config-tables")

    async def stop(self) -> None:
        """Stop following; the tables stay as they are."""
        self._started.clear()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    def on_change(self, listener: Changed) -> None:
        """Call `listener` after each change from now on."""
        self._listeners.append(listener)

    @property
    def started(self) -> bool:
        """Whether everything applied before the start was read."""
        return self._started.is_set()

    async def wait_until_started(self, *, timeout_s: float) -> bool:
        """Return whether the tables were read within `timeout_s`, by whoever starts them."""
        try:
            await asyncio.wait_for(self._started.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def wait_until_read(self, topic: Topic, offset: int, *, timeout_s: float) -> bool:
        """Return whether the record at `offset` came into the tables within `timeout_s`."""
        if self._read[topic.name] >= offset:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((topic.name, offset, future))
        done, _ = await asyncio.wait([future], timeout=timeout_s)
        future.cancel()
        return bool(done)

    def account_by_phone_number_id(self, phone_number_id: str) -> Account | None:
        """Return the account of a number; None if none is applied, then it is the default tenant's."""
        if self._by_number is None:
            self._by_number = {account.phone_number_id: account for account in self.accounts.values()}
        return self._by_number.get(phone_number_id)

    def tenant_of(self, key: bytes) -> str:
        """Return whose conversation a record's key names; the default tenant where it names none, or no account is applied."""
        parts = key.decode("utf-8", "replace").split(":")
        account = self.account_by_phone_number_id(unquote(parts[1])) if len(parts) == _KEY_PARTS else None
        return account.tenant if account is not None else DEFAULT_TENANT

    async def _read_all(self, consumer: AIOKafkaConsumer) -> None:
        await consumer.start()
        missing = {partition.topic for partition in self._topics} - await consumer.topics()
        if missing:
            raise TopicsError(f"Topic {min(missing)} does not exist: run `ottla topics create`.")
        consumer.assign(list(self._topics))
        ends: dict[TopicPartition, int] = await consumer.end_offsets(list(self._topics))
        # The newest record of a log is never compacted away, so the position does reach the end.
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            self._apply_all(await consumer.getmany(timeout_ms=_POLL_MS))

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                self._apply_all(await consumer.getmany(timeout_ms=_POLL_MS))
            except KafkaError as error:
                log.warning("configuration cannot be read, trying again", error=str(error))
                await asyncio.sleep(_RETRY_S)

    def _apply_all(self, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        for partition, records in batches.items():
            for record in records:
                self._apply(self._topics[partition], record)
                self._read[self._topics[partition]] = record.offset
        if batches and self._waiting:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for topic, offset, future in waiting:
            if self._read[topic] < offset:
                self._waiting.append((topic, offset, future))
            elif not future.done():
                future.set_result(None)

    def _apply(self, topic: str, record: ConsumerRecord) -> None:
        key = (record.key or b"").decode("utf-8", "replace")
        try:
            self._put(topic, key, record.value)
        except DecodeError as error:
            log.warning("record of the configuration skipped", topic=topic, offset=record.offset, key=key, error=str(error))
            return
        for listener in self._listeners:
            try:
                listener(topic, key)
            except Exception:
                log.exception("listener to the configuration failed", topic=topic, key=key)

    def _put(self, topic: str, key: str, value: bytes | None) -> None:
        if topic == TENANTS.name:
            _put(self.tenants, key, value, Tenant)
            hide(tenant.key for tenant in (self.tenants.get(key),) if tenant is not None)
        elif topic == ACCOUNTS.name:
            _put(self.accounts, key, value, Account)
            hide(secret for account in (self.accounts.get(key),) if account is not None for secret in (account.token, account.app_secret))
            self._by_number = None
        else:
            _put(self.agents, key, value, Agent)


def _put(table: dict[str, E], key: str, value: bytes | None, event_type: type[E]) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = decode(value, event_type)
