"""`ottla topics` from outside, on a real broker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import FAILED, UNSAFE
from infra.settings import Settings
from schemas.topics import TOPICS

pytestmark = pytest.mark.servers


def _topics(settings: Settings, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", "topics", *arguments]
    own = {"OTTLA_HOME": str(settings.home), "OTTLA_KAFKA": settings.kafka, "OTTLA_TOPIC_PREFIX": settings.topic_prefix}
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **own, **environment}
    return subprocess.run(command, env=variables, cwd=settings.home, capture_output=True, text=True, check=False, timeout=60)


def test_topics_are_made_and_listed(settings: Settings) -> None:
    """`create` makes what is missing and says so, `list` shows every topic as it is, for people and for programs."""
    assert _topics(settings, "list").stdout.count("missing") == len(TOPICS)
    assert _topics(settings, "create").stdout.startswith(f"Made {len(TOPICS)} of {len(TOPICS)} topics: ")
    assert _topics(settings, "create").stdout == f"All {len(TOPICS)} topics are there.\n"
    rows = json.loads(_topics(settings, "list", "-o", "json").stdout)
    assert [row["topic"] for row in rows] == [topic.named(settings.topic_prefix) for topic in TOPICS]
    assert {row["partitions"] for row in rows} == {1, settings.partitions}
    assert "raw" in _topics(settings, "list").stdout


def test_another_partition_count_is_unsafe(settings: Settings) -> None:
    """Another OTTLA_PARTITIONS than the topics have is refused with exit code 4."""
    _topics(settings, "create")
    done = _topics(settings, "create", OTTLA_PARTITIONS="5")
    assert done.returncode == UNSAFE
    assert "because with another number keys would leave their state." in done.stderr
    assert done.stderr.count("\n") == 1
    assert "8 (should be 5)" in _topics(settings, "list", OTTLA_PARTITIONS="5").stdout


def test_kafka_that_is_not_there(settings: Settings) -> None:
    """A Kafka that does not answer is one sentence and exit code 1."""
    done = _topics(settings, "list", OTTLA_KAFKA="127.0.0.1:1")
    assert done.returncode == FAILED
    assert done.stderr == "Kafka at 127.0.0.1:1 does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA.\n"
