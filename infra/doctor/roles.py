"""Checks of the processes of this installation: the ingress, and the roles that `ottla up` keeps running."""

import asyncio
from http import HTTPStatus

import aiohttp
import orjson

from infra.doctor.finding import Finding, ok, problem, warning
from infra.role_figures import Figures, samples_of
from infra.settings import Settings
from infra.supervisor.home import recorded_children

_ANSWER_S = 5.0


async def check_ingress(settings: Settings) -> list[Finding]:
    """Ask the ingress whether it would store a webhook, whether it knows our key, and what it refused."""
    url = settings.ingress_url
    try:
        status, body = await _get(f"{url}/readyz")
    except aiohttp.ClientConnectorError:
        return [problem("ingress", f"Nothing listens at {url}: `ottla up` starts the whole installation.")]
    except (aiohttp.ClientError, TimeoutError, OSError):
        return [problem("ingress", _other_program(settings))]
    answer = _object(body)
    if "status" not in answer:
        return [problem("ingress", _other_program(settings))]
    if status != HTTPStatus.OK:
        return [problem("ingress", f"The ingress at {url} is not ready: {answer.get('reason', 'see its log')}.")]
    return [ok("ingress", f"The ingress at {url} is ready."), *await _behind_the_key(settings)]


async def _behind_the_key(settings: Settings) -> list[Finding]:
    url = settings.ingress_url
    key = settings.admin_key.get_secret_value()
    status, body = await _get(f"{url}/metrics", key=key)
    if status == HTTPStatus.UNAUTHORIZED:
        message = f"The ingress at {url} has another key: set OTTLA_ADMIN_KEY, or OTTLA_HOME to the one it runs with."
        return [problem("ingress", message)]
    return _signatures(_figures(body))


def _signatures(figures: Figures) -> list[Finding]:
    """Judge by what the ingress answered since it started whether it has the platform's secret."""
    refused, stored = (
        figures.total("ottla_webhooks_total", status=str(status.value)) for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.OK)
    )
    if not refused:
        return [ok("signatures", f"No webhook was refused for its signature, {stored} were stored.")]
    cause = "OTTLA_WHATSAPP_APP_SECRET (or an account's app_secret) is probably not the app secret in the platform's dashboard"
    if not stored:
        return [problem("signatures", f"All {refused} webhooks had a wrong signature: {cause}.")]
    return [warning("signatures", f"{refused} webhooks had a wrong signature, {stored} a right one: if they were real, {cause}.")]


async def check_roles(settings: Settings) -> list[Finding]:
    """Ask each role that `ottla up` keeps running whether it can do its work."""
    children = recorded_children(settings.home)
    if not children:
        return [ok("roles", "`ottla up` does not run here, so the roles are looked after by whoever runs them.")]
    found = await asyncio.gather(*(_role(child.name, child.port) for child in children))
    return [finding for findings in found for finding in findings]


async def _role(name: str, port: int) -> list[Finding]:
    try:
        status, _ = await _get(f"http://127.0.0.1:{port}/readyz")
        if status != HTTPStatus.OK:
            return [problem("roles", f"The role {name} is not ready: see what `ottla up` prints of it.")]
        _, figures = await _get(f"http://127.0.0.1:{port}/metrics")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return [problem("roles", f"The role {name} does not answer on port {port}: see what `ottla up` prints of it.")]
    return [ok("roles", f"The role {name} is ready."), *_budgets(_figures(figures))]


def _figures(body: bytes) -> Figures:
    return Figures(samples_of([body.decode("utf-8", "replace")]))


def _budgets(figures: Figures) -> list[Finding]:
    """Say it where sends wait because more is to be sent than the rates allow: nothing is wrong then but the time that replies take."""
    waiting = figures.total("ottla_sends_waiting", place="budget")
    if not waiting:
        return []
    advice = "if the platform lets more through, raise the account's `rate` (or OTTLA_NUMBER_RATE, OTTLA_PAIR_RATE)"
    return [warning("budgets", f"{waiting} sends wait for the rate of their number or recipient: {advice}.")]


def _other_program(settings: Settings) -> str:
    return f"Another program answers at {settings.ingress_url}: stop it, or set OTTLA_PORT to a free port."


async def _get(url: str, *, key: str = "") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        return response.status, await response.read()


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
