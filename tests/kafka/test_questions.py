"""infra.kafka.questions: no error of the broker is taken for an answer, and what may pass is asked again."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, GroupLoadInProgressError, NodeNotReadyError, UnknownMemberIdError

from infra.kafka.questions import Commit, Place, Questions, commit, commits_of, membership_of, places_of
from infra.retries import AwayError
from infra.settings import Settings

PLACE = Place("raw", 0)
LOADING, NOT_OURS = GroupLoadInProgressError.errno, UnknownMemberIdError.errno


class Broker:
    """Answers every request with one answer."""

    cluster = SimpleNamespace(brokers=lambda: {1})

    def __init__(self, **answer: Any) -> None:
        self._answer = SimpleNamespace(**answer)

    async def coordinator_lookup(self, *_: Any) -> int:
        return 1

    async def send(self, *_: Any) -> Any:
        return self._answer


async def test_a_coordinator_that_loads_is_no_group_without_commits() -> None:
    """A group that seems to have committed nothing would begin at the start of the log, and forget its claims."""
    with pytest.raises(GroupLoadInProgressError):
        await commits_of(Broker(error_code=LOADING, topics=[]), "streams", [PLACE])
    with pytest.raises(GroupLoadInProgressError):
        await commits_of(Broker(error_code=0, topics=[("raw", [(0, -1, "", LOADING)])]), "streams", [PLACE])
    with pytest.raises(GroupLoadInProgressError):
        await membership_of(Broker(groups=[(LOADING, "streams", "", "", "", [])]), "streams")
    answer = Broker(error_code=0, topics=[("raw", [(0, 7, "m", 0), (1, -1, "", 0)])])
    assert await commits_of(answer, "streams", [PLACE]) == {PLACE: Commit(7, "m")}


async def test_a_broker_that_names_none_has_just_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the controller has not admitted yet names no brokers, and aiokafka would stumble over that."""
    monkeypatch.setattr(Broker, "cluster", SimpleNamespace(brokers=set))
    with pytest.raises(NodeNotReadyError):
        await commits_of(Broker(), "streams", [PLACE])


async def test_a_refused_commit_is_refused() -> None:
    """The broker takes no offsets from outside for a group that has members."""
    with pytest.raises(UnknownMemberIdError):
        await commit(Broker(topics=[("raw", [(0, NOT_OURS)])]), "streams", {PLACE: Commit(7, "")})


async def test_what_may_pass_is_asked_again_by_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is made anew; what cannot pass is told at once; nobody waits longer than the time there is."""
    made: list[Any] = []

    async def connected(questions: Questions) -> Any:
        if questions._client is None:
            questions._client = SimpleNamespace(number=len(made), close=closed)
            made.append(questions._client)
        return questions._client

    async def closed() -> None:
        pass

    monkeypatch.setattr(Questions, "_connected", connected)
    questions = Questions(Settings(kafka="127.0.0.1:1", _env_file=None), timeout_s=0.5)

    async def twice_away(client: Any) -> int:
        if client.number < 2:
            raise NodeNotReadyError
        return int(client.number)

    assert await questions.ask(twice_away) == 2
    assert len(made) == 3

    async def refused(_: Any) -> None:
        raise GroupAuthorizationFailedError

    async def away(_: Any) -> None:
        raise NodeNotReadyError

    for question, why in ((refused, "GroupAuthorizationFailed"), (away, r"no answer in 0.5 s .NodeNotReadyError")):
        with pytest.raises(AwayError, match=why):
            await questions.ask(question)


async def test_closing_ends_the_question_under_way() -> None:
    """Who stops must not wait for a broker that is silent; what is asked after that has no answer either."""
    met, writers = asyncio.Event(), list[asyncio.StreamWriter]()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        met.set()

    async def places(client: Any) -> list[Place]:
        return await places_of(client, ["raw"])

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        questions = Questions(Settings(kafka=f"127.0.0.1:{port}", _env_file=None), timeout_s=600)
        asked = [asyncio.create_task(questions.ask(places)) for _ in range(2)]
        await met.wait()
        await questions.close()
        for each in (*asked, questions.ask(places)):
            with pytest.raises(AwayError, match="the connection was closed"):
                await each
        for writer in writers:
            writer.close()
            await writer.wait_closed()
