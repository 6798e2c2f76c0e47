"""`ottla groups` on a real broker: a dry run changes nothing, what is safe is done, what is not is refused with exit code 4."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.cli import run_command_line
from infra.errors import FAILED, NOT_FOUND, UNSAFE, USAGE
from infra.kafka.admin import create_topics
from infra.kafka.claims import Claims, decode_claims, encode_claims
from infra.kafka.consumer import LaneConsumer
from infra.kafka.questions import Commit, Place, Questions, commit, commits_of
from infra.kafka.record import Record
from infra.settings import Settings
from schemas.topics import DEAD_LETTERS, OUTBOUND
from tests.lag.test_reader import stamp_by_producers, write

DAY_S = 86_400
GROUP = "dead-letters"
Call = Callable[..., Any]


@pytest.fixture
def ottla(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Give a function that runs a command on a broker and returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    async def call(settings: Settings, *words: str) -> tuple[int, str, str]:
        for name, value in _environment(settings).items():
            monkeypatch.setenv(name, value)
        code = await asyncio.to_thread(run_command_line, list(words))
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "OTTLA_HOME": str(settings.home),
        "OTTLA_KAFKA": settings.kafka,
        "OTTLA_PORT": str(settings.port),
        "OTTLA_TOPIC_PREFIX": settings.topic_prefix,
    }


async def commits(settings: Settings, group: str, topic: str) -> dict[int, Commit]:
    """Return what a group has committed of a topic, by partition."""
    questions = Questions(settings, timeout_s=10)
    places = [Place(settings.topic_prefix + topic, number) for number in range(settings.partitions)]
    try:
        found = await questions.ask(lambda client: commits_of(client, settings.topic_prefix + group, places))
    finally:
        await questions.close()
    return {place.partition: each for place, each in found.items()}


async def set_commits(settings: Settings, group: str, topic: str, offsets: dict[int, Commit]) -> None:
    """Commit for a group without members."""
    questions = Questions(settings, timeout_s=10)
    wanted = {Place(settings.topic_prefix + topic, number): each for number, each in offsets.items()}
    try:
        await questions.ask(lambda client: commit(client, settings.topic_prefix + group, wanted))
    finally:
        await questions.close()


@pytest.mark.servers
async def test_a_reset_is_shown_then_done(settings: Settings, ottla: Call, tmp_path: Path) -> None:
    """Old, new and count for each partition; without --execute nothing changes; by time, by file; beyond 8 days is refused."""
    await create_topics(settings)
    await stamp_by_producers(settings, GROUP)
    now_ms = int(time.time() * 1000)
    ages_s = (10 * DAY_S, 9 * DAY_S, 7 * DAY_S, 3600)
    await asyncio.to_thread(write, settings, GROUP, 0, [now_ms - age * 1000 for age in ages_s])
    await asyncio.to_thread(write, settings, GROUP, 1, [now_ms - 3_600_000] * 2)
    await set_commits(settings, GROUP, GROUP, {0: Commit(4, ""), 1: Commit(1, "")})
    stood = await commits(settings, GROUP, GROUP)
    back = ["groups", "reset", GROUP, "--all-topics", "--by-duration", "P8D"]

    code, out, err = await ottla(settings, *back)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("would handle 3 again and skip 0; nothing was changed: add --execute to do it.")
    assert out.splitlines()[1].split() == [GROUP, "0", "4", "2", "2", "0"]
    assert await commits(settings, GROUP, GROUP) == stood

    for word in ("--to-earliest", "--to-offset=0", "--shift-by=-9", "--to-datetime=2020-01-01"):
        code, out, err = await ottla(settings, "groups", "reset", GROUP, "--all-topics", word, "--execute")
        assert (code, err.count("\n")) == (UNSAFE, 1), word
        assert "10.0 days ago, and ids are remembered for 8 days" in err
    assert await commits(settings, GROUP, GROUP) == stood

    code, out, err = await ottla(settings, *back, "--execute", "-o", "json")
    assert (code, err) == (0, "")
    rows = {row["partition"]: row for row in json.loads(out)}
    assert rows[0] == {"topic": GROUP, "partition": 0, "old": 4, "new": 2, "again": 2, "skipped": 0}
    assert rows[7] == {"topic": GROUP, "partition": 7, "old": None, "new": 0, "again": 0, "skipped": 0}
    assert {number: each.offset for number, each in (await commits(settings, GROUP, GROUP)).items()} == dict.fromkeys(range(8), 0) | {0: 2}

    file = tmp_path / "offsets.csv"
    file.write_text(f"{GROUP},0,4\n{settings.topic_prefix}{GROUP},1,2\n")
    code, out, _ = await ottla(settings, "groups", "reset", GROUP, "--from-file", str(file), "--execute")
    assert (code, len(out.splitlines())) == (0, 4)
    after = await commits(settings, GROUP, GROUP)
    assert (after[0].offset, after[1].offset) == (4, 2)

    code, out, _ = await ottla(settings, "groups", "list", "-o", "json")
    listed = {row["group"].removeprefix(settings.topic_prefix): row for row in json.loads(out)}
    assert (code, list(listed)) == (0, ["streams", "sender", "history", GROUP])
    assert (listed[GROUP]["state"], listed[GROUP]["members"], listed[GROUP]["lag_messages"]) == ("Empty", [], 0)
    assert listed["streams"]["state"] == "Dead"


@pytest.mark.servers
async def test_a_live_group_is_refused_also_by_the_broker(settings: Settings, ottla: Call) -> None:
    """It is told whom to stop; the offsets stay; and who came in between look and write is refused by the broker."""
    await create_topics(settings)

    async def handle(_: Sequence[Record]) -> None:
        pass

    member = LaneConsumer(settings, group=GROUP, topics=[DEAD_LETTERS], handle=handle, on_fatal=lambda _: None)
    await member.start()
    try:
        await asyncio.wait_for(member.ready.wait(), 60)
        for more in ([], ["--execute"]):
            code, out, err = await ottla(settings, "groups", "reset", GROUP, "--all-topics", "--to-latest", *more)
            assert (code, err.count("\n")) == (UNSAFE, 1)
            assert f"is live (1 member: test-{settings.topic_prefix}{GROUP}): stop every `ottla run sinks`" in err
            assert len(out.splitlines()) == 1 + settings.partitions
        with pytest.raises(Exception, match="UnknownMemberId"):
            await set_commits(settings, GROUP, GROUP, {0: Commit(0, "")})
        assert await commits(settings, GROUP, GROUP) == {}
        code, out, _ = await ottla(settings, "groups", "list")
        assert code == 0
        assert out.splitlines()[-1].split()[:6] == [settings.topic_prefix + GROUP, "ottla", "run", "sinks", "Stable", "1"]
    finally:
        await member.stop(1)


@pytest.mark.servers
async def test_claims_of_the_sender_are_kept(settings: Settings, ottla: Call) -> None:
    """A send that may have happened is still known as such after the group was set back; going past it is refused."""
    await create_topics(settings)
    topic = OUTBOUND["high"].name
    await asyncio.to_thread(write, settings, topic, 0, [0] * 6)
    claims = Claims(own=frozenset({4}), token="token")
    await set_commits(settings, "sender", topic, {0: Commit(3, encode_claims(3, claims))})
    reset = ["groups", "reset", "sender", "--topic", f"{topic}:0", "--execute"]
    code, _, err = await ottla(settings, *reset, "--to-latest")
    assert (code, err.count("\n")) == (UNSAFE, 1)
    code, _, err = await ottla(settings, *reset, "--shift-by", "-2")
    assert (code, err) == (0, "")
    found = (await commits(settings, "sender", topic))[0]
    assert (found.offset, decode_claims(found.offset, found.metadata)) == (1, claims)


async def test_what_cannot_be_used_is_one_sentence(ottla: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown groups and topics, none or two positions, bad times, files that are none, a Kafka that is away."""
    away = Settings(kafka="127.0.0.1:1", home=tmp_path, _env_file=None)
    (tmp_path / "bad").write_bytes(b"\xff")
    cases: list[tuple[int, list[str]]] = [
        (NOT_FOUND, ["nobody", "--all-topics", "--to-latest"]),
        (USAGE, ["streams", "--to-latest"]),
        (USAGE, ["streams", "--topic", "raw", "--all-topics", "--to-latest"]),
        (USAGE, ["streams", "--all-topics"]),
        (USAGE, ["streams", "--all-topics", "--to-latest", "--to-earliest"]),
        (USAGE, ["streams", "--all-topics", "--to-offset", "-1"]),
        (USAGE, ["streams", "--all-topics", "--by-duration", "8 days"]),
        (USAGE, ["streams", "--all-topics", "--to-datetime", "now"]),
        (USAGE, ["streams", "--topic", "sent", "--to-latest"]),
        (USAGE, ["streams", "--topic", "raw:x", "--to-latest"]),
        (USAGE, ["streams", "--from-file", "bad"]),
        (USAGE, ["streams", "--from-file", "absent"]),
        (USAGE, ["streams", "--from-file", "bad", "--all-topics"]),
    ]
    for expected, words in cases:
        code, out, err = await ottla(away, "groups", "reset", *words)
        assert (code, out, err.count("\n")) == (expected, "", 1), words
    monkeypatch.setattr("infra.cli.groups._TIMEOUT_S", 0.3)
    for command in (["list"], ["reset", "streams", "--all-topics", "--to-latest"]):
        code, out, err = await ottla(away, "groups", *command)
        assert (code, out) == (FAILED, "")
        assert err == "Kafka at 127.0.0.1:1 does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA.\n"
