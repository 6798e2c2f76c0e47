"""The simulated model answers like an OpenAI-compatible endpoint and misbehaves on demand."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from infra.simulator.faults import Fault
from infra.simulator.model import SimulatedModel


@pytest.fixture
async def model() -> AsyncIterator[SimulatedModel]:
    async with SimulatedModel(seed=1) as model:
        yield model


async def _ask(client: aiohttp.ClientSession, model: SimulatedModel, *texts: str) -> tuple[int, Any]:
    messages = [{"role": "system", "content": "Be brief."}, *({"role": "user", "content": text} for text in texts)]
    async with client.post(f"{model.api_url}/chat/completions", json={"model": "m", "messages": messages}) as answer:
        return answer.status, await answer.json()


async def test_it_echoes_the_last_user_text(model: SimulatedModel, client: aiohttp.ClientSession) -> None:
    """An echo has the last user text verbatim, in the shape of a chat completion with usage."""
    status, answer = await _ask(client, model, "first", "second ü")
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "echo: second ü"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] > 0
    assert [prompt.messages[-1]["content"] for prompt in model.prompts] == ["second ü"]


async def test_its_control_sets_answer_and_mode(model: SimulatedModel, client: aiohttp.ClientSession) -> None:
    """POST /control makes it say a canned text after a delay."""
    control = {"mode": "canned", "answer": "I am a can.", "delay_s": 0.01}
    async with client.post(f"{model.url}/control", json=control) as answer:
        assert answer.status == 200
    assert (await _ask(client, model, "hello"))[1]["choices"][0]["message"]["content"] == "I am a can."
    async with client.get(f"{model.url}/control") as answer:
        assert (await answer.json())["counts"]["requests"] == 1


@pytest.mark.parametrize(("fault", "expected"), [("throttle", 429), ("error", 500)])
async def test_errors_have_the_shape_of_the_original(
    model: SimulatedModel, client: aiohttp.ClientSession, fault: str, expected: int
) -> None:
    """Errors carry message, type and code."""
    model.faults.turn(fault, Fault(count=1))
    status, answer = await _ask(client, model, "hello")
    assert status == expected
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert (await _ask(client, model, "hello"))[0] == 200


async def test_an_empty_answer_has_empty_content(model: SimulatedModel, client: aiohttp.ClientSession) -> None:
    """With the fault empty the answer is well formed and says nothing."""
    model.faults.turn("empty", Fault(count=1))
    assert (await _ask(client, model, "hello"))[1]["choices"][0]["message"]["content"] == ""


async def test_nonsense_is_no_json(model: SimulatedModel, client: aiohttp.ClientSession) -> None:
    """With the fault nonsense a 200 carries half a JSON."""
    model.faults.turn("nonsense", Fault(count=1))
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        await _ask(client, model, "hello")


async def test_a_cut_answer_is_a_reset(model: SimulatedModel, client: aiohttp.ClientSession) -> None:
    """With the fault cut the connection is reset, and the prompt is remembered."""
    model.faults.turn("cut", Fault(count=1))
    with pytest.raises(aiohttp.ClientOSError, match="reset"):
        await _ask(client, model, "hello")
    assert [prompt.answered for prompt in model.prompts] == [0]


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"messages":[]}', b"[]"])
async def test_a_wrong_request_is_refused(model: SimulatedModel, client: aiohttp.ClientSession, body: bytes) -> None:
    """What is not a chat completion gets 400."""
    async with client.post(f"{model.api_url}/chat/completions", data=body) as answer:
        assert answer.status == 400
