"""The agent behind an OpenAI-compatible endpoint, over real HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.model import SimulatedModel
from schemas.events.config import Agent as AgentConfig
from streams.agents.base import AgentError, Reply, Turn
from streams.agents.openai import ANSWER_LENGTH_MAX, ModelAgent, ModelEndpoint
from streams.agents.registry import Agents

KEY = "sk-do-not-show-me"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Waits(list[float]):
    """Waits no time and remembers how long it was asked to."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def endpoint(agent_settings: Settings) -> AsyncIterator[ModelEndpoint]:
    endpoint = ModelEndpoint(agent_settings)
    yield endpoint
    await endpoint.close()


@pytest.fixture
def agent(endpoint: ModelEndpoint, waits: Waits) -> ModelAgent:
    """Give an agent on the simulated model that loses no time between tries."""
    return ModelAgent(endpoint, model="m", timeout_s=5, sleep=waits)


async def _ask(agent: ModelAgent, text: str = "hello") -> Reply:
    return await agent.answer(Turn(conversation="wa:1:2", text=text))


async def _failure(agent: ModelAgent) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await _ask(agent)
    return caught.value


async def _ask_server(handler: Handler, settings: Settings, *, timeout_s: float = 5, waits: Waits | None = None) -> Reply:
    """Ask an agent whose endpoint is `handler`."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app) as server:
        endpoint = ModelEndpoint(settings.model_copy(update={"ai_url": str(server.make_url("/v1"))}))
        try:
            return await _ask(ModelAgent(endpoint, model="m", timeout_s=timeout_s, sleep=Waits() if waits is None else waits))
        finally:
            await endpoint.close()


def _answering(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=raw, status=status, headers=headers, content_type="application/json")

    return handler


def _completion(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}}], **more}


async def test_what_is_asked(model: SimulatedModel, agents: Agents) -> None:
    """The endpoint gets instructions, history and then the user's text last and verbatim, as strings, not streamed."""
    agent = await agents.get(AgentConfig(id="shop", kind="openai", model="small-1"))
    text = '  "Hi"\n\t<b>&amp;</b> {x} \U0001f64f '
    turn = Turn(conversation="c", text=text, instructions="Be kind.", history=(("user", "one"), ("assistant", "two")))
    reply = await agent.answer(turn)
    prompt = model.prompts[0]
    assert prompt.model == "small-1"
    assert prompt.messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": text},
    ]
    assert reply.text == "echo: " + text
    assert reply.model == "small-1"
    assert reply.tokens_in > 0
    assert reply.tokens_out > 0
    assert reply.known


async def test_no_instructions_no_system_message(model: SimulatedModel, agents: Agents) -> None:
    """Without instructions there is no system message, and the installation's model is asked."""
    await (await agents.get(AgentConfig(id="default", kind="openai"))).answer(Turn(conversation="c", text="x"))
    assert model.prompts[0].messages == [{"role": "user", "content": "x"}]
    assert model.prompts[0].model == "default"


@pytest.mark.parametrize(("key", "header"), [(KEY, f"Bearer {KEY}"), ("", None)])
async def test_the_key_is_sent_if_there_is_one(agent_settings: Settings, key: str, header: str | None) -> None:
    """The bearer key goes with the request; without one there is no such header."""
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), request.headers["Content-Type"], await request.json()))
        return web.json_response(_completion("yes"))

    await _ask_server(handler, agent_settings.model_copy(update={"ai_key": SecretStr(key)}))
    assert seen[0][:2] == (header, "application/json")
    assert seen[0][2]["stream"] is False


async def test_connections_are_used_again(agent_settings: Settings) -> None:
    """Turns one after the other go over one connection."""
    peers = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response(_completion("yes"))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app) as server:
        endpoint = ModelEndpoint(agent_settings.model_copy(update={"ai_url": str(server.make_url("/v1"))}))
        for _ in range(5):
            await _ask(ModelAgent(endpoint, model="m", timeout_s=5))
        await endpoint.close()
    assert len(peers) == 1


async def test_calls_at_once_are_bounded(model: SimulatedModel, agent_settings: Settings) -> None:
    """No more calls are under way than the setting says, over all agents of the process; the others wait their turn."""
    model.delay_s = 0.01
    agents = Agents(agent_settings.model_copy(update={"ai_concurrency": 3}))
    built = [await agents.get(AgentConfig(id=f"a{number}", kind="openai")) for number in range(4)]
    replies = await asyncio.gather(*(agent.answer(Turn(conversation="c", text=str(number))) for agent in built for number in range(5)))
    await agents.close()
    assert sorted(reply.text for reply in replies) == sorted(f"echo: {number}" for _ in built for number in range(5))
    assert model.under_way_max == 3


@pytest.mark.parametrize("fault", ["throttle", "error", "cut"])
async def test_what_may_pass_is_tried_again(model: SimulatedModel, agent: ModelAgent, waits: Waits, fault: str) -> None:
    """Throttling, a server's error and a lost connection are tried again inside the turn, after a wait."""
    model.faults.turn(fault, Fault(count=2))
    assert (await _ask(agent)).text == "echo: hello"
    assert len(model.prompts) == 3
    assert len(waits) == 2
    assert all(0 <= wait_s <= 8 for wait_s in waits)


async def test_the_endpoint_says_how_long_to_wait(model: SimulatedModel, agent: ModelAgent, waits: Waits) -> None:
    """Retry-After is honoured: no try comes earlier."""
    model.faults.turn("throttle", Fault(count=1, retry_after_s=3))
    await _ask(agent)
    assert waits[0] >= 3


async def test_a_date_to_wait_for(agent_settings: Settings) -> None:
    """Retry-After may be a date as well; one that cannot be read, or has passed, is not waited for."""
    headers = [
        (datetime.now(UTC) + timedelta(seconds=4)).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "Mon, 01 Jan 2024 00:00:00 GMT",
        "soon",
        "-5",
    ]
    answers = iter(headers)

    async def handler(_: web.Request) -> web.Response:
        header = next(answers, None)
        return web.json_response(_completion("yes")) if header is None else web.Response(status=503, headers={"Retry-After": header})

    waits = Waits()
    assert (await _ask_server(handler, agent_settings, timeout_s=60, waits=waits)).text == "yes"
    assert len(waits) == 4
    assert waits[0] > 2


async def test_a_wait_beyond_the_budget_is_not_waited(model: SimulatedModel, agent: ModelAgent, waits: Waits) -> None:
    """If the endpoint wants to be left alone for longer than the turn may take, the turn fails at once."""
    model.faults.turn("throttle", Fault(retry_after_s=60))
    failure = await _failure(agent)
    assert (failure.cause, failure.retryable) == ("model-throttled", True)
    assert len(model.prompts) == 1
    assert waits == []


@pytest.mark.parametrize(("fault", "cause"), [("throttle", "model-throttled"), ("error", "model-failed"), ("cut", "model-unreachable")])
async def test_a_turn_has_one_budget(model: SimulatedModel, endpoint: ModelEndpoint, fault: str, cause: str) -> None:
    """What does not pass is tried again only as long as the turn may take; then its cause is known."""
    model.faults.turn(fault, Fault())
    failure = await _failure(ModelAgent(endpoint, model="m", timeout_s=5, sleep=Waits()))
    assert (failure.cause, failure.retryable) == (cause, True)


async def test_a_model_that_is_too_slow(model: SimulatedModel, endpoint: ModelEndpoint) -> None:
    """A call that outlives the budget is given up, and its room is free for others."""
    model.delay_s = 30
    failure = await _failure(ModelAgent(endpoint, model="m", timeout_s=0.1))
    assert (failure.cause, failure.retryable, str(failure)) == ("model-timeout", True, "the model took longer than 0.1 s")
    model.delay_s = 0
    assert (await _ask(ModelAgent(endpoint, model="m", timeout_s=5))).text == "echo: hello"


async def test_waiting_for_room_counts(model: SimulatedModel, agent_settings: Settings) -> None:
    """A turn that gets no room in time because others hold it fails in time as well."""
    endpoint = ModelEndpoint(agent_settings.model_copy(update={"ai_concurrency": 1}))
    agent = ModelAgent(endpoint, model="m", timeout_s=0.2)
    async with endpoint._client._room:
        failures = await asyncio.gather(*(_ask(agent) for _ in range(3)), return_exceptions=True)
    await endpoint.close()
    assert [getattr(failure, "cause", failure) for failure in failures] == ["model-timeout"] * 3
    assert len(model.prompts) == 0


async def test_nobody_there(agent_settings: Settings, unused_tcp_port: int) -> None:
    """An endpoint that takes no connections is unreachable, by its host and without its path."""
    endpoint = ModelEndpoint(agent_settings.model_copy(update={"ai_url": f"http://127.0.0.1:{unused_tcp_port}/v1"}))
    failure = await _failure(ModelAgent(endpoint, model="m", timeout_s=5, sleep=Waits()))
    await endpoint.close()
    assert (failure.cause, failure.retryable) == ("model-unreachable", True)
    assert str(failure).startswith("127.0.0.1 cannot be reached: ")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 301])
async def test_a_refusal_is_not_tried_again(agent_settings: Settings, status: int) -> None:
    """Any other status is a refusal: the same request would meet it again. It says what the endpoint says, without the key."""
    tries = []

    async def handler(_: web.Request) -> web.Response:
        tries.append(1)
        headers = {"Location": "http://elsewhere.example/"}
        return web.json_response({"error": {"message": f"bad key\n{KEY} here"}}, status=status, headers=headers)

    with pytest.raises(AgentError) as caught:
        await _ask_server(handler, agent_settings.model_copy(update={"ai_key": SecretStr(KEY)}))
    assert (caught.value.cause, caught.value.retryable) == ("model-refused", False)
    assert str(caught.value) == f"the model endpoint answered {status}: bad key *** here"
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "model-nonsense"),
        (b"<html>", "model-nonsense"),
        (b'{"choices":[{"mess', "model-nonsense"),
        (b'{"choices":[{"message":{"content":"\xff"}}]}', "model-nonsense"),
        (b'{"choices":[{"message":{"content":"\\ud800"}}]}', "model-nonsense"),
        ([], "model-nonsense"),
        ("text", "model-nonsense"),
        (None, "model-nonsense"),
        ({}, "model-nonsense"),
        ({"choices": []}, "model-nonsense"),
        ({"choices": None}, "model-nonsense"),
        ({"choices": [{"text": "old"}]}, "model-nonsense"),
        ({"choices": [{"message": "x"}]}, "model-nonsense"),
        ({"choices": [{"message": ["content"]}]}, "model-nonsense"),
        ({"error": {"message": "no"}}, "model-nonsense"),
        (_completion(5), "model-nonsense"),
        (_completion([{"type": "text", "text": "parts"}]), "model-nonsense"),
        (_completion({}), "model-nonsense"),
        (_completion(None), "model-empty"),
        (_completion(""), "model-empty"),
        (_completion(" \n\t"), "model-empty"),
        ({"choices": [{"message": {"content": None, "refusal": "I cannot."}}]}, "model-refused"),
    ],
)
async def test_answers_that_are_none(agent_settings: Settings, body: Any, cause: str) -> None:
    """Whatever comes instead of a text has its cause, and the turn ends there."""
    with pytest.raises(AgentError) as caught:
        await _ask_server(_answering(body), agent_settings)
    assert caught.value.cause == cause


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "5"}, {"prompt_tokens": None}, [], "x", {"prompt_tokens": -1}])
async def test_usage_may_be_missing_or_wrong(agent_settings: Settings, usage: Any) -> None:
    """Tokens that are not told, or not numbers, are 0; a model that is not named is the one asked."""
    reply = await _ask_server(_answering(_completion("yes", usage=usage, model=None)), agent_settings)
    assert reply == Reply(text="yes", model="m")


async def test_a_long_answer_is_bounded(agent_settings: Settings) -> None:
    """Of an answer of 100 kB the beginning is kept; the channel cuts it to what its platform takes."""
    reply = await _ask_server(_answering(_completion("ä" * 100_000)), agent_settings)
    assert reply.text == "ä" * ANSWER_LENGTH_MAX


async def test_an_endless_answer_is_given_up(agent_settings: Settings) -> None:
    """A body larger than any answer is not read to its end."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 65_536)
        return response

    with pytest.raises(AgentError) as caught:
        await _ask_server(handler, agent_settings)
    assert caught.value.cause == "model-nonsense"


async def test_after_closing_it_says_that_it_stops(endpoint: ModelEndpoint, agent: ModelAgent) -> None:
    """A turn that comes while the process stops fails in a way that may be tried again, and opens no connection."""
    await endpoint.close()
    failure = await _failure(agent)
    assert (failure.cause, failure.retryable) == ("model-unreachable", True)
