"""-> [audit]: who had what done. Written and acknowledged before it is done, so that nothing is done unseen."""

import secrets
from typing import NamedTuple

from starlette.requests import Request

from infra.clock import Clock
from infra.kafka.producer import Producer
from ingress.auth import EVERY_TENANT
from schemas.codec import cloud_event_headers, encode
from schemas.events.audit import AuditEvent
from schemas.topics import AUDIT

_SESSION_NAME_LENGTH = 16


class Actor(NamedTuple):
    """Who asks: `admin` or a tenant, through `api` or `pages`, and there in which session."""

    name: str
    via: str
    session: str = ""


def actor_of(request: Request) -> Actor:
    """Return who makes a request that was let in."""
    tenant: str = request.state.tenant
    session = getattr(request.state, "session", None)
    name = "admin" if tenant == EVERY_TENANT else tenant
    return Actor(name, "api") if session is None else Actor(name, "pages", session.name[:_SESSION_NAME_LENGTH])


class Audit:
    """Writes down what one caller has done."""

    def __init__(self, producer: Producer, clock: Clock, actor: Actor) -> None:
        self._producer = producer
        self._clock = clock
        self._actor = actor

    async def note(self, action: str, subject: str, *, tenant: str = "", conversation: str = "", detail: str = "") -> None:
        """Write one action down; ProduceError if the log does not take it, and then it must not be done."""
        event = AuditEvent(
            id=secrets.token_hex(16),
            at=self._clock.now_ms(),
            actor=self._actor.name,
            via=self._actor.via,
            session=self._actor.session,
            action=action,
            subject=subject,
            tenant=tenant,
            conversation=conversation,
            detail=detail,
        )
        headers = cloud_event_headers(event_id=event.id, event_type="ottla.audit", source="ingress", time_ms=event.at)
        await self._producer.send(AUDIT.name, key=subject.encode(), value=encode(event), headers=headers)


def audit_of(request: Request) -> Audit:
    """Return what writes down what this request has done."""
    state = request.app.state
    return Audit(state.producer, state.clock, actor_of(request))
