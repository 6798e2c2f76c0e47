"""`ottla trigger`: post signed simulated webhooks to the ingress that runs here."""

import asyncio
import collections
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import click

from infra.errors import OttlaError, UsageError
from infra.settings import Settings, load_settings
from infra.simulator.freshen import ACCOUNT_DEFAULT, PHONE_DEFAULT
from infra.simulator.webhooks import UnknownKindError, Wanted, build, kinds, sign

_CONNECTIONS = 32
_TIMEOUT_S = 15.0
_SHOWN_KEYS = 3
_BAR_FROM = 500
_EVERYWHERE = {"0.0.0.0", "::", ""}


@click.command("trigger")
@click.argument("kind", required=False)
@click.option("--from", "phone", default=PHONE_DEFAULT, show_default=True, help="phone number of the user")
@click.option("--text", default="", help="the text, where this kind has one")
@click.option("--account", default=ACCOUNT_DEFAULT, show_default=True, help="phone number id of the business")
@click.option("--message", "message_id", default="", help="platform id that a status, reply or reaction speaks of")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 100_000), help="how many, each with ids of its own")
@click.option("--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="post this body as it is")
@click.option("--url", default="", help="where to, if not the local ingress")
@click.option("--list", "listing", is_flag=True, help="name all kinds")
def command(
    *, kind: str | None, phone: str, text: str, account: str, message_id: str, count: int, path: Path | None, url: str, listing: bool
) -> None:
    """Post signed simulated webhooks of a KIND, such as text, image, status, batch or duplicate."""
    if listing:
        _print_kinds()
        return
    settings = load_settings()
    wanted = Wanted(account=account, phone=_digits(phone), text=text, message_id=message_id)
    bodies = _bodies(kind, wanted, count=count, path=path)
    started = time.monotonic()
    with _progress(len(bodies)) as advance:
        answers = asyncio.run(post_all(bodies, url=url or webhook_url(settings), secret=settings.app_secrets[0], advance=advance))
    _report(kind or str(path), bodies, answers, seconds=time.monotonic() - started, shown_keys=_keys(bodies))


def webhook_url(settings: Settings) -> str:
    """Return where the ingress of these settings takes webhooks."""
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    return f"http://{host}:{settings.port}/webhooks/whatsapp"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Yield what is to be called after each of many; a bar shows it on a terminal."""
    if total < _BAR_FROM or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("posting", total=total)
        yield lambda: bar.advance(task)


async def post_all(bodies: Sequence[bytes], *, url: str, secret: bytes, advance: Callable[[], None]) -> list[tuple[int, str]]:
    """Post bodies over several connections, those of one call in order of starting; return each answer's status and text.

    `advance` is called after each. Raises OttlaError with a sentence if nobody listens there.
    """
    answers: list[tuple[int, str]] = [(0, "")] * len(bodies)
    numbers = iter(range(len(bodies)))
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:

        async def post_next() -> None:
            for number in numbers:
                async with session.post(url, data=bodies[number], headers=sign(bodies[number], secret)) as answer:
                    answers[number] = (answer.status, await answer.text())
                advance()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_CONNECTIONS, len(bodies))):
                    group.create_task(post_next())
        except* aiohttp.InvalidURL:
            raise UsageError(f"{url!r} is not a URL: use --url http://host:port/webhooks/whatsapp.") from None
        except* (aiohttp.ClientError, TimeoutError) as errors:
            raise OttlaError(_unreachable(url, errors.exceptions[0])) from None
    return answers


def _unreachable(url: str, error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"No ingress listens at {url}: start one with `ottla up`, or name another with --url."
    return f"The ingress at {url} did not answer ({error or type(error).__name__}): see `ottla doctor`."


def _digits(phone: str) -> str:
    digits = phone.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"--from {phone!r} is not a phone number: give its digits with the country code, such as {PHONE_DEFAULT}.")
    return digits


def _bodies(kind: str | None, wanted: Wanted, *, count: int, path: Path | None) -> list[bytes]:
    if path is not None:
        return [path.read_bytes()] * count
    if not kind:
        raise UsageError("Name a kind, such as `ottla trigger text`; `ottla trigger --list` names all.")
    try:
        return [body for _ in range(count) for body in build(kind, _again(wanted))]
    except UnknownKindError as error:
        near = f" Did you mean {' or '.join(error.near)}?" if error.near else ""
        raise UsageError(f"There is no kind {kind!r}.{near} `ottla trigger --list` names all.") from None


def _again(wanted: Wanted) -> Wanted:
    """Return the same wishes with a new token, so that every body has ids of its own."""
    return Wanted(account=wanted.account, phone=wanted.phone, text=wanted.text, message_id=wanted.message_id)


def _keys(bodies: Sequence[bytes]) -> list[str]:
    from schemas.channels import CHANNELS
    from schemas.channels.base import BodyRefusedError

    keys: dict[str, None] = {}
    for body in bodies[:10]:
        try:
            keys.update(dict.fromkeys(part.key for part in CHANNELS["whatsapp"].split(body, received_at_ms=0)))
        except BodyRefusedError:
            continue
    return list(keys)


def _report(name: str, bodies: Sequence[bytes], answers: Sequence[tuple[int, str]], *, seconds: float, shown_keys: Sequence[str]) -> None:
    by_status = collections.Counter(status for status, _ in answers)
    outcome = ", ".join(f"{number} x {status}" if len(answers) > 1 else str(status) for status, number in sorted(by_status.items()))
    look = " or ".join(f"`ottla conv {key}`" for key in shown_keys[:_SHOWN_KEYS])
    plural = "webhook" if len(bodies) == 1 else "webhooks"
    where = f" Next: {look}." if look and by_status.get(200) else ""
    print(f"Posted {len(bodies)} {name} {plural} in {seconds * 1000:.0f} ms: answered {outcome}.{where}")
    refused = next((text for status, text in answers if status != 200), None)  # noqa: PLR2004
    if refused is not None:
        raise OttlaError(f"The ingress refused: {_detail(refused)}")


def _detail(text: str) -> str:
    try:
        problem = json.loads(text)
        return str(problem.get("detail") or problem.get("title") or text)
    except (ValueError, AttributeError):
        return text[:200] or "no reason given."


def _print_kinds() -> None:
    known = kinds()
    width = max(len(name) for name in known) if sys.stdout.isatty() else 0
    for name, about in known.items():
        print(f"{name:<{width}}  {about}")
