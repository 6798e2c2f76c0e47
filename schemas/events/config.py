"""[tenants] [accounts] [agents]: what `ottla apply` writes; the newest record of an id counts, one without a value deletes it."""

from schemas.codec import Event

DEFAULT_TENANT = "default"
"""Whose everything is that no applied account names."""


class Tenant(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """A customer of this installation; `key` reaches its messages over HTTP and on the pages, empty: only the admin key does."""

    id: str
    name: str = ""
    key: str = ""


class Account(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """A tenant's number on a channel. Empty token or app_secret: the installation's own; empty agent: the tenant's default.

    An app_secret signs webhooks of this account alone; the installation's signs those of every account.

    `rate`: what the platform lets through, messages a second in and out together; None: OTTLA_NUMBER_RATE, 0: no limit.
    """

    id: str
    phone_number_id: str
    tenant: str = DEFAULT_TENANT
    token: str = ""
    app_secret: str = ""
    agent: str = ""
    rate: float | None = None


class Agent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """An AI agent. `kind` is `offline` (answers from `knowledge`, a JSON file's path) or `openai` (a model endpoint)."""

    id: str
    kind: str
    tenant: str = DEFAULT_TENANT
    model: str = ""
    instructions: str = ""
    knowledge: str = ""
    fallback: str = ""
