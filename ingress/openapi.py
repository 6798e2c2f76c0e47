"""GET /openapi.json: every path of the HTTP interface, drawn from the routes themselves, so that it cannot fall behind them."""

import inspect
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ingress import api_operations
from ingress.auth import OPEN_PATHS
from ingress.pages.access import is_page
from ingress.takes import taken_by

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
REF = "#/components/schemas/{name}"
INFO = {"title": "Ottla", "version": version("ottla"), "description": "The event log behind conversations."}
_PROBLEM = {
    "description": "What is wrong and what to do about it",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
            }
        }
    },
}


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the description of all routes that are not pages, with the shapes of the answers that are declared."""
    shown = [route for route in routes if isinstance(route, Route) and not is_page(route.path)]
    bodies = {taken_by(route.endpoint).body for route in shown if isinstance(taken_by(route.endpoint).body, type)}
    types = [*api_operations.ANSWERS.values(), *sorted(bodies, key=lambda each: each.__name__)]
    found, components = msgspec.json.schema_components(types, ref_template=REF)
    shapes = dict(zip(map(repr, types), found, strict=True))
    described: dict[str, dict[str, Any]] = {}
    for route in shown:
        path = _PARAMETER.sub(r"{\1}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            described.setdefault(path, {})[method.lower()] = _operation(route, method, shapes)
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "paths": dict(sorted(described.items())),
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route, method: str, shapes: Mapping[str, Any]) -> dict[str, Any]:
    said, taken = inspect.getdoc(route.endpoint) or route.name, taken_by(route.endpoint)
    success: dict[str, Any] = {"description": "Done"}
    if method == "GET" and route.path in api_operations.ANSWERS:
        success["content"] = {"application/json": {"schema": shapes[repr(api_operations.ANSWERS[route.path])]}}
    operation: dict[str, Any] = {"summary": said.splitlines()[0], "responses": {"2XX": success, "default": _PROBLEM}}
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _PARAMETER.findall(route.path)]
    for place, those in (("query", taken.query), ("header", taken.headers)):
        parameters += [{"name": name, "in": place, "description": each.description, "schema": each.schema} for name, each in those.items()]
    if parameters:
        operation["parameters"] = parameters
    if taken.body is not None:
        schema = taken.body if isinstance(taken.body, dict) else shapes[repr(taken.body)]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if route.path not in OPEN_PATHS:
        operation["security"] = [{"key": []}]
    return operation


async def get_openapi(request: Request) -> Response:
    """Answer this description."""
    return Response(msgspec.json.encode(document(request.app.routes)), media_type="application/json")


routes = [Route("/openapi.json", get_openapi)]
