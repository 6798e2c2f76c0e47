"""How fast a replay goes, and of whom it is."""

import time

import pytest

from infra.config_tables import ConfigTables
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.events.config import Account
from schemas.events.config import Agent as AgentConfig
from streams.decisions import configured
from streams.replay.host import OneAgentTables, Pace, conversations_wanted
from streams.replay.plan import Bounds, Plan

PLAN = Plan(id="r", made_at=0, from_ms=0, to_ms=1, raw=[Bounds(partition=0, start=0, first=2, last=9, end=9)], recorded=[], speed=2.0)


def record(offset: int, at_ms: int) -> Record:
    return Record("raw", 0, offset, b"k", b"v", [], at_ms)


def test_pace() -> None:
    """What builds state is due at once; the rest as far apart as it was stored, divided by the speed, from the first one on."""
    pace = Pace(PLAN)
    assert pace.due(record(1, 5_000)) == 0.0
    began = pace.due(record(2, 10_000))
    assert began == pytest.approx(time.monotonic(), abs=1.0)
    assert pace.due(record(3, 14_000)) == pytest.approx(began + 2.0)
    assert pace.due(record(4, 9_000)) == pytest.approx(began - 0.5)
    assert pace.due(record(1, 20_000)) == 0.0


@pytest.mark.parametrize(
    ("conversation", "tenant", "key", "expected"),
    [
        ("", "", b"wa:1:15550001111", True),
        ("", "", b"canary:-:0", False),
        ("wa:1:15550001111", "", b"wa:1:15550001111", True),
        ("wa:1:15550001111", "", b"wa:2:15550001111", False),
        ("15550001111", "", b"wa:2:15550001111", True),
        ("5550001111", "", b"wa:1:15550001111", False),
        ("1:15550001111", "", b"wa:1:15550001111", False),
        ("", "acme", b"wa:7:15550001111", True),
        ("", "acme", b"wa:1:15550001111", False),
        ("", "default", b"wa:1:15550001111", True),
        ("15550001111", "acme", b"wa:1:15550001111", False),
        ("", "acme", b"\xff", False),
    ],
)
def test_of_whom(conversation: str, tenant: str, key: bytes, expected: bool) -> None:
    """A conversation is named by its whole key or by its whole contact, a tenant by the account in the key."""
    tables = ConfigTables(Settings(_env_file=None))
    tables.accounts["shop"] = Account(id="shop", phone_number_id="7", tenant="acme")
    plan = Plan(id="r", made_at=0, from_ms=0, to_ms=1, raw=[], recorded=[], conversation=conversation, tenant=tenant)
    assert conversations_wanted(plan, tables)(key) is expected


def test_one_agent_answers_every_account_in_its_tenant() -> None:
    """Accounts keep their tenants; all of them, and numbers nobody applied, are answered by the one agent."""
    other = AgentConfig(id="other", kind="offline", fallback="no")
    tables = OneAgentTables(Settings(_env_file=None), other)
    tables.agents["other"] = other
    tables.accounts["shop"] = Account(id="shop", phone_number_id="7", tenant="acme", agent="own")
    for number, tenant in (("7", "acme"), ("8", "default")):
        found = configured(tables.account_by_phone_number_id(number), tables.agents, default_kind="openai")
        assert (found.tenant, found.agent) == (tenant, other)
