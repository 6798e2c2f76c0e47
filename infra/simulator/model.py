"""A simulated model behind an OpenAI-compatible endpoint: echoes or says a canned text, after a delay, and misbehaves on demand."""

import asyncio
import secrets
import time
from collections import deque
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from infra.simulator.faults import Fault, Faults
from infra.simulator.server import Control, SimulatedServer, json_response, vanish

MODEL_FAULTS = frozenset({"slow", "throttle", "error", "nonsense", "empty", "cut"})
"""slow: the answer takes `seconds` more · throttle: 429 · error: 500 · nonsense: 200 with half a JSON · empty: content "" ·
cut: the connection is reset without an answer."""

_KEPT_DEFAULT = 50_000
_TOKEN_LENGTH = 4  # characters; near enough for a usage figure


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a completion. `at` is milliseconds since 1970; `answered` an HTTP status, 0 where the connection was reset."""

    sequence: int
    at: float
    model: str
    messages: list[dict[str, object]]
    answered: int
    text: str


class ModelControl(Control, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /control of the model takes beside the faults."""

    mode: Literal["echo", "canned"] | None = None
    answer: str | None = None
    delay_s: Annotated[float, Meta(ge=0, le=3600)] | None = None


class _Request(msgspec.Struct, frozen=True):
    messages: list[dict[str, object]]
    model: str = "default"


class SimulatedModel(SimulatedServer):
    """A chat completions endpoint. `echo` answers the last user text after `answer`, `canned` answers `answer` alone."""

    control_type = ModelControl

    def __init__(
        self,
        *,
        port: int = 0,
        mode: Literal["echo", "canned"] = "echo",
        answer: str = "echo: ",
        delay_s: float = 0.0,
        seed: int | None = None,
        kept: int = _KEPT_DEFAULT,
    ) -> None:
        super().__init__(port=port, faults=Faults(MODEL_FAULTS, seed=seed))
        self.mode = mode
        self.answer = answer
        self.delay_s = delay_s
        self.prompts: deque[Prompt] = deque(maxlen=kept)
        self.under_way = 0
        self.under_way_max = 0
        self._sequence = 0

    @property
    def api_url(self) -> str:
        """The base URL, as OTTLA_AI_URL takes it."""
        return f"{self.url}/v1"

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the endpoint, its list of models and the prompts received."""
        router.add_post("/v1/chat/completions", self._complete)
        router.add_get("/v1/models", _list_models)
        router.add_get("/received", self._show_received)
        router.add_delete("/received", self._forget_received)

    def state(self) -> dict[str, object]:
        """Return how it answers and how busy it was."""
        counts = {"requests": self._sequence, "under_way": self.under_way, "under_way_max": self.under_way_max}
        return {"mode": self.mode, "answer": self.answer, "delay_s": self.delay_s, "counts": counts}

    def apply(self, control: Control) -> None:
        """Set faults, mode, answer and delay."""
        super().apply(control)
        if isinstance(control, ModelControl):
            self.mode = control.mode or self.mode
            self.answer = self.answer if control.answer is None else control.answer
            self.delay_s = self.delay_s if control.delay_s is None else control.delay_s

    async def _complete(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _error(400, f"The request is not a chat completion: {error}", "invalid_request_error")
        if not asked.messages:
            return _error(400, "[] is too short - 'messages'", "invalid_request_error")
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            return await self._answer(request, asked)
        finally:
            self.under_way -= 1

    async def _answer(self, request: web.Request, asked: _Request) -> web.Response:
        hit = self.faults.first("throttle", "error", "nonsense", "empty", "cut")
        slow = self.faults.draw("slow")
        text = "" if hit and hit[0] == "empty" else self._text(asked)
        self._note(asked, text, _answered(hit))
        delay_s = self.delay_s + (slow.seconds if slow else 0)
        if delay_s:
            await asyncio.sleep(delay_s)
        if hit is None or hit[0] == "empty":
            return json_response(_completion(asked, text))
        return vanish(request) if hit[0] == "cut" else _fault_answer(*hit)

    def _text(self, asked: _Request) -> str:
        return self.answer if self.mode == "canned" else self.answer + _last_user_text(asked)

    def _note(self, asked: _Request, text: str, answered: int) -> None:
        self._sequence += 1
        now = time.time_ns() / 1e6
        self.prompts.append(
            Prompt(sequence=self._sequence, at=now, model=asked.model, messages=asked.messages, answered=answered, text=text)
        )

    async def _show_received(self, request: web.Request) -> web.Response:
        try:
            after, limit = int(request.query.get("after", "0")), int(request.query.get("limit", "1000"))
        except ValueError:
            return json_response({"error": "after and limit must be whole numbers."}, status=400)
        return json_response({"received": [prompt for prompt in self.prompts if prompt.sequence > after][:limit]})

    async def _forget_received(self, _: web.Request) -> web.Response:
        self.prompts.clear()
        self.under_way_max = self.under_way
        return json_response({"success": True})


def _last_user_text(asked: _Request) -> str:
    content = next((message.get("content") for message in reversed(asked.messages) if message.get("role") == "user"), "")
    if isinstance(content, list):  # content parts
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _completion(asked: _Request, text: str) -> dict[str, object]:
    prompt_tokens = sum(len(str(message.get("content", ""))) for message in asked.messages) // _TOKEN_LENGTH + 1
    completion_tokens = len(text) // _TOKEN_LENGTH + 1
    return {
        "id": "chatcmpl-" + secrets.token_hex(12),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def _answered(hit: tuple[str, Fault] | None) -> int:
    if hit is None:
        return 200
    name, fault = hit
    return fault.status or {"throttle": 429, "error": 500, "cut": 0}.get(name, 200)


def _fault_answer(name: str, fault: Fault) -> web.Response:
    status = _answered((name, fault))
    if name == "nonsense":
        return web.Response(status=status, body=b'{"id":"chatcmpl-1","choices":[{"mess', content_type="application/json")
    if name == "throttle":
        return _error(status, "Rate limit reached for requests.", "rate_limit_exceeded", retry_after_s=fault.retry_after_s)
    return _error(status, "The server had an error while processing your request.", "server_error")


def _error(status: int, message: str, kind: str, *, retry_after_s: int = 0) -> web.Response:
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else None
    body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
    return json_response(body, status=status, headers=headers)


async def _list_models(_: web.Request) -> web.Response:
    return json_response({"object": "list", "data": [{"id": "default", "object": "model", "created": 0, "owned_by": "ottla"}]})
