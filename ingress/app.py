"""The ingress as an ASGI application: `uvicorn ingress.app:app`.

This file builds the real things and hands them to the routes; every other module takes what it needs as a parameter.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from infra.cassandra.session import Cassandra
from infra.clock import SystemClock
from infra.collector import collect_often
from infra.config_tables import ConfigTables
from infra.errors import OttlaError
from infra.kafka.follower import Follower
from infra.kafka.producer import Producer
from infra.lag.watcher import LagWatcher
from infra.log import configure_logging
from infra.role_figures import RoleFigures
from infra.servers.address import resolve_servers
from infra.settings import Settings, load_settings
from infra.tracing import start_tracing
from ingress import (
    api_conversations,
    api_dead_letters,
    api_groups,
    api_operations,
    api_to_config,
    api_to_outbound,
    asyncapi,
    health,
    openapi,
    retry_to_outbound,
    webhook_to_raw,
)
from ingress.auth import RequireKey
from ingress.canary_to_raw import send_canaries
from ingress.health import Readiness
from ingress.pages import assets, audit, conversations, dead_letters, events, login, overview, records, sends, topics
from ingress.pages.access import PageAccess, is_page
from ingress.pages.counts import Counter
from ingress.pages.events import FOLLOWED
from ingress.pages.live import Turns
from ingress.pages.open_streams import OpenStreams
from ingress.pages.render import error_page
from ingress.problems import problem
from ingress.queue_position import QueuePositions
from ingress.splitting import Splitting
from ingress.webhook_to_raw import STORE_DEADLINE_S, WebhooksFirst, WebhookToRaw
from schemas.channels import CHANNELS
from schemas.events.config import Account

log = structlog.get_logger()

_RETRY_S = 2.0

PAGES = (assets, login, overview, conversations, dead_letters, sends, topics, audit, records, events)
"""The modules of the pages, each with its routes."""


class InstallationSecrets:
    """What may sign a webhook: the installation's own app secrets and those of the applied accounts."""

    def __init__(self, settings: Settings, tables: ConfigTables) -> None:
        self._own = settings.app_secrets
        self._verify_token = settings.whatsapp_verify_token.get_secret_value()
        self._tables = tables
        self._every: Sequence[bytes] | None = None
        tables.on_change(self._forget)
        self.complete = False  # until the accounts were read once, a refused signature may only be one we do not know yet

    def app_secrets(self, account: str | None = None) -> Sequence[bytes]:
        """Return every secret that is valid now; with the platform's id of an account the installation's and that account's own."""
        if account is not None:
            return self._with_own([self._tables.account_by_phone_number_id(account)])
        if self._every is not None:
            return self._every
        every = self._with_own(self._tables.accounts.values())
        if self._tables.started:  # from then on whatever changes is told
            self._every = every
        return every

    def _with_own(self, accounts: Iterable[Account | None]) -> Sequence[bytes]:
        secrets = {each.app_secret.encode() for each in accounts if each is not None and each.app_secret}
        return (*self._own, *secrets.difference(self._own))

    def _forget(self, _topic: str, _id: str) -> None:
        self._every = None

    def verify_token(self) -> str:
        """Return the token of the verification challenge."""
        return self._verify_token


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Build what the routes need; come up also while Kafka or Cassandra is away, and say so in /readyz and /health."""
    settings = getattr(app.state, "settings", None)
    if settings is None:  # `uvicorn ingress.app:app`: nobody has read the settings yet, nor said how lines look
        settings = resolve_servers(load_settings())
        configure_logging(settings, role="ingress")
        start_tracing(role="ingress", worker=settings.worker)
    producer = Producer(settings, client_id=f"{settings.worker}-ingress", delivery_timeout_s=STORE_DEADLINE_S)
    await producer.start()
    tables = ConfigTables(settings)
    secrets = InstallationSecrets(settings, tables)
    clock = SystemClock()
    state = app.state
    state.settings, state.producer, state.config, state.clock = settings, producer, tables, clock
    channel = CHANNELS["whatsapp"]
    splitting = Splitting(channel.name)
    state.webhook = WebhookToRaw(channel, producer=producer, secrets=secrets, clock=clock, split_apart=splitting.split)
    state.readiness = Readiness.from_environment(producer, accounts_read=lambda: secrets.complete)
    state.queue_positions = QueuePositions(settings)
    state.lag = LagWatcher(settings)
    state.role_figures = RoleFigures(settings.role_urls)
    state.follower, state.streams, state.turns = Follower(settings, FOLLOWED), OpenStreams(), Turns()
    state.counter = Counter()
    state.is_leaving = getattr(state, "is_leaving", None) or (lambda: False)
    state.cassandra = None
    state.started_at = time.monotonic()
    background = [
        asyncio.create_task(_read_config(tables, secrets), name="read config"),
        asyncio.create_task(_connect_cassandra(state, settings), name="connect cassandra"),
        asyncio.create_task(state.lag.run(), name="watch lag"),
        asyncio.create_task(collect_often(), name="collect garbage"),
    ]
    if settings.canary_interval:
        canaries = send_canaries(producer, clock, interval_s=settings.canary_interval, source=settings.worker)
        background.append(asyncio.create_task(canaries, name="canaries"))
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        splitting.close()
        await state.follower.stop()
        await producer.stop()
        await tables.stop()
        await state.queue_positions.close()
        await state.lag.close()
        if state.cassandra is not None:
            await state.cassandra.close()


async def _read_config(tables: ConfigTables, secrets: InstallationSecrets) -> None:
    while not secrets.complete:
        try:
            await tables.start()
        except OttlaError as error:
            log.warning("accounts cannot be read yet", error=str(error))
            await asyncio.sleep(_RETRY_S)
        except Exception:
            log.exception("accounts cannot be read yet")
            await asyncio.sleep(_RETRY_S)
        else:
            secrets.complete = True


async def _connect_cassandra(state: Any, settings: Settings) -> None:
    while state.cassandra is None:
        try:
            state.cassandra = await Cassandra.connect(settings)
        except OttlaError as error:
            log.warning("history cannot be read yet", error=str(error))
            await asyncio.sleep(_RETRY_S)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if is_page(request.url.path):
        return _page_error(request, status)
    if status == 404:  # noqa: PLR2004
        return problem(404, "No such page", "See the README for the paths there are.")
    return problem(status, "", str(error.detail) if isinstance(error, HTTPException) else "See the log of the ingress.")


def _page_error(request: Request, status: int) -> Response:
    if status == 404:  # noqa: PLR2004
        return error_page(request, 404, "There is no such page", "Follow the links at the top.")
    return error_page(request, status, "This could not be done", "See the log of the ingress, then try again.")


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the application; without settings it reads them from the environment when it starts."""
    app = Starlette(
        routes=[
            *webhook_to_raw.routes,
            *health.routes,
            *api_to_outbound.routes,
            *retry_to_outbound.routes,
            *api_to_config.routes,
            *api_conversations.routes,
            *api_dead_letters.routes,
            *api_groups.routes,
            *api_operations.routes,
            *openapi.routes,
            *asyncapi.routes,
            *(route for each in PAGES for route in each.routes),
        ],
        middleware=[Middleware(WebhooksFirst), Middleware(PageAccess), Middleware(RequireKey, elsewhere=is_page)],
        exception_handlers={HTTPException: _http_error, 500: _http_error},
        lifespan=lifespan,
    )
    if settings is not None:
        app.state.settings = settings
    return app


app = create_app()
