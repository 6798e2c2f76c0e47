"""Makes pages from their templates; everything that goes into one is escaped."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from infra.cassandra.reading import EVERY_TENANT, CursorError
from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.clock import iso
from infra.kafka.admin import KafkaUnreachableError
from infra.kafka.producer import ProduceError
from infra.terminal import harmless
from ingress.pages import words
from ingress.pages.assets import asset

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.globals |= {"asset": asset, "EVERY_TENANT": EVERY_TENANT, "shell": words.shell}
_environment.filters |= {
    "ago": words.ago,
    "account": words.account_of,
    "contact": words.contact_of,
    "counted": words.counted,
    "exact": words.exact,
    "harmless": harmless,
    "iso": iso,
    "line": words.line_of,
    "lines": words.lines_of,
    "milliseconds": words.milliseconds,
    "path": words.path_part,
    "rate": words.rate,
    "took": words.took,
}


def page(request: Request, template: str, *, status: int = 200, **said: Any) -> Response:
    """Return a page; `said` is what its template needs beside what every page has."""
    content = render(request, template, **said)
    return Response(content.encode("utf-8", "backslashreplace"), status_code=status, media_type="text/html; charset=utf-8")


def render(request: Request, template: str, **said: Any) -> str:
    """Return a template's HTML."""
    state = request.state
    return _environment.get_template(template).render(
        tenant=state.tenant,
        session=state.session,
        form_token=state.form_token,
        path=request.url.path,
        now_ms=request.app.state.clock.now_ms(),
        **said,
    )


def piece(request: Request, template: str, macro: str, *arguments: Any) -> Markup:
    """Return the HTML of one macro of a template: what changes on a page that is open."""
    made = getattr(_environment.get_template(template).module, macro)
    return Markup(made(*arguments, now_ms=request.app.state.clock.now_ms()))  # noqa: S704  # a macro escapes what it is given


def error_page(request: Request, status: int, title: str, detail: str) -> Response:
    """Return a page that says in a sentence what is wrong and what to do about it."""
    return page(request, "error.html", status=status, title=title, detail=detail)


async def shown(request: Request, show: Callable[[Cassandra], Awaitable[Response]]) -> Response:
    """Return what `show` answers, or the page that says why it cannot."""
    cassandra: Cassandra | None = request.app.state.cassandra
    if cassandra is None:
        return _away(request)
    try:
        return await show(cassandra)
    except CursorError:
        return error_page(request, 422, "There is no such page of the list", "Go back to its beginning and on from there.")
    except CassandraAwayError:
        return _away(request)
    except (KafkaUnreachableError, ProduceError) as error:
        return error_page(request, 503, "Kafka does not answer", f"{error} What was done already is not done a second time: try again.")


def _away(request: Request) -> Response:
    detail = (
        "Cassandra does not answer. Messages are taken in and answered all the same; `ottla doctor` says more. Try again in a few seconds."
    )
    return error_page(request, 503, "History is away", detail)
