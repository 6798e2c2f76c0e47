"""This process's copy of tenants, accounts and agents, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra.config_tables import ConfigTables
from infra.kafka.admin import KafkaUnreachableError, TopicsError, create_topics
from infra.kafka.producer import Producer
from infra.servers.local import start_servers
from infra.settings import Settings
from schemas.codec import encode
from schemas.events.config import Account, Agent, Tenant
from schemas.topics import ACCOUNTS, AGENTS, TENANTS, Topic

WAIT_S = 30.0


@pytest.fixture
async def topics(settings: Settings) -> None:
    await create_topics(settings)


@pytest.fixture
async def producer(settings: Settings, topics: None) -> AsyncIterator[Producer]:
    producer = Producer(settings, client_id="test")
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture
async def tables(settings: Settings, topics: None) -> AsyncIterator[ConfigTables]:
    tables = ConfigTables(settings)
    await tables.start()
    yield tables
    await tables.stop()


async def _apply(producer: Producer, topic: Topic, event: Tenant | Account | Agent) -> int:
    return await producer.send(topic.name, key=event.id.encode(), value=encode(event))


def _account(number: int, *, tenant: str = "default", agent: str = "") -> Account:
    return Account(id=f"a{number}", phone_number_id=str(number), tenant=tenant, agent=agent)


@pytest.mark.servers
async def test_nothing_applied(tables: ConfigTables) -> None:
    """With nothing applied the tables are empty and no number has an account."""
    assert (tables.tenants, tables.accounts, tables.agents) == ({}, {}, {})
    assert tables.account_by_phone_number_id("106540352242922") is None
    assert tables.started


@pytest.mark.servers
async def test_start_reads_everything_applied_before(settings: Settings, producer: Producer) -> None:
    """When start returns, all that was applied before is there, the newest record of each id."""
    for number in range(300):
        producer.produce(ACCOUNTS.name, key=f"a{number}".encode(), value=encode(_account(number, tenant="old")))
    await _apply(producer, ACCOUNTS, _account(7, tenant="new"))
    await producer.send(ACCOUNTS.name, key=b"a8", value=None)
    await _apply(producer, TENANTS, Tenant(id="new", name="New"))
    await _apply(producer, AGENTS, Agent(id="shop", kind="offline"))
    tables = ConfigTables(settings)
    await tables.start()
    await tables.stop()
    assert len(tables.accounts) == 299
    assert tables.account_by_phone_number_id("7") == _account(7, tenant="new")
    assert tables.account_by_phone_number_id("8") is None
    assert tables.tenants == {"new": Tenant(id="new", name="New")}
    assert tables.agents == {"shop": Agent(id="shop", kind="offline")}


@pytest.mark.servers
async def test_changes_are_followed(tables: ConfigTables, producer: Producer) -> None:
    """What is applied, moved and deleted later is followed, and listeners are told of each change."""
    seen: list[tuple[str, str]] = []
    tables.on_change(lambda topic, key: seen.append((topic, key)))
    offset = await _apply(producer, ACCOUNTS, _account(1))
    assert await tables.wait_until_read(ACCOUNTS, offset, timeout_s=WAIT_S)
    assert tables.account_by_phone_number_id("1") == _account(1)
    offset = await _apply(producer, ACCOUNTS, Account(id="a1", phone_number_id="2"))
    assert await tables.wait_until_read(ACCOUNTS, offset, timeout_s=WAIT_S)
    assert tables.account_by_phone_number_id("1") is None
    assert tables.account_by_phone_number_id("2") == Account(id="a1", phone_number_id="2")
    offset = await producer.send(ACCOUNTS.name, key=b"a1", value=None)
    assert await tables.wait_until_read(ACCOUNTS, offset, timeout_s=WAIT_S)
    assert tables.accounts == {}
    assert seen == [("accounts", "a1")] * 3


@pytest.mark.servers
async def test_a_listener_that_fails_stops_nothing(tables: ConfigTables, producer: Producer) -> None:
    """An error in one listener is logged; the others are told and the tables go on."""
    told = asyncio.Event()

    def fail(topic: str, key: str) -> None:
        raise ValueError(key)

    tables.on_change(fail)
    tables.on_change(lambda *_: told.set())
    with capture_logs() as logs:
        await _apply(producer, AGENTS, Agent(id="shop", kind="offline"))
        await asyncio.wait_for(told.wait(), WAIT_S)
    assert "shop" in tables.agents
    assert [line["log_level"] for line in logs] == ["error"]


@pytest.mark.servers
@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"v":1}', b'{"v":2,"id":"a1","phone_number_id":"1"}', b'{"v":1,"id":"a1","phone_number_id":5,"token":"secret"}'],
)
async def test_a_record_that_is_none_is_skipped(tables: ConfigTables, producer: Producer, value: bytes) -> None:
    """What cannot be understood is logged without its content and skipped; what stood there before stays."""
    await _apply(producer, ACCOUNTS, _account(1))
    with capture_logs() as logs:
        await producer.send(ACCOUNTS.name, key=b"a1", value=value)
        offset = await _apply(producer, ACCOUNTS, _account(2))
        assert await tables.wait_until_read(ACCOUNTS, offset, timeout_s=WAIT_S)
    assert tables.accounts == {"a1": _account(1), "a2": _account(2)}
    assert [line["event"] for line in logs] == ["record of the configuration skipped"]
    assert "secret" not in str(logs)


@pytest.mark.servers
async def test_waiting_for_what_never_comes(tables: ConfigTables) -> None:
    """Waiting for a record has an end."""
    assert not await tables.wait_until_read(TENANTS, 99, timeout_s=0.05)


@pytest.mark.servers
async def test_without_topics(settings: Settings) -> None:
    """An installation without its topics is one sentence."""
    with pytest.raises(TopicsError, match=r"^Topic .*accounts does not exist: run `ottla topics create`\.$"):
        await ConfigTables(settings).start()


async def test_without_kafka() -> None:
    """A Kafka that does not answer is one sentence, and stopping afterwards is fine."""
    tables = ConfigTables(Settings(kafka="127.0.0.1:1", _env_file=None))
    with pytest.raises(KafkaUnreachableError, match=r"^Kafka at 127\.0\.0\.1:1 does not answer"):
        await tables.start(timeout_s=5)
    await tables.stop()
    assert not tables.started


@pytest.mark.servers
async def test_a_broker_that_restarts(tmp_path: Path) -> None:
    """A broker that goes and comes back is followed on without a word to anybody."""
    own = Settings(home=tmp_path, cassandra="127.0.0.1:1", worker="test", _env_file=None)
    broker = await start_servers(own, only=["kafka"], die_with_parent=True)
    settings = own.model_copy(update={"kafka": broker.kafka})
    await create_topics(settings)
    producer, tables = Producer(settings, client_id="test"), ConfigTables(settings)
    await producer.start()
    await tables.start()
    try:
        await _apply(producer, ACCOUNTS, _account(1))
        await broker.stop()
        broker = await start_servers(own, only=["kafka"], die_with_parent=True)
        offset = await _apply(producer, ACCOUNTS, _account(2))
        assert await tables.wait_until_read(ACCOUNTS, offset, timeout_s=WAIT_S)
        assert set(tables.accounts) == {"a1", "a2"}
    finally:
        await tables.stop()
        await producer.stop()
        await broker.stop()


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        (b"wa:7:1", "acme"),
        (b"wa:a%2Fb:1", "acme"),
        (b"wa:8:1", "default"),
        (b"wa:-:-", "default"),
        (b"odd", "default"),
        (b"\xff", "default"),
    ],
)
def test_whose_a_conversation_is(key: bytes, tenant: str) -> None:
    """Its account says so; a key that names none is the default tenant's, whatever its bytes are."""
    tables = ConfigTables(Settings(_env_file=None))
    tables.accounts = {"a7": _account(7, tenant="acme"), "odd": Account(id="odd", phone_number_id="a/b", tenant="acme")}
    assert tables.tenant_of(key) == tenant
