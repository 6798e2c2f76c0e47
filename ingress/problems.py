"""Errors of the HTTP interface as application/problem+json (RFC 9457): what is wrong and what to do about it."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.responses import Response


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response for an error; `detail` is a sentence that says what to do."""
    body = orjson.dumps({"type": "about:blank", "title": title or HTTPStatus(status).phrase, "status": status, "detail": detail})
    return Response(body, status_code=status, media_type="application/problem+json", headers=dict(headers or {}))
