"""What `ottla apply` takes: lists under `tenants`, `accounts` and `agents`, checked as a whole before any of it is written.

Pure: it is given a decoded document and what is applied already, and returns events or mistakes. A mistake never repeats a secret.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from schemas.events.config import Account, Agent, Tenant

Path = tuple[str | int, ...]
Entry = TypeVar("Entry", Tenant, Account, Agent)

AGENT_KINDS = ("offline", "openai")
SECRET_FIELDS = frozenset({"token", "app_secret", "key"})
DEFAULT = "default"
"""The tenant and the agent that are always there."""

_SECTIONS: dict[str, type[msgspec.Struct]] = {"tenants": Tenant, "accounts": Account, "agents": Agent}
_NOT_YET = frozenset({"templates", "contacts", "limits"})
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PHONE_NUMBER_ID = re.compile(r"[0-9]{1,50}")
_KEY = re.compile(r"[!-~]{16,200}")
_TEXT_LENGTH_MAX = 100_000
_RATE = "rate"
_RATE_MAX = 100_000


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong and where: `path` is such as ("accounts", 1, "tenant"), counted from 0."""

    path: Path
    message: str

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")
        return f"{where}: {self.message}" if where else self.message


class ConfigFileError(ValueError):
    """A document that cannot be applied, with all its mistakes."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(" ".join(str(mistake) for mistake in self.mistakes))


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Tenants, accounts and agents: what a document asks for, or what is applied."""

    tenants: tuple[Tenant, ...] = ()
    accounts: tuple[Account, ...] = ()
    agents: tuple[Agent, ...] = ()


def read_configuration(document: Any, *, applied: Configuration | None = None) -> Configuration:
    """Return what a decoded document asks for; ConfigFileError with every mistake found.

    References to tenants and agents are looked for in the document and in `applied`; with None, which means that nobody knows what is
    applied, they are left for whoever does.
    """
    mistakes = list(_section_mistakes(document))
    found = document if isinstance(document, dict) else {}
    entries = {section: found[section] if isinstance(found.get(section), list) else [] for section in _SECTIONS}
    for section, listed in entries.items():
        for number, entry in enumerate(listed):
            mistakes += _entry_mistakes((section, number), entry, _SECTIONS[section])
        mistakes += _duplicates(section, "id", listed)
    mistakes += _duplicates("accounts", "phone_number_id", entries["accounts"])
    if not mistakes:
        wanted = Configuration(
            tenants=_events(entries["tenants"], Tenant),
            accounts=_events(entries["accounts"], Account),
            agents=_events(entries["agents"], Agent),
        )
        mistakes += _reference_mistakes(wanted, applied) if applied is not None else ()
        if not mistakes:
            return wanted
    raise ConfigFileError(mistakes)


def _section_mistakes(document: Any) -> Iterator[Mistake]:
    if not isinstance(document, dict) or not document:
        yield Mistake((), "There must be a list under at least one of `tenants:`, `accounts:` and `agents:`.")
        return
    for section, listed in document.items():
        if section in _NOT_YET:
            yield Mistake((section,), f"`{section}` is not supported yet: leave it out.")
        elif section not in _SECTIONS:
            yield Mistake((section,), f"There is no section `{section}`{_nearest(section, _SECTIONS)}.")
        elif listed and not isinstance(listed, list):
            yield Mistake((section,), f"`{section}` must be a list of entries, each with its own `id`.")


def _entry_mistakes(path: Path, entry: Any, event_type: type[msgspec.Struct]) -> Iterator[Mistake]:
    if not isinstance(entry, dict):
        yield Mistake(path, "This must be an entry with `id` and other fields.")
        return
    fields = {field.name: field for field in msgspec.structs.fields(event_type)}
    for name, value in entry.items():
        if name not in fields:
            yield Mistake((*path, name), f"There is no field `{name}` here{_nearest(name, fields)}.")
        elif rule := _broken_rule(name, value, is_required=fields[name].required):
            yield Mistake((*path, name), rule)
    for name, field in fields.items():
        if field.required and name not in entry:
            yield Mistake(path, f"`{name}` is missing.")


def _broken_rule(name: str, value: Any, *, is_required: bool) -> str:
    """Return the sentence for a value that its field cannot have; empty if it can."""
    if name == _RATE:
        is_rate = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _RATE_MAX
        return "" if is_rate else f"`{name}` must be a number from 0 (no limit) to {_RATE_MAX:,}: messages a second."
    if not isinstance(value, str):
        return f"`{name}` must be a text."
    if len(value) > _TEXT_LENGTH_MAX:
        return f"`{name}` may have {_TEXT_LENGTH_MAX} characters."
    return _broken_text_rule(name, value) if value or is_required else ""


def _broken_text_rule(name: str, value: str) -> str:
    if name in {"id", "tenant", "agent"} and not _ID.fullmatch(value):
        return f"`{name}` must be 1 to 100 letters, digits, points, dashes or underscores."
    if name == "phone_number_id" and not _PHONE_NUMBER_ID.fullmatch(value):
        return "`phone_number_id` must be the platform's id of the number, which has digits only."
    if name == "key" and not _KEY.fullmatch(value):
        return "`key` must be 16 to 200 letters, digits or signs, without spaces."
    if name == "kind" and value not in AGENT_KINDS:
        return f"There is no kind of agent `{value[:40]}`{_nearest(value, AGENT_KINDS) or ': use ' + ' or '.join(AGENT_KINDS)}."
    return ""


def _duplicates(section: str, field: str, entries: list[Any]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for number, entry in enumerate(entries):
        value = entry.get(field) if isinstance(entry, dict) else None
        if isinstance(value, str) and first.setdefault(value, number) != number:
            yield Mistake((section, number, field), f"`{field}` {value[:60]} stands already at {section}[{first[value]}].")


def _events(entries: list[dict[str, Any]], event_type: type[Entry]) -> tuple[Entry, ...]:
    # A field without a value is a field left out.
    return tuple(event_type(**{name: value for name, value in entry.items() if value or name == _RATE}) for entry in entries)


def _reference_mistakes(wanted: Configuration, applied: Configuration) -> Iterator[Mistake]:
    tenants = {DEFAULT} | {tenant.id for tenant in (*applied.tenants, *wanted.tenants)}
    agents = {agent.id: agent for agent in (*applied.agents, *wanted.agents)}
    numbers = {account.phone_number_id: account.id for account in applied.accounts}
    moved = {account.id for account in wanted.accounts}
    owned: tuple[tuple[str, tuple[Account | Agent, ...]], ...] = (("accounts", wanted.accounts), ("agents", wanted.agents))
    for section, entries in owned:
        for number, entry in enumerate(entries):
            if entry.tenant not in tenants:
                message = f"There is no tenant `{entry.tenant}`{_nearest(entry.tenant, tenants)}: add it under `tenants:`."
                yield Mistake((section, number, "tenant"), message)
    keys = {tenant.key: tenant.id for tenant in applied.tenants if tenant.key}
    for number, tenant in enumerate(wanted.tenants):
        # The key itself is not repeated: it is a secret.
        if tenant.key and keys.setdefault(tenant.key, tenant.id) != tenant.id:
            yield Mistake(("tenants", number, "key"), f"Tenant `{keys[tenant.key]}` has this key already: make another one.")
    for number, account in enumerate(wanted.accounts):
        yield from _agent_mistakes(number, account, agents)
        holder = numbers.get(account.phone_number_id, account.id)
        if holder != account.id and holder not in moved:
            message = f"The number {account.phone_number_id} belongs to account `{holder}` already: use that id."
            yield Mistake(("accounts", number, "phone_number_id"), message)


def _agent_mistakes(number: int, account: Account, agents: Mapping[str, Agent]) -> Iterator[Mistake]:
    path = ("accounts", number, "agent")
    if account.agent in {"", DEFAULT}:
        return
    agent = agents.get(account.agent)
    if agent is None:
        yield Mistake(path, f"There is no agent `{account.agent}`{_nearest(account.agent, agents)}: add it under `agents:`.")
    elif agent.tenant != account.tenant:
        yield Mistake(path, f"Agent `{agent.id}` belongs to tenant `{agent.tenant}`, not to `{account.tenant}`.")


def _nearest(name: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""
