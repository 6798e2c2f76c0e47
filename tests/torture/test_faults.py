"""tests.torture.faults: what a run does when the broker itself does not get on."""

import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.torture.faults import Ground, RunHistory


class Broker:
    """The keeper of a broker, and what is asked of it: it refuses until it was started again."""

    name = "kafka"

    def __init__(self, code: int) -> None:
        self._code = code
        self.did: list[str] = []

    async def end(self, number: signal.Signals, *, patience_s: float) -> None:
        assert (number, patience_s) == (signal.SIGKILL, 20.0)
        self.did.append("end")

    async def running(self) -> None:
        self.did.append("running")

    async def affected(self, groups: Sequence[str], workers: Sequence[str]) -> dict[str, set[int]]:
        if not self.did:
            raise KafkaException(KafkaError(self._code))
        return {group: {len(workers)} for group in groups}


class Nobody:
    """A worker, as far as it is asked for here."""

    name, groups = "sender-1", ("sender",)


def ground(broker: Broker, history: RunHistory, said: list[str]) -> Ground:
    """Return the ground of a run that has nothing but this broker."""
    parts: dict[str, Any] = {"cluster": type("Cluster", (), {"kafkas": [broker]}), "recovery": broker, "lengths": None, "probe": None}
    return Ground(**parts, history=history, chance=random.Random(0), say=said.append)


async def test_a_broker_that_coordinates_no_more_is_started_again(tmp_path: Path) -> None:
    """The run goes on, and says what it did: its report counts it."""
    broker, said = Broker(KafkaError.NOT_COORDINATOR), list[str]()
    with RunHistory(tmp_path / "history.jsonl") as history:
        assert await ground(broker, history, said).affected(cast("Any", Nobody)) == {"sender": {1}}
    assert (broker.did, said) == (["end", "running"], ["kafka stuck: kafka"])


async def test_anything_else_ends_the_run(tmp_path: Path) -> None:
    """What nobody knows how to mend is not hidden."""
    broker = Broker(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with RunHistory(tmp_path / "history.jsonl") as history, pytest.raises(KafkaException):
        await ground(broker, history, []).affected(cast("Any", Nobody))
    assert broker.did == []
