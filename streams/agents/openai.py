"""The agent behind an OpenAI-compatible endpoint: chat completions, not streamed, by a small client of ours.

A turn has one budget of time. Inside it, what may pass (no connection, 429, 5xx) is tried again after a random wait; a refusal or an answer
that makes no sense is not, because the same request would meet it again. A turn costs about 0.08 ms of CPU; by aiohttp's client it was 0.5,
by the official one 1 to 3 (infra/decisions/0021-post-client.md).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from yarl import URL

from infra.post_client import ANSWER_BYTES_MAX, PostClient
from infra.post_client import Reply as Answer
from infra.settings import Settings
from schemas.events.config import Agent as AgentConfig
from streams.agents.base import AgentBuildError, AgentError, Context, Reply, Turn

KIND = "openai"

Sleep = Callable[[float], Awaitable[None]]

ANSWER_LENGTH_MAX = 20_000
"""Characters kept of an answer; a channel cuts further where its platform takes less."""

_PATH = "chat/completions"
_IDLE_S = 15.0
_CONNECT_S = 5.0
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 8.0
_ERROR_LENGTH_MAX = 300
_OK, _REDIRECT, _REQUEST_TIMEOUT, _TOO_EARLY, _THROTTLED, _SERVER_ERROR = 200, 300, 408, 425, 429, 500


class _PassingError(AgentError):
    """A try that failed and may do better; `wait_s` is how long the endpoint asks to be left alone."""

    def __init__(self, cause: str, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(cause, message, retryable=True)
        self.wait_s = wait_s


class ModelEndpoint:
    """The connections to `settings.ai_url` of one process; at most `settings.ai_concurrency` requests are under way at once."""

    def __init__(self, settings: Settings) -> None:
        url = URL(settings.ai_url)
        self._host = url.host
        self._secret = settings.ai_key.get_secret_value()
        # The turn's budget bounds the whole; here only a host that does not even take connections is given up early.
        self._client = PostClient(str(url), connections_max=settings.ai_concurrency, idle_s=_IDLE_S, connect_s=_CONNECT_S)
        self._closed = False

    async def complete(self, body: bytes) -> bytes:
        """Post one request and return the body of its answer; AgentError says what went wrong."""
        if self._closed:
            raise AgentError("model-unreachable", "this process is stopping", retryable=True)
        try:
            async with self._client.connection() as connection:
                connection.write(self._client.request(_PATH, body, token=self._secret))
                reply = await connection.answer()
        except OSError as error:
            # The address is ours to name; the error's own text may hold the request with its headers.
            raise _PassingError("model-unreachable", f"{self._host} cannot be reached: {type(error).__name__}") from None
        if len(reply.body) >= ANSWER_BYTES_MAX:
            raise AgentError("model-nonsense", f"the model's answer is larger than {ANSWER_BYTES_MAX >> 20} MiB", retryable=True)
        if reply.status != _OK:
            raise self._failure(reply)
        return reply.body

    async def close(self) -> None:
        """Close the connections; what is asked from now on fails."""
        self._closed = True
        self._client.close()

    def _failure(self, reply: Answer) -> AgentError:
        status = reply.status
        said = _error_message(reply.body)
        if self._secret:
            said = said.replace(self._secret, "***")
        message = f"the model endpoint answered {status}" + (f": {said}" if said else "")
        if status == _THROTTLED:
            return _PassingError("model-throttled", message, wait_s=_retry_after_s(reply.headers))
        if status >= _SERVER_ERROR or status in (_REQUEST_TIMEOUT, _TOO_EARLY):
            return _PassingError("model-failed", message, wait_s=_retry_after_s(reply.headers))
        return AgentError("model-refused" if status >= _REDIRECT else "model-nonsense", message, retryable=False)


class ModelAgent:
    """Answers with one model. `sleep` waits between tries; tests hand in their own."""

    def __init__(self, endpoint: ModelEndpoint, *, model: str, timeout_s: float, sleep: Sleep = asyncio.sleep) -> None:
        self._endpoint = endpoint
        self._model = model
        self._timeout_s = timeout_s
        self._sleep = sleep

    async def answer(self, turn: Turn) -> Reply:
        """Return what the model says.

        AgentError after the budget at the latest, with the cause model-timeout, model-unreachable, model-throttled, model-failed (5xx),
        model-refused (any other status, or a refusal), model-nonsense or model-empty.
        """
        request = _request(self._model, turn)
        try:
            async with asyncio.timeout(self._timeout_s) as budget:
                return _read_reply(await self._complete(request, deadline=budget.when() or 0.0), self._model)
        except TimeoutError:
            raise AgentError("model-timeout", f"the model took longer than {self._timeout_s:g} s", retryable=True) from None

    async def _complete(self, request: bytes, *, deadline: float) -> bytes:
        tries = 0
        while True:
            try:
                return await self._endpoint.complete(request)
            except _PassingError as error:
                tries += 1
                backoff_s = random.uniform(0, min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2**tries))  # noqa: S311 - jitter, no secret
                wait_s = max(error.wait_s, backoff_s)
                # A wait that outlives the budget helps nobody: the user gets the fallback text now.
                if asyncio.get_running_loop().time() + wait_s >= deadline:
                    raise
                await self._sleep(wait_s)


def build(agent: AgentConfig, context: Context) -> ModelAgent:
    """Return an agent of the installation's endpoint; AgentBuildError if none is set."""
    settings = context.settings
    if not settings.ai_url:
        raise AgentBuildError(f"Agent {agent.id} is of kind openai and OTTLA_AI_URL is not set: set it, or use kind offline.")
    endpoint = context.shared(KIND, lambda: ModelEndpoint(settings))
    return ModelAgent(endpoint, model=agent.model or settings.ai_model, timeout_s=settings.ai_timeout)


def _request(model: str, turn: Turn) -> bytes:
    messages = [{"role": "system", "content": turn.instructions}] if turn.instructions else []
    messages += [{"role": role, "content": text} for role, text in turn.history]
    messages.append({"role": "user", "content": turn.text})
    body = {"model": model, "messages": messages, "stream": False}
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        # Half of a surrogate pair is no text; what is left of the message can still be answered.
        for message in messages:
            message["content"] = message["content"].encode("utf-8", "replace").decode()
        return orjson.dumps(body)


def _read_reply(body: bytes, model: str) -> Reply:
    try:
        answer = orjson.loads(body)
        message = answer["choices"][0]["message"]
        content = message["content"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        raise AgentError("model-nonsense", "the model's answer is not a chat completion", retryable=True) from None
    if content is None and isinstance(message.get("refusal"), str):
        raise AgentError("model-refused", "the model refused to answer", retryable=False)
    if content is not None and not isinstance(content, str):
        raise AgentError("model-nonsense", "the model's answer is not text", retryable=True)
    if not content or not content.strip():
        raise AgentError("model-empty", "the model's answer is empty", retryable=True)
    named = answer.get("model")
    return Reply(
        text=content[:ANSWER_LENGTH_MAX],
        model=named if isinstance(named, str) and named else model,
        tokens_in=_tokens(answer, "prompt_tokens"),
        tokens_out=_tokens(answer, "completion_tokens"),
    )


def _tokens(answer: dict[str, Any], name: str) -> int:
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _error_message(answer: bytes) -> str:
    """Return what an error body says, in one line and cut; empty if it has no known shape."""
    try:
        error = orjson.loads(answer)["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return " ".join(said.split())[:_ERROR_LENGTH_MAX] if isinstance(said, str) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After, which may be a number or a date; 0 without one."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (moment - moment.now(moment.tzinfo)).total_seconds())
