"""Replay over a real run: unchanged code gives the same, another agent another, and nothing leaves or moves in either case."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.group_log import GroupLog
from infra.settings import Settings
from infra.simulator.faults import Fault
from infra.simulator.freshen import Wanted
from infra.simulator.webhooks import build, text_body
from schemas.codec import decode
from schemas.events.outbound import OutboundEvent
from schemas.events.sent import SentEvent
from schemas.topics import OUTBOUND, RAW, TOPICS
from streams.decisions import DEFAULT_FALLBACK
from streams.replay.run import Wish
from streams.replay.run import replay as replay_here
from streams.replay.summary import Summary
from tests.driver import ACCOUNT, Driver, Load
from tests.installation import Installation
from tests.reading import committed, decided, records, wait_for_records
from tests.test_one_person import message

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1200)]

KINDS = ("reaction", "image", "system", "bsuid", "bsuid-only", "echo", "late", "unsupported", "multi-sender", "no-account", "button")
PHONE, USER, UNLUCKY = "15550007711", "US.13491208655302749999", "15550007712"
OTHER = """
agents:
  - id: other
    kind: openai
    model: other-model
    instructions: Be brief.
    fallback: The other cannot.
"""


def environment_of(installation: Installation) -> dict[str, str]:
    """Return what the command is run with: here the model may take its time."""
    return {**os.environ, **installation.running["ingress"].environment, "OTTLA_AI_TIMEOUT": "60", "OTTLA_AI_CONCURRENCY": "8"}


def ottla(installation: Installation, *words: str) -> subprocess.CompletedProcess[str]:
    environment = environment_of(installation)
    return subprocess.run(
        [sys.executable, "-m", "infra", *words], env=environment, capture_output=True, text=True, timeout=200, check=False
    )


async def replay(installation: Installation, *words: str, code: int = 0) -> dict[str, Any]:
    """Return what `ottla replay -o json` prints."""
    done = await asyncio.to_thread(ottla, installation, "replay", "-o", "json", *words)
    assert (done.returncode, done.stderr) == (code, ""), done
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


async def summary_of(settings: Settings, wish: Wish) -> Summary:
    """Return what comes of a replay in this process."""
    summary = (await replay_here(settings, wish, progress=lambda *_: None)).summary()
    assert summary is not None
    return summary


async def eventful_run(installation: Installation) -> None:
    """Play a few hundred messages with duplicates, a killed worker, a failing model, changed numbers and every kind of message."""
    driver = Driver(installation, Load(conversations=24, messages=6, repeated=0.3, connections=8))
    playing = asyncio.create_task(driver.play())
    await installation.platform.books.wait_for("accepted", 30, timeout_s=300)
    await installation.running["streams"].end(signal.SIGKILL)
    installation.running["streams"].start()
    await playing
    await driver.answered(timeout_s=300)
    # The driver knows phone numbers alone.
    installation.platform.books.watchers.clear()
    for body in (message("one", from_=PHONE), message("two", from_=PHONE, from_user_id=USER), message("three", from_user_id=USER)):
        assert await installation.post(body) == 200
    for kind in KINDS:
        for body in build(kind, Wanted(phone=UNLUCKY)):
            assert await installation.post(body) == 200
    await handled(installation.settings)
    installation.model.faults.turn("error", Fault())
    texts = [("wamid.u1", "first"), ("wamid.u2", "second")]
    assert await installation.post(text_body(account=ACCOUNT, phone=UNLUCKY, texts=texts, at_s=int(time.time()))) == 200
    await handled(installation.settings)
    installation.model.faults.clear()
    assert await installation.post(message("four", from_user_id=USER)) == 200
    await handled(installation.settings)
    wanted = {decode(each.value, OutboundEvent).id for each in await records(installation.settings, "outbound-high")}

    def all_sent(found: list[Any]) -> bool:
        return {decode(each.value, SentEvent).id for each in found} >= wanted

    await wait_for_records(installation.settings, "sent", all_sent, timeout_s=300)


async def handled(settings: Settings) -> None:
    """Wait until streams have committed all of [raw]."""
    async with asyncio.timeout(300):
        while not await committed(settings, "streams", RAW.name):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.1)


async def standing(settings: Settings) -> dict[str, Any]:
    """Return where every topic ends and where every group stands."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka)
    await consumer.start()
    try:
        found: dict[str, Any] = {}
        for topic in TOPICS:
            count = 1 if topic.partitioning == "single" else settings.partitions
            places = [TopicPartition(topic.named(settings.topic_prefix), number) for number in range(count)]
            found |= {f"{place.topic}/{place.partition}": end for place, end in (await consumer.end_offsets(places)).items()}
    finally:
        await consumer.stop()
    outbound = [topic.name for topic in OUTBOUND.values()]
    for group, names in {"streams": ["raw"], "history": ["inbound", "sent"], "sender": outbound}.items():
        log = GroupLog(settings, group=group)
        for name in names:
            found |= {f"{group} {name}/{number}": await log.committed(name, number) for number in range(settings.partitions)}
        await log.close()
    return found


async def at_rest(settings: Settings) -> dict[str, Any]:
    """Return where everything stands when nothing moves any more."""
    before: dict[str, Any] = {}
    async with asyncio.timeout(300):
        while (now := await standing(settings)) != before:
            before = now
            await asyncio.sleep(1)
    return before


async def test_unchanged_code_decides_the_same_and_another_agent_sends_nothing(settings: Settings, tmp_path: Path) -> None:
    """Over an eventful run a replay finds nothing but the same; another agent changes every answer, and nothing leaves or moves."""
    agent = tmp_path / "other.yaml"
    agent.write_text(OTHER)
    async with Installation(settings, environment={"OTTLA_AI_TIMEOUT": "1"}) as installation:
        await eventful_run(installation)
        was = await at_rest(settings)
        requests, prompts = installation.platform.books.counts["requests"], installation.model.state()["counts"]
        distinct = {event.id for event in decided(await records(settings, "inbound"))}

        same = await replay(installation, "--from", "-1h")
        assert same["all_same"], same
        assert same["compared"] == len(distinct)
        assert same["answers"]["same"] > 150
        assert same["others"]["same"] >= 4
        assert (same["unhandled"], same["on_their_way"], same["elsewhere"]) == (0, 0, 0)
        assert installation.model.state()["counts"] == prompts
        lines = [json.loads(line) for line in (await asyncio.to_thread(Path(same["comparison"]).read_text)).splitlines()]
        assert len(lines) == same["compared"]
        assert {line["was"]["text"] for line in lines if line["question"] in {"first", "second"}} == {DEFAULT_FALLBACK}
        assert {line["was"].get("reason") for line in lines if "late" in line["was"].get("reason", "")} == {"late"}

        installation.model.answer = "other: "
        page = tmp_path / "page.html"
        changed = await replay(installation, "--from", "-1h", "--agent", str(agent), "--diff", "--html", str(page))
        answers = same["answers"]["same"]
        assert changed["answers"] == {"same": 0, "changed": answers, "missing": 0, "new": 0}
        assert changed["others"] == same["others"]
        assert {item["now"]["text"] for item in changed["items"]} == {f"other: {item['question']}" for item in changed["items"]}
        assert len(changed["items"]) == answers
        assert changed["tokens_in"] > answers
        assert changed["now_p50_ms"] >= 0
        assert "other: one" in page.read_text()
        assert {prompt.model for prompt in list(installation.model.prompts)[-answers:]} == {"other-model"}

        assert len({same["digest"], changed["digest"]}) == 2
        again = await summary_of(settings, Wish(resume=changed["id"]))
        assert (again.id, again.answers) == (changed["id"], changed["answers"])
        one = await summary_of(settings, Wish(since="-1h", conversation=PHONE))
        assert (one.compared, one.conversations, one.all_same) == (4, 1, True)
        place = next(line for line in lines if line["question"] == "first")
        at, offset = place["partition"], place["offset"]
        two = await summary_of(settings, Wish(since=f"{at}/{offset}", until=f"{at}/{offset + 1}"))
        assert (two.compared, two.all_same) == (2, True)
        await killed_paused_and_gone_on_with(installation, agent, answers, changed["digest"])
        none = await asyncio.to_thread(ottla, installation, "replay", "--from", "-1h", "--tenant", "nobody")
        assert (none.returncode, none.stderr.count("\n")) == (3, 1)

        assert await standing(settings) == was
        assert installation.platform.books.counts["requests"] == requests
        assert installation.platform.books.duplicates() == {}


async def killed_paused_and_gone_on_with(installation: Installation, agent: Path, answers: int, digest: str) -> None:
    """Kill a replay with -9 while another agent answers, go on with it, pause it, go on again: nothing that was answered is asked again."""
    model, environment = installation.model, environment_of(installation)
    model.delay_s = 1.0
    model.prompts.clear()
    name, told = "", b""
    for number, code, until in ((signal.SIGKILL, -signal.SIGKILL, 40), (signal.SIGINT, 130, 80)):
        more = ["--resume", name] if name else ["--from", "-1h", "--agent", str(agent)]
        words = [sys.executable, "-m", "infra", "replay", "-o", "json", *more]
        process = await asyncio.create_subprocess_exec(*words, env=environment, stdout=PIPE, stderr=PIPE)
        async with asyncio.timeout(150):
            while len(model.prompts) < until:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.05)
        process.send_signal(number)
        out, told = await process.communicate()
        assert (process.returncode, out) == (code, b"")
        name = max(path.name for path in (installation.settings.home / "replays").iterdir())
    assert f"--resume {name}" in told.decode()
    model.delay_s = 0.0
    gone_on = await replay(installation, "--resume", name)
    assert gone_on["digest"] == digest
    assert gone_on["answers"] == {"same": 0, "changed": answers, "missing": 0, "new": 0}
    # What was under way when it was killed, and when it was paused, was asked twice.
    assert len(model.prompts) <= answers + 16
