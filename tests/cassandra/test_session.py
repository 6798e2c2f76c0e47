"""The bridge between the driver's thread and the event loop."""

import asyncio
import socket

import pytest

from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.retries import AwayError
from infra.settings import Settings


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_nobody_listening_is_one_sentence() -> None:
    """A database that is not there is an error that says where and what to do, and one that may be waited out."""
    address = f"127.0.0.1:{unused_port()}"
    with pytest.raises(CassandraAwayError) as caught:
        await Cassandra.connect(Settings(cassandra=address, _env_file=None))
    text = str(caught.value)
    assert text.startswith(f"Cassandra does not answer at {address} (")
    assert text.endswith("or set OTTLA_CASSANDRA.")
    assert "\n" not in text
    assert isinstance(caught.value, AwayError)


async def test_no_address_is_one_sentence() -> None:
    """Without an address and without a local node there is nothing to connect to."""
    with pytest.raises(CassandraAwayError, match="ottla infra up"):
        await Cassandra.connect(Settings(cassandra="", _env_file=None))


@pytest.mark.servers
async def test_localhost_by_name(history_settings: Settings) -> None:
    """An address may be a name."""
    port = history_settings.cassandra.rpartition(":")[2]
    cassandra = await Cassandra.connect(history_settings.model_copy(update={"cassandra": f"localhost:{port}"}))
    assert await cassandra.execute("SELECT release_version FROM system.local")
    await cassandra.close()


@pytest.mark.servers
async def test_a_burst_of_requests_is_answered_to_whom_it_belongs(cassandra: Cassandra, tenant: str) -> None:
    """Two thousand requests at once, more than may be under way, each get their own answer."""
    insert = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES (?, ?)"
    select = "SELECT platform_id FROM @.send_platform_ids WHERE send = ?"
    await asyncio.gather(*(cassandra.execute(insert, (f"{tenant}-{number}", str(number))) for number in range(2_000)))
    answers = await asyncio.gather(*(cassandra.execute(select, (f"{tenant}-{number}",)) for number in range(2_000)))
    assert [answer[0]["platform_id"] for answer in answers] == [str(number) for number in range(2_000)]


@pytest.mark.servers
async def test_an_answer_of_several_pages_comes_whole(cassandra: Cassandra, tenant: str) -> None:
    """The driver fetches 5,000 rows at once: a longer answer has the rest as well."""
    insert = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES (?, ?)"
    for start in range(0, 12_000, 100):
        await cassandra.execute_batch([await cassandra.bind(insert, (tenant, f"{number:05}")) for number in range(start, start + 100)])
    rows = await cassandra.execute("SELECT platform_id FROM @.send_platform_ids WHERE send = ?", (tenant,))
    assert [row["platform_id"] for row in rows] == [f"{number:05}" for number in range(12_000)]


@pytest.mark.servers
async def test_who_gives_up_waiting_disturbs_nobody(cassandra: Cassandra) -> None:
    """A cancelled request is forgotten, and those beside it are answered."""
    query = "SELECT release_version FROM system.local"
    asked = [asyncio.create_task(cassandra.execute(query)) for _ in range(20)]
    await asyncio.sleep(0)
    for each in asked[::2]:
        each.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert all(isinstance(answer, list) and answer for answer in answers[1::2])
    assert await cassandra.execute(query)


@pytest.mark.servers
async def test_what_the_database_refuses_is_not_taken_for_absence(cassandra: Cassandra) -> None:
    """A defect in a statement must not be waited out for ever."""
    with pytest.raises(Exception, match="no_such_table") as caught:
        await cassandra.execute("SELECT * FROM @.no_such_table WHERE id = ?", ("x",))
    assert not isinstance(caught.value, AwayError)


@pytest.mark.servers
async def test_a_closed_session_says_so(history_settings: Settings) -> None:
    """After `close` nothing hangs: a request fails."""
    cassandra = await Cassandra.connect(history_settings)
    await cassandra.close()
    with pytest.raises(CassandraAwayError):
        await cassandra.execute("SELECT release_version FROM system.local")


@pytest.mark.servers
async def test_the_server_has_nothing_to_warn_of(cassandra: Cassandra, tenant: str, caplog: pytest.LogCaptureFixture) -> None:
    """Statements name their keyspace and batches stay in bounds: neither the server nor the driver says a word."""
    insert = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES (?, ?)"
    await cassandra.execute_batch([await cassandra.bind(insert, (tenant, f"{number:01000}")) for number in range(50)])
    assert len(await cassandra.execute("SELECT platform_id FROM @.send_platform_ids WHERE send = ?", (tenant,))) == 50
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []
