"""Records as ingress, streams and the sender write them, for tests of history."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from infra.kafka.record import Record
from schemas.codec import encode
from schemas.events.inbound import InboundEvent, Person, RecordPosition
from schemas.events.linked import LinkedEvent
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.events.webhook_part import Change, WebhookPart
from schemas.ids import callback_data, conversation_key, event_id, send_id

ACCOUNT = "106540352242922"
NOON_MS = 1_795_262_400_000  # 2026-11-21 12:00:00 UTC


def message_json(text: str) -> msgspec.Raw:
    """Return a platform's text message object."""
    return msgspec.Raw(msgspec.json.encode({"type": "text", "text": {"body": text}}))


@dataclass
class Talk:
    """A conversation as its records; offsets grow as records are made."""

    contact: str = field(default_factory=lambda: f"1{random.getrandbits(40):013}")
    tenant: str = "default"
    partition: int = 3
    offsets: "count[int]" = field(default_factory=count)

    @property
    def key(self) -> str:
        """The conversation key."""
        return conversation_key(channel="wa", account=ACCOUNT, contact=self.contact)

    def wamid(self, name: str) -> str:
        """Return a platform id that no other talk has."""
        return f"wamid.{self.contact}.{name}"

    def record(self, topic: str, event: msgspec.Struct) -> Record:
        """Return a record of the conversation."""
        return Record(topic, self.partition, next(self.offsets), self.key.encode(), encode(event), [], 0)

    def cause(self, platform_id: str) -> str:
        """Return the id of the inbound event of this platform id."""
        return event_id(self.key, platform_id)

    def send(self, cause: str, step: str = "reply") -> str:
        """Return the id of the send that a cause leads to."""
        return send_id(conversation=self.key, cause=cause, step=step)

    def linked(self, conversation: "Talk", *, at_ms: int, is_joined: bool = True) -> Record:
        """Return what streams wrote when this key turned out to be the other's."""
        return self.record("inbound", LinkedEvent(alias=self.key, conversation=conversation.key, at=at_ms, is_joined=is_joined))

    def inbound(self, platform_id: str, text: str, *, at_ms: int, **changes: Any) -> Record:
        """Return what streams wrote about a message that was received at `at_ms`."""
        fields: dict[str, Any] = {
            "id": self.cause(platform_id),
            "conversation": self.key,
            "tenant": self.tenant,
            "channel": "whatsapp",
            "account": ACCOUNT,
            "direction": "in",
            "kind": "message",
            "type": "text",
            "platform_id": platform_id,
            "at": at_ms // 1000 * 1000,
            "received_at": at_ms,
            "decided_at": at_ms + 30,
            "decision": "answered",
            "text": text,
            "person": Person(name="Felix", phone=self.contact),
            "waited_ms": 5,
            "worked_ms": 25,
            "raw": RecordPosition(topic="raw", partition=self.partition, offset=7),
            "payload": msgspec.Raw(b'{"type":"text"}'),
        }
        return self.record("inbound", InboundEvent(**fields | changes))

    def outbound(self, cause: str, text: str, *, at_ms: int, priority: str = "high", **changes: Any) -> Record:
        """Return what streams wrote to answer a cause."""
        fields: dict[str, Any] = {
            "id": self.send(cause),
            "conversation": self.key,
            "tenant": self.tenant,
            "channel": "whatsapp",
            "account": ACCOUNT,
            "to": self.contact,
            "to_kind": "phone",
            "priority": priority,
            "message": message_json(text),
            "cause": cause,
            "step": "reply",
            "created_at": at_ms,
            "agent": "default",
            "raw": RecordPosition(topic="raw", partition=self.partition, offset=7),
        }
        return self.record(f"outbound-{priority}", OutboundEvent(**fields | changes))

    def sent(self, cause: str, text: str, *, created_ms: int, platform_id: str, **changes: Any) -> Record:
        """Return what the sender wrote about it."""
        fields: dict[str, Any] = {
            "id": self.send(cause),
            "conversation": self.key,
            "tenant": self.tenant,
            "channel": "whatsapp",
            "account": ACCOUNT,
            "outcome": "accepted",
            "message": message_json(text),
            "at": created_ms + 80,
            "created_at": created_ms,
            "attempts": 1,
            "platform_id": platform_id,
            "http_status": 200,
            "agent": "default",
            "cause": cause,
            "waited_ms": 4,
            "worked_ms": 70,
        }
        return self.record("sent", SentEvent(**fields | changes))

    def status(self, platform_id: str, status: str, *, at_ms: int, send: str = "", **extra: Any) -> Record:
        """Return what ingress wrote about a status; `extra` is more of the platform's own fields."""
        item: Mapping[str, Any] = {
            "id": platform_id,
            "status": status,
            "timestamp": str(at_ms // 1000),
            "recipient_id": self.contact,
            **({"biz_opaque_callback_data": callback_data(send=send, conversation=self.key)} if send else {}),
            **extra,
        }
        metadata = msgspec.Raw(json.dumps({"display_phone_number": "15550783881", "phone_number_id": ACCOUNT}).encode())
        items = [msgspec.Raw(json.dumps(item).encode())]
        change = Change(kind="status", field="messages", metadata=metadata, items=items)
        part = WebhookPart(channel="whatsapp", account=ACCOUNT, conversation=self.key, received_at=at_ms + 200, changes=[change])
        return self.record("status", part)
