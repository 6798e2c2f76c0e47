"""GET /asyncapi.json: every topic, its events and who writes and reads them, drawn from the table of topics and the events themselves.

AsyncAPI 3.0 with the Kafka bindings 0.5: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.decoded import EVENTS
from ingress.openapi import INFO, REF
from schemas.topics import RAW_RETENTION_DAYS, TOPICS, Topic

_BINDING = "0.5.0"
_HEADERS = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka protocol binding, binary mode",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string"},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "traceparent": {"type": "string", "description": "W3C Trace Context, where traces are on"},
    },
}
_BYTES = {"type": "string", "format": "binary"}


def document(*, prefix: str = "", raw_days: int = RAW_RETENTION_DAYS) -> dict[str, Any]:
    """Return the description of all topics of an installation whose topics have this prefix and whose [raw] is kept so many days."""
    events = {event.__name__: event for union in EVENTS.values() for event in get_args(union) or (union,)}
    payloads, schemas = msgspec.json.schema_components([_describable(event) for event in events.values()], ref_template=REF)
    messages = {name: _message(name, payload) for name, payload in zip(events, payloads, strict=True)}
    messages |= {name: _message(name, _BYTES) for topic in TOPICS for name in _messages_of(topic) if name not in messages}
    return {
        "asyncapi": "3.0.0",
        "info": INFO,
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic, prefix, raw_days) for topic in TOPICS},
        "operations": {
            f"{who}-{action}-{topic.name}": {"action": action, "channel": {"$ref": f"#/channels/{topic.name}"}}
            for topic in TOPICS
            for action, those in (("send", topic.producers), ("receive", topic.consumers))
            for who in those
        },
        "components": {"messages": messages, "schemas": schemas | {"CloudEventHeaders": _HEADERS}},
    }


@cache
def _describable(found: Any) -> Any:
    """Return a twin of a type in which fields of any JSON have no default, of which msgspec can make no schema."""
    if get_origin(found) is list:
        return list[_describable(get_args(found)[0])]  # type: ignore[misc]  # a type that is made here
    if not (isinstance(found, type) and issubclass(found, msgspec.Struct)):
        return found
    fields: list[Any] = []
    for each in msgspec.structs.fields(found):
        if isinstance(each.default, msgspec.Raw):
            fields.append((each.encode_name, Any, None))
        elif each.required:
            fields.append((each.encode_name, _describable(each.type)))
        else:
            made = each.default_factory
            given = each.default if made is msgspec.NODEFAULT else msgspec.field(default_factory=made)
            fields.append((each.encode_name, _describable(each.type), given))
    config, about = found.__struct_config__, {"__doc__": found.__doc__}
    return msgspec.defstruct(found.__name__, fields, tag_field=config.tag_field, tag=config.tag, kw_only=True, namespace=about)


def _messages_of(topic: Topic) -> list[str]:
    """Return the names of what a topic holds, as a reference may name them."""
    return [name.replace(" ", "-") for name in topic.event.split(", ")]


def _message(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "contentType": "application/octet-stream" if payload is _BYTES else "application/json",
        "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
        "payload": payload,
    }


def _channel(topic: Topic, prefix: str, raw_days: int) -> dict[str, Any]:
    kept_ms = topic.kept_ms(raw_days)
    kept = {"cleanup.policy": ["compact"]} if kept_ms is None else {"cleanup.policy": ["delete"], "retention.ms": kept_ms}
    return {
        "address": topic.named(prefix),
        "title": topic.name,
        "description": f"{topic.purpose[0].upper()}{topic.purpose[1:]}. The key of a record: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages_of(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.named(prefix),
                "topicConfiguration": kept | {"max.message.bytes": topic.record_bytes_max},
                "bindingVersion": _BINDING,
            }
        },
    }


async def get_asyncapi(request: Request) -> Response:
    """Answer this description of the topics."""
    settings = request.app.state.settings
    described = document(prefix=settings.topic_prefix, raw_days=settings.raw_retention_days)
    return Response(msgspec.json.encode(described), media_type="application/json")


routes = [Route("/asyncapi.json", get_asyncapi)]
