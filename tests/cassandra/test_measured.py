"""What is measured of statements."""

import pytest
import structlog
from prometheus_client import REGISTRY

from infra.cassandra import measured as module
from infra.cassandra.measured import measured, name_of
from infra.cassandra.session import Cassandra


@pytest.mark.parametrize(
    ("cql", "name"),
    [
        ("SELECT a, b FROM @.messages WHERE tenant = ?", "select messages"),
        ('SELECT a FROM "tabc".sends', "select sends"),
        ("select release_version from system.local", "select system.local"),
        ("SELECT a\nFROM statuses LIMIT 1", "select statuses"),
        ("INSERT INTO @.contacts (a) VALUES (?) USING TIMESTAMP ?", "insert contacts"),
        ("UPDATE @.processing_errors SET a = ? WHERE id = ?", "update processing_errors"),
        ("DELETE FROM schema_lock WHERE name = 'lock' IF owner = ?", "delete schema_lock"),
        ("DELETE a FROM schema_lock WHERE name = ?", "delete schema_lock"),
        ("CREATE TABLE IF NOT EXISTS messages (a text PRIMARY KEY)", "schema"),
        ("TRUNCATE @.messages", "truncate messages"),
    ],
)
def test_a_statement_is_named_by_verb_and_table(cql: str, name: str) -> None:
    """Never by its keyspace or its values."""
    assert name_of(cql) == name


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def test_errors_are_counted_by_what_they_are() -> None:
    """And raised; under way is nothing afterwards."""

    def fails() -> None:
        with measured("select nothing"):
            assert told("ottla_database_in_flight") == 1
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert told("ottla_database_errors_total", statement="select nothing", error="KeyError") == 1
    assert told("ottla_database_duration_seconds_count", statement="select nothing") == 1
    assert told("ottla_database_in_flight") == 0


def test_slow_ones_are_counted_and_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one is counted; the log has one line for many of the same name."""
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    with structlog.testing.capture_logs() as lines:
        for name in ("select slow", "select slow", "select other"):
            with measured(name):
                pass
    assert told("ottla_database_slow_statements_total", statement="select slow") == 2
    assert [line["statement"] for line in lines] == ["select slow", "select other"]


@pytest.mark.servers
async def test_real_statements_are_measured(cassandra: Cassandra, tenant: str) -> None:
    """Single ones and batches, each under its name; a batch to several tables has that of the largest write in it."""
    insert = "INSERT INTO @.send_platform_ids (send, platform_id) VALUES (?, ?)"
    other = "INSERT INTO @.members (conversation, member) VALUES (?, ?)"
    names = ("insert send_platform_ids", "batch insert send_platform_ids", "batch insert members")
    before = [told("ottla_database_duration_seconds_count", statement=name) for name in names]
    await cassandra.execute(insert, (tenant, "1"))
    await cassandra.execute_batch([await cassandra.bind(insert, (tenant, each)) for each in ("1", "2")])
    await cassandra.execute_batch([await cassandra.bind(insert, (tenant, "1")), await cassandra.bind(other, (tenant, "larger"))])
    assert [told("ottla_database_duration_seconds_count", statement=name) for name in names] == [each + 1 for each in before]
