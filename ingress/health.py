"""Health: /livez says the process runs, /readyz that it can do its work, /health how all the others are, /metrics the numbers."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

import aiohttp
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.kafka.producer import ProduceError, Producer
from infra.lag.burrow import UNWELL
from infra.lag.figures import summary
from infra.lag.watcher import LagWatcher
from schemas.topics import RAW

_PROBE_S = 2.0


class Readiness:
    """Whether the ingress may say that it is ready.

    It needs the broker, its topics and, once, the accounts: without them it does not know whose a signature is. Under `ottla up` it also
    waits until each other role was ready once (their /readyz are given in OTTLA_READY_URLS): a first message that finds nobody to answer
    it would make a poor start. Later on every role stands for itself.
    """

    def __init__(self, producer: Producer, *, accounts_read: Callable[[], bool], others: Sequence[str] = ()) -> None:
        self._producer = producer
        self._accounts_read = accounts_read
        self._waiting_for = set(others)
        self._asked_at = 0.0
        self._has_topics = False
        self.reason = "starting"

    @classmethod
    def from_environment(cls, producer: Producer, *, accounts_read: Callable[[], bool]) -> "Readiness":
        """Return one that waits for the roles that `ottla up` names."""
        return cls(producer, accounts_read=accounts_read, others=[url for url in os.environ.get("OTTLA_READY_URLS", "").split(",") if url])

    @property
    def log_answers(self) -> bool:
        """Whether a webhook would be stored, as of the last check."""
        return self._has_topics

    async def check(self) -> bool:
        """Tell whether the ingress can do its work now; `reason` says what is missing."""
        if not self._has_topics or time.monotonic() - self._asked_at > _PROBE_S:
            try:
                await self._producer.ask_partitions(RAW.name, timeout_s=_PROBE_S)
            except ProduceError as error:
                self._has_topics, self.reason = False, f"Kafka: {error}"
                return False
            self._has_topics, self._asked_at = True, time.monotonic()
        if not self._accounts_read():
            self.reason = "the accounts are being read"
            return False
        await self._ask_others()
        self.reason = f"waiting for {', '.join(sorted(self._waiting_for))}" if self._waiting_for else "ready"
        return not self._waiting_for

    async def _ask_others(self) -> None:
        if not self._waiting_for:
            return
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_S)) as session:
            for url in tuple(self._waiting_for):
                try:
                    async with session.get(url) as response:
                        if response.status == 200:  # noqa: PLR2004
                            self._waiting_for.discard(url)
                except (aiohttp.ClientError, TimeoutError):
                    continue


async def livez(_: Request) -> Response:
    """Answer that the process runs."""
    return JSONResponse({"status": "alive"})


async def readyz(request: Request) -> Response:
    """Answer 200 when a webhook would be stored."""
    readiness: Readiness = request.app.state.readiness
    ready = await readiness.check()
    return JSONResponse({"status": "ready" if ready else "starting", "reason": readiness.reason}, status_code=200 if ready else 503)


async def health(request: Request) -> Response:
    """Answer what each dependency and each consumer group does; 200 while webhooks are stored, even where the rest is impaired."""
    state = request.app.state
    _, cassandra = await asyncio.gather(state.readiness.check(), _cassandra_answers(state.cassandra))
    kafka = state.readiness.log_answers
    lag: LagWatcher = state.lag
    groups = summary(lag.rows_seen())
    well = cassandra and not any(group["state"] in UNWELL for group in groups)
    body = {
        "status": "ok" if kafka and well else "degraded" if kafka else "down",
        "dependencies": {
            "kafka": {"ok": kafka, "detail": state.readiness.reason},
            "cassandra": {"ok": cassandra, "detail": "answers" if cassandra else "away: reading history is not possible"},
        },
        "lag": {"known": not lag.away, "detail": lag.away or "GET /v1/groups has each topic", "groups": groups},
        "uptime_s": round(time.monotonic() - state.started_at, 1),
    }
    return JSONResponse(body, status_code=200 if kafka else 503)


async def _cassandra_answers(cassandra: object) -> bool:
    if cassandra is None:
        return False
    try:
        async with asyncio.timeout(_PROBE_S):
            await cassandra.execute("SELECT release_version FROM system.local")  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  # whatever the driver raises, the answer is: it does not answer
        return False
    return True


async def metrics(_: Request) -> Response:
    """Answer this process's metrics."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


routes = [Route("/livez", livez), Route("/readyz", readyz), Route("/health", health), Route("/metrics", metrics)]
