"""Checks of what others run: the platform's API and the model endpoint."""

from http import HTTPStatus

import aiohttp

from infra.doctor.finding import Finding, ok, problem
from infra.settings import Settings

_ANSWER_S = 5.0


async def check_platform(settings: Settings) -> list[Finding]:
    """See whether the platform's API takes connections; no message is sent."""
    if not settings.whatsapp_api:
        return [ok("platform", "OTTLA_WHATSAPP_API is not set: `ottla up` sends to its simulated platform.")]
    if await _status(settings.whatsapp_api) is None:
        message = f"The platform at {settings.whatsapp_api} takes no connections: check OTTLA_WHATSAPP_API and this machine's network."
        return [problem("platform", message)]
    return [ok("platform", f"The platform at {settings.whatsapp_api} takes connections.")]


async def check_model(settings: Settings) -> list[Finding]:
    """Ask the model endpoint for its models, which costs nothing and shows whether the key is right."""
    if not settings.ai_url:
        return [ok("model", "OTTLA_AI_URL is not set: the offline agent answers.")]
    status = await _status(f"{settings.ai_url}/models", key=settings.ai_key.get_secret_value())
    if status is None:
        return [problem("model", f"The model endpoint at {settings.ai_url} takes no connections: start it or correct OTTLA_AI_URL.")]
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return [problem("model", f"The model endpoint at {settings.ai_url} refuses the key: correct OTTLA_AI_KEY.")]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return [problem("model", f"The model endpoint at {settings.ai_url} answers {status}: see its log.")]
    return [ok("model", f"The model endpoint at {settings.ai_url} answers.")]


async def _status(url: str, *, key: str = "") -> int | None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return response.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
