"""`ottla topics` from outside, on a real broker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli.topics import hot_rows
from infra.errors import FAILED, UNSAFE
from infra.hot_keys import HotKeys
from infra.kafka.producer import Producer, settle
from infra.settings import Settings
from schemas.events.canary import canary_keys
from schemas.topics import RAW, TOPICS

servers = pytest.mark.servers


def _topics(settings: Settings, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", "topics", *arguments]
    own = {"OTTLA_HOME": str(settings.home), "OTTLA_KAFKA": settings.kafka, "OTTLA_TOPIC_PREFIX": settings.topic_prefix}
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **own, **environment}
    return subprocess.run(command, env=variables, cwd=settings.home, capture_output=True, text=True, check=False, timeout=60)


@servers
def test_topics_are_made_and_listed(settings: Settings) -> None:
    """`create` makes what is missing and says so, `list` shows every topic as it is, for people and for programs."""
    assert _topics(settings, "list").stdout.count("missing") == len(TOPICS)
    assert _topics(settings, "create").stdout.startswith(f"Made {len(TOPICS)} of {len(TOPICS)} topics: ")
    assert _topics(settings, "create").stdout == f"All {len(TOPICS)} topics are there.\n"
    rows = json.loads(_topics(settings, "list", "-o", "json").stdout)
    assert [row["topic"] for row in rows] == [topic.named(settings.topic_prefix) for topic in TOPICS]
    assert {row["partitions"] for row in rows} == {1, settings.partitions}
    assert "raw" in _topics(settings, "list").stdout


@servers
def test_another_partition_count_is_unsafe(settings: Settings) -> None:
    """Another OTTLA_PARTITIONS than the topics have is refused with exit code 4."""
    _topics(settings, "create")
    done = _topics(settings, "create", OTTLA_PARTITIONS="5")
    assert done.returncode == UNSAFE
    assert "because with another number keys would leave their state." in done.stderr
    assert done.stderr.count("\n") == 1
    assert "8 (should be 5)" in _topics(settings, "list", OTTLA_PARTITIONS="5").stdout


@servers
def test_kafka_that_is_not_there(settings: Settings) -> None:
    """A Kafka that does not answer is one sentence and exit code 1."""
    done = _topics(settings, "list", OTTLA_KAFKA="127.0.0.1:1")
    assert done.returncode == FAILED
    assert done.stderr == "Kafka at 127.0.0.1:1 does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA.\n"


def test_hot_keys_are_ordered_as_the_topics_are() -> None:
    """Topic by topic in the order of the flow, partition by partition, the loudest first, with their share."""
    counted = {place: HotKeys(capacity=2) for place in (("sent", 0), ("raw", 1), ("raw", 0))}
    for hot_keys in counted.values():
        for key in (b"loud", b"quiet", b"loud", b"loud"):
            hot_keys.add(key, 5)
    rows = hot_rows(counted, count=1)
    assert [(row["topic"], row["partition"], row["key"], row["records"], row["share"]) for row in rows] == [
        ("raw", 0, "loud", 3, 0.75),
        ("raw", 1, "loud", 3, 0.75),
        ("sent", 0, "loud", 3, 0.75),
    ]


@servers
async def test_the_loudest_conversations_are_shown(settings: Settings) -> None:
    """From the real log, canaries left out; an empty topic is a sentence."""
    _topics(settings, "create")
    assert _topics(settings, "hot", "raw").stdout.startswith("Nothing was written since 15m")
    producer = Producer(settings, client_id="test")
    await producer.start()
    keys = [b"wa:1:\x1b[2Jloud"] * 30 + [b"wa:1:quiet%d" % number for number in range(20)] + [canary_keys(8)[0].encode()] * 40
    await settle([producer.produce(RAW.name, key=key, value=b"12345", partition=2) for key in keys])
    await producer.stop()
    rows = json.loads(_topics(settings, "hot", "raw", "-n", "2", "-o", "json").stdout)
    assert [(row["partition"], row["records"], row["share"]) for row in rows] == [(2, 30, 0.6), (2, 1, 0.02)]
    lines = _topics(settings, "hot", "raw", "--from", "beginning", "-n", "1").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[-3:] == ["30", "60%", "540"]
    assert "\x1b" not in lines[1]
