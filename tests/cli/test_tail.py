"""`ottla tail`: what its options mean, and the command itself on a real broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.cli import run_command_line
from infra.cli.tail import Plan, planned, topics_named
from infra.errors import NotFoundError
from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.kafka.selection import Start
from infra.settings import Settings
from schemas.codec import encode
from schemas.events.config import Account
from schemas.ids import key_hash
from schemas.topics import PRIORITIES
from tests.history_events import NOON_MS, Talk

LAST_TEN = Start(kind="last", number=10)


@pytest.mark.parametrize(
    ("begin", "count", "follow", "expected"),
    [
        ("", None, None, Plan(start=LAST_TEN, count=None, follow=True)),
        ("", None, False, Plan(start=LAST_TEN, count=None, follow=False)),
        ("", 3, None, Plan(start=Start(kind="last", number=3), count=None, follow=False)),
        ("", 3, True, Plan(start=Start(kind="last", number=3), count=None, follow=True)),
        ("beginning", None, None, Plan(start=Start(kind="beginning"), count=None, follow=True)),
        ("beginning", 3, None, Plan(start=Start(kind="beginning"), count=3, follow=False)),
        ("7", 3, True, Plan(start=Start(kind="offset", number=7), count=3, follow=True)),
        ("-5", 3, None, Plan(start=Start(kind="last", number=5), count=3, follow=False)),
        ("end", None, None, Plan(start=Start(kind="end"), count=None, follow=True)),
        ("end", 3, None, Plan(start=Start(kind="end"), count=3, follow=True)),
        ("end", 3, False, Plan(start=Start(kind="end"), count=3, follow=False)),
    ],
)
def test_what_the_options_mean(begin: str, count: int | None, follow: bool | None, expected: Plan) -> None:
    """As people know it from `tail`: without a place the last ones; it follows unless a number was asked for that is there already."""
    assert planned(begin, count, follow=follow, now_ms=NOON_MS) == expected


def test_topics_by_name() -> None:
    """With the prefix or without, all outbound ones at once, none twice; a slip of the finger is recognised."""
    assert [topic.name for topic in topics_named(["raw", "p-sent", "raw"], prefix="p-")] == ["raw", "sent"]
    assert [topic.name for topic in topics_named(["outbound", "outbound-bulk"])] == [f"outbound-{each}" for each in PRIORITIES]
    with pytest.raises(NotFoundError, match=r"There is no topic 'inbuond': did you mean inbound"):
        topics_named(["inbuond"])
    with pytest.raises(NotFoundError, match="`ottla topics list` names all"):
        topics_named(["nothing"])


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in a folder without an installation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTTLA_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("", 2, "Missing argument 'TOPIC...'"),
        ("nothing", 3, "There is no topic 'nothing': `ottla topics list` names all."),
        ("raw --from yesterday", 2, "--from 'yesterday' is no place in a topic"),
        ("raw -n 0", 2, "Invalid value for '-n'"),
        ("raw accounts -o raw", 4, "The bytes of accounts hold secrets"),
        ("raw -n 1", 1, "There is no Kafka"),
    ],
)
def test_refusals_are_one_sentence(capsys: pytest.CaptureFixture[str], arguments: str, code: int, sentence: str) -> None:
    """With the exit code that every command has for it."""
    assert run_command_line(["tail", *arguments.split()]) == code
    error = capsys.readouterr().err
    assert error.startswith(sentence)
    assert len(error.splitlines()) == 1


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    await create_topics(settings)
    producer = Producer(settings, client_id="test", linger_ms=0)
    await producer.start()
    yield producer
    await producer.stop()


def started(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command as a process of its own, in a pipe."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")} | {
        "OTTLA_KAFKA": settings.kafka,
        "OTTLA_TOPIC_PREFIX": settings.topic_prefix,
        "OTTLA_HOME": str(settings.home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    words = [sys.executable, "-m", "infra", "tail", *arguments]
    return subprocess.Popen(words, env=environment, cwd=settings.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, error = await asyncio.to_thread(process.communicate, timeout=30)
    return process.returncode, out, error


@pytest.mark.servers
async def test_what_is_there_in_each_form(settings: Settings, producer: Producer) -> None:
    """Text, JSON and the bytes; an account's secrets in none."""
    key = "wa:106540352242922:16505550001"
    sent = Talk(contact="16505550001").sent("c", "hello", created_ms=NOON_MS, platform_id="wamid.1").value
    for topic, value in (("sent", sent), ("sent", b"\xff\x1b"), ("accounts", encode(Account(id="a", phone_number_id="1", token="hush")))):
        await producer.send(topic, key=key.encode(), value=value)
    words = (("sent", "accounts", "-n", "3"), ("accounts", "--from", "0", "--no-follow", "-o", "json", "-k", key), ("sent", "-n1", "-oraw"))
    text, as_json, raw = await asyncio.gather(*(ended(started(settings, *each)) for each in words))
    partition = key_hash(key.encode()) % settings.partitions
    places = [f"sent/{partition}/0", f"sent/{partition}/1", "accounts/0/0"]
    assert [line.split()[2:4] for line in text[1].decode().splitlines()] == [[place, key] for place in places]
    assert text[1].decode().isascii()
    assert json.loads(as_json[1])["event"]["token"] == "***"
    assert b"hush" not in text[1] + as_json[1]
    assert raw[1] == b"\xff\x1b\n"
    assert [each[::2] for each in (text, as_json, raw)] == [(0, b"")] * 3


@pytest.mark.servers
async def test_live_until_interrupted(settings: Settings, producer: Producer) -> None:
    """What comes is shown at once; Ctrl-C ends it without a word."""
    await producer.send("sent", key=b"wa:1:1", value=b"before")
    process = started(settings, "sent")
    assert process.stdout is not None
    assert b"before" in await asyncio.to_thread(process.stdout.readline)
    for number in range(3):
        await producer.send("sent", key=b"wa:1:1", value=b"number %d" % number)
        async with asyncio.timeout(5):
            assert b"number %d" % number in await asyncio.to_thread(process.stdout.readline)
    process.send_signal(signal.SIGINT)
    assert [await ended(process)] == [(130, b"", b"\n")]


@pytest.mark.servers
async def test_a_reader_that_has_seen_enough(settings: Settings, producer: Producer) -> None:
    """As in `ottla tail sent | head -1`: it ends without a word at the next record."""
    process = started(settings, "sent", "--from", "beginning")
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        await producer.send("sent", key=b"wa:1:1", value=b"first")
        assert b"first" in await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        await producer.send("sent", key=b"wa:1:1", value=b"second")
        assert await asyncio.to_thread(process.stderr.read) == b""
    assert process.returncode == 1
