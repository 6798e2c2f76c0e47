"""streams.raw_consumer: what is handed to the host, and what is committed, whatever Faust thinks was acknowledged."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from faust.types import TP

from infra.settings import Settings
from streams.app import StreamsApp, create_app
from streams.faust_host import Fetched
from streams.raw_consumer import Write

_RAW, _OTHER = TP("t-raw", 3), TP("t-streams-conversations-changelog", 3)


@pytest.fixture
async def app(tmp_path: Path) -> StreamsApp:
    return create_app(Settings(home=tmp_path, kafka="127.0.0.1:1", cassandra="127.0.0.1:1", topic_prefix="t-", _env_file=None))


class Fetcher:
    """Faust's service that has the consumer fetch; it stops after so many fetches, of which each brings one record."""

    def __init__(self, fetches: int) -> None:
        self._left = fetches

    @property
    def should_stop(self) -> bool:
        return self._left == 0

    async def fetch(self, _: float) -> tuple[dict[TP, list[Any]], set[TP]]:
        self._left -= 1
        return {_RAW: ["record"], _OTHER: ["row"]}, {_RAW}


def _seen_by_host(app: StreamsApp) -> list[tuple[Fetched, int]]:
    """Return what the host is given from now on, which it does not take."""
    taken: list[tuple[Fetched, int]] = []

    async def take(fetched: Fetched, generation: int) -> None:
        taken.append((fetched, generation))

    app.host.take = take  # type: ignore[method-assign]
    return taken


async def test_what_was_fetched_is_handed_on(app: StreamsApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is given the records of [raw] by partition, with the generation they are of, until Faust stops its fetcher."""
    taken, fetcher = _seen_by_host(app), Fetcher(2)
    monkeypatch.setattr(app.consumer, "_wait_next_records", fetcher.fetch)
    app.consumer_generation_id = 7
    await app.consumer._drain_messages(fetcher)
    assert taken == [({3: ["record"]}, 7)] * 2


@pytest.mark.parametrize("can_seek", [True, False])
async def test_what_was_fetched_while_partitions_move_comes_again(
    app: StreamsApp, monkeypatch: pytest.MonkeyPatch, *, can_seek: bool
) -> None:
    """Nothing is handed on while Faust has stopped the flow; the consumer goes back, and goes on when it cannot."""
    taken, fetcher, seeks = _seen_by_host(app), Fetcher(2), []

    async def perform_seek() -> None:
        seeks.append(1)
        if not can_seek:
            raise OSError("no broker")

    monkeypatch.setattr(app.consumer, "_wait_next_records", fetcher.fetch)
    monkeypatch.setattr(app.consumer, "perform_seek", perform_seek)
    app.consumer.stop_flow()
    await app.consumer._drain_messages(fetcher)
    assert (taken, len(seeks)) == ([], 2)


async def test_fetching_can_be_stopped_while_the_host_has_enough(app: StreamsApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust ends its fetcher at each rebalance: a host that waits for room must not hold that up."""
    waiting = asyncio.Event()

    async def take(fetched: Fetched, generation: int) -> None:  # as it is called
        waiting.set()
        await asyncio.Event().wait()

    app.host.take = take  # type: ignore[method-assign]
    fetcher = Fetcher(1)
    monkeypatch.setattr(app.consumer, "_wait_next_records", fetcher.fetch)
    draining = asyncio.create_task(app.consumer._drain_messages(fetcher))
    await waiting.wait()
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining


async def test_faust_commits_what_the_host_says(app: StreamsApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer and its stop commit the host's positions, of what is still assigned, and nothing of its own; a refusal is no end."""
    positions = {0: 7, 3: 12}

    async def commit(write: Write) -> bool:
        return await write(positions)

    app.host.commit = commit  # type: ignore[method-assign]
    consumer = app.consumer
    written: list[Mapping[TP, int]] = []
    answers = [False, True]

    async def commit_offsets(offsets: Mapping[TP, int]) -> bool:
        written.append(offsets)
        return answers[len(written) - 1]

    assigned = {_RAW, _OTHER}
    monkeypatch.setattr(consumer, "_commit", commit_offsets)
    monkeypatch.setattr(consumer, "assignment", lambda: assigned)
    consumer._acked[_RAW].append(99)  # what Faust takes for acknowledged
    assert not await consumer.commit()
    assert await consumer.commit()
    assert written == [{_RAW: 12}] * 2
    assigned.clear()
    assert not await consumer.commit()
    assert len(written) == 2


async def test_a_record_that_goes_past_the_host_ends_the_agent(app: StreamsApp) -> None:
    """Faust's own way to the agent is not used: what came there would be handled by nobody, and its offset committed by nobody."""

    class Stream:
        def noack(self) -> "Stream":
            return self

        async def events(self) -> Any:
            yield type("Event", (), {"message": type("Message", (), {"tp": _RAW, "offset": 5})})

    with pytest.raises(RuntimeError, match="went past the host"):
        await app._consume(Stream())


class Client:
    """aiokafka's consumer, as far as Faust's consumer runs it: each fetch brings one record."""

    def __init__(self) -> None:
        self._closed = False
        self._max_poll_records = 10
        self._fetcher = self
        self._subscriptions = self
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def start(self) -> None:
        self.loops.append(asyncio.get_running_loop())

    async def stop(self) -> None:
        self._closed = True

    def assignment(self) -> set[TP]:
        return {_RAW}

    async def commit(self, _: Mapping[TP, Any]) -> None:
        if self.error is not None:
            raise self.error

    def fetch_context(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    async def fetched_records(self, partitions: set[TP], *, timeout: float, max_records: int) -> dict[TP, list[Any]]:  # noqa: ASYNC109
        assert (timeout, max_records) == (1.0, 10)
        self.loops.append(asyncio.get_running_loop())
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {place: ["record"] for place in partitions}


@pytest.fixture
async def client(app: StreamsApp) -> AsyncIterator[Client]:
    """Run the consumer over such a client."""
    client, consumer = Client(), app.consumer._thread
    consumer._create_consumer = lambda **_: client
    await consumer.start()
    yield client
    await consumer.stop()
    assert client._closed


async def test_records_are_fetched_in_our_loop(app: StreamsApp, client: Client) -> None:
    """There is no second thread that every fetch would have to be handed over from."""
    threads = threading.active_count()
    assert await app.consumer._getmany({_RAW}, 1.0) == {_RAW: ["record"]}
    assert set(client.loops) == {asyncio.get_running_loop()}
    assert threading.active_count() == threads


async def test_ending_the_consumer_ends_nothing_else(app: StreamsApp) -> None:
    """What Faust sweeps up in its thread's loop as it ends would here be everybody's; only the consumer's own tasks end."""
    client, consumer = Client(), app.consumer._thread
    consumer._create_consumer = lambda **_: client
    others = asyncio.create_task(asyncio.Event().wait())
    before = asyncio.all_tasks()
    await consumer.start()
    assert asyncio.all_tasks() - before
    await consumer.stop()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    others.cancel()


@pytest.mark.parametrize("error", [KafkaError("no"), OSError("no")])
async def test_a_client_that_cannot_start_is_told_of(app: StreamsApp, error: Exception) -> None:
    """Who starts it learns why, and it can be stopped."""
    consumer = app.consumer._thread

    class Broken(Client):
        async def start(self) -> None:
            raise error

    consumer._create_consumer = lambda **_: Broken()
    with pytest.raises(type(error), match="no"):
        await consumer.start()
    await asyncio.wait_for(consumer.stop(), 5)


async def test_a_client_that_cannot_stop_holds_nothing_up(app: StreamsApp) -> None:
    """A client that fails as it ends is no reason for the application to wait a minute for it."""
    consumer = app.consumer._thread

    class Broken(Client):
        async def stop(self) -> None:
            raise OSError("no")

    consumer._create_consumer = lambda **_: Broken()
    await consumer.start()
    await asyncio.wait_for(consumer.stop(), 5)


@pytest.mark.parametrize("why", ["crash", "commit"])
async def test_after_a_crash_the_application_ends(app: StreamsApp, client: Client, why: str) -> None:
    """What crashed it ends the consumer too, by itself and first: what could not be committed any more holds nothing up."""

    async def commit(write: Write) -> bool:
        return await write({3: 5})

    app.consumer._commit_of = commit
    app.add_dependency(app.consumer)
    if why == "crash":
        await app.crash(RuntimeError("no"))
    else:
        client.error = KafkaError("no")
        assert not await app.consumer.commit()
        assert app.crashed
    await app.wait_until_stopped()
    await asyncio.wait_for(app.stop(), 10)


async def test_others_have_their_turn_between_two_fetches(app: StreamsApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with much in its buffer and a host that takes it all at once: heartbeats and handlers run all the same."""
    _seen_by_host(app)
    fetcher, turns = Fetcher(100), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(app.consumer, "_wait_next_records", fetcher.fetch)
    running = asyncio.create_task(other())
    await app.consumer._drain_messages(fetcher)
    running.cancel()
    assert turns >= 100


async def test_a_fetch_that_nobody_waits_for_ends(app: StreamsApp, client: Client) -> None:
    """A fetch that is cancelled, as when Faust stops its fetcher, ends; the next one brings records."""
    client.gate = asyncio.Event()
    fetching = asyncio.create_task(app.consumer._getmany({_RAW}, 1.0))
    await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    client.gate = None
    assert await app.consumer._getmany({_RAW}, 1.0) == {_RAW: ["record"]}


async def test_what_a_fetch_raises_is_raised(app: StreamsApp, client: Client) -> None:
    """An error of the client comes to whoever fetches, and ends nothing but that fetch."""
    client.error = KafkaError("no")
    with pytest.raises(KafkaError, match="no"):
        await app.consumer._getmany({_RAW}, 1.0)
    client.error = None
    assert await app.consumer._getmany({_RAW}, 1.0) == {_RAW: ["record"]}
