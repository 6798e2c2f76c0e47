"""`ottla lag`, GET /v1/groups, /health and /metrics on a real installation: a sink that stops, and what is seen of it."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from infra.cli.lag import _watch
from infra.errors import FAILED, UNSAFE, OttlaError
from infra.settings import Settings
from infra.simulator.faults import Fault
from tests.cli.test_groups import Call
from tests.cli.test_groups import ottla as ottla  # noqa: PLC0414  # a fixture
from tests.cli.test_send import ottla as ottla_process
from tests.cli.test_sends import text
from tests.installation import Installation
from tests.reading import records

pytestmark = pytest.mark.servers

PHONES = ("15550008881", "15550008882")


async def figures(installation: Installation, group: str, topic: str, *, query: str = "") -> dict[str, Any]:
    """Return the row of a group and topic."""
    answer = await groups(installation, query)
    return next(row for row in answer if (row["group"], row["topic"]) == (group, topic))


class Age:
    """The age in seconds of what was written at a time, between when this was made and when it is asked: a busy machine answers late."""

    def __init__(self, written_ms: int) -> None:
        self._written_s = written_ms / 1000
        self._least = time.time() - self._written_s

    def could_be(self, seconds: float) -> bool:
        """Tell whether it had this age in the meantime; a millisecond is lost to rounding."""
        return self._least - 0.001 <= seconds <= time.time() - self._written_s + 0.001


async def groups(installation: Installation, query: str = "") -> list[dict[str, Any]]:
    """Return what GET /v1/groups answers, as soon as Kafka can be asked; TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            status, answer = await installation.get(f"/v1/groups{query}")
            if status == 200:
                found: list[dict[str, Any]] = answer["groups"]
                return found
            assert (status, answer["title"]) == (503, "Kafka is away")
            await asyncio.sleep(0.2)


_OLD_S = 1.1


async def until(installation: Installation, enough: Callable[[dict[str, int]], bool]) -> None:
    """Wait until the lag of the groups, in messages, is enough; TimeoutError.

    Figures may be a second old: that nothing is left counts once they are of after the call.
    """
    begun = time.monotonic()
    async with asyncio.timeout(60):
        while True:
            lags: Counter[str] = Counter()
            for row in await groups(installation):
                lags[row["group"]] += row["lag_messages"]
            if enough(lags) and (enough is not caught_up or time.monotonic() - begun > _OLD_S):
                return
            await asyncio.sleep(0.1)


def caught_up(lags: dict[str, int]) -> bool:
    """Tell whether every group has nothing before it."""
    return not any(lags.values())


async def test_a_stopped_sink_s_lag(settings: Settings) -> None:
    """Right to the message and to a second everywhere, 0 when it is back; what was set back is recognised, and nothing is sent twice."""
    async with Installation(settings) as installation:
        # Statuses come when they like, and are unprocessed, too.
        installation.platform.faults.turn("status_missing", Fault())
        assert await installation.post(text(PHONES[0])) == 200
        await installation.platform.books.wait_for("accepted", 1, timeout_s=60)
        await until(installation, caught_up)
        row = await figures(installation, "sender", "outbound-high", query="?partitions=true")
        assert (row["state"], row["lag_seconds"], row["owned"], row["lost_messages"]) == ("OK", 0.0, settings.partitions, 0)
        assert {each["owner"] for each in row["partitions"]} == {f"sinks-1-{settings.topic_prefix}sender"}

        await installation.running["sinks"].end()
        assert await installation.post(text(PHONES[1])) == 200
        await until(installation, lambda lags: lags["sender"] > 0)
        written_ms = max(record.timestamp for record in await records(settings, "outbound-high"))
        age = Age(written_ms)
        row = await figures(installation, "sender", "outbound-high")
        assert (row["lag_messages"], row["oldest_unprocessed_at"]) == (1, written_ms)
        assert age.could_be(row["lag_seconds"])

        age = Age(written_ms)
        done = await asyncio.to_thread(ottla_process, installation, "lag", "-o", "json")
        assert (done.returncode, done.stderr) == (0, "")
        told = next(row for row in json.loads(done.stdout) if (row["group"], row["topic"]) == ("sender", "outbound-high"))
        assert told.keys() == row.keys()
        assert age.could_be(told["lag_seconds"])
        age = Age(written_ms)
        status, health = await installation.get("/health")
        sender = next(each for each in health["lag"]["groups"] if each["group"] == "sender")
        assert (status, health["lag"]["known"], sender["lag_messages"]) == (200, True, 1)
        assert age.could_be(sender["lag_seconds"])
        age = Age(written_ms)
        metrics = await read_metrics(installation)
        labels = 'group="sender",topic="outbound-high"'
        assert metrics[f"ottla_consumer_lag_messages{{{labels}}}"] == 1
        assert age.could_be(metrics[f"ottla_consumer_lag_seconds{{{labels}}}"])
        assert metrics[f"ottla_consumer_retention_left_seconds{{{labels}}}"] == pytest.approx(14 * 86_400, abs=60)
        state = re.compile(r'ottla_consumer_group_state\{group="sender",state="(\w+)",topic="outbound-high"\}')
        states = {found[1]: value for name, value in metrics.items() if (found := state.fullmatch(name))}
        assert states == {"OK": 1, "WARN": 0, "STOP": 0, "STALL": 0, "REWIND": 0}

        for group in ("sender", "history"):
            await set_back(installation, group)
        assert (await figures(installation, "sender", "outbound-high"))["lag_messages"] == 2
        installation.running["sinks"].start()
        await installation.ready("sinks")
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)
        await until(installation, caught_up)
        assert len(installation.platform.books.accepted()) == 2


async def set_back(installation: Installation, group: str) -> None:
    """Reset a group to the beginning, as soon as the session of its last member is over; TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            words = ("groups", "reset", group, "--all-topics", "--to-earliest", "--execute")
            done = await asyncio.to_thread(ottla_process, installation, *words)
            if done.returncode == 0:
                return
            assert (done.returncode, "is live" in done.stderr) == (UNSAFE, True)
            await asyncio.sleep(1)


async def read_metrics(installation: Installation) -> dict[str, float]:
    """Return the metrics of the ingress by name and labels."""
    headers = {"Authorization": f"Bearer {installation.settings.admin_key.get_secret_value()}"}
    async with installation.http.get(f"{installation.url}/metrics", headers=headers) as response:
        lines = re.findall(r"^([a-z_]+(?:\{.*\})?) ([0-9.e+-]+)$", await response.text(), re.MULTILINE)
    return {name: float(value) for name, value in lines}


async def test_without_an_ingress_it_is_seen_from_here(settings: Settings, ottla: Call) -> None:
    """Two looks at Kafka give lag and rates, and it is said that states need longer; before there are topics it says so."""
    alone = settings.model_copy(update={"port": 1})
    code, out, err = await ottla(alone, "lag")
    assert (code, out) == (0, "No topic of this installation exists: `ottla topics create` makes them.\n")
    assert (await ottla(alone, "topics", "create"))[0] == 0
    code, out, err = await ottla(alone, "lag")
    assert (code, err.count("\n")) == (0, 1)
    lines = out.splitlines()
    assert lines[0].split() == ["group", "topic", "state", "lag", "oldest", "in/s", "out/s", "drained", "in", "deleted", "in"]
    assert len(lines) == 16
    assert lines[1].split() == ["streams", "raw", "OK", "(8%", "seen)", "0", "-", "0.0", "0.0", "-", "-"]
    code, out, _ = await ottla(alone, "lag", "--partitions")
    assert (code, len(out.splitlines())) == (0, 1 + 15 * settings.partitions)


async def test_kafka_that_is_away_is_one_sentence(settings: Settings, ottla: Call) -> None:
    """Exit code 1, and no word of the client library."""
    away = settings.model_copy(update={"kafka": "127.0.0.1:1", "port": 1})
    code, out, err = await ottla(away, "lag")
    assert (code, out) == (FAILED, "")
    assert err == "Kafka at 127.0.0.1:1 does not answer: start it (`ottla infra up` starts a local one) or correct OTTLA_KAFKA.\n"


async def test_watching_goes_on_when_what_is_asked_is_away(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is shown below the last one where there is no terminal, and in place on one; Ctrl-C is what ends it."""
    left: list[list[dict[str, Any]] | OttlaError] = [[], OttlaError("away"), []]

    async def read() -> list[dict[str, Any]]:
        if not left:
            raise KeyboardInterrupt
        answer = left.pop(0)
        if isinstance(answer, OttlaError):
            raise answer
        return answer

    monkeypatch.setattr("infra.cli.lag._EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        await _watch(read, partitions=False, as_json=False)
    nothing = "No topic of this installation exists: `ottla topics create` makes them."
    assert capsys.readouterr().out.splitlines() == [nothing, "away", nothing]
    left[:] = [[], OttlaError("away"), []]
    with pytest.raises(KeyboardInterrupt):
        await _watch(read, partitions=False, as_json=True)
    told = capsys.readouterr()
    assert (told.out.splitlines(), told.err) == (["[]", "[]"], "away\n")
