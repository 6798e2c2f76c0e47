"""infra.kafka.corrections on a real broker: what was committed is not forgotten while the broker starts again."""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

import infra.kafka  # noqa: F401  # which corrects the client
from infra.servers.kafka import KAFKA
from infra.servers.node import start_node, stop_node

_PARTITIONS, _COMMITS, _RESTARTS = 100, 60, 2
_ANSWERS = 100


@pytest.mark.servers
@pytest.mark.timeout(200)
async def test_a_broker_that_loads_its_groups_has_not_forgotten_them(tmp_path: Path) -> None:
    """Asked without a pause over kills of the broker, it says what was committed or nothing at all: never that nothing was."""
    node = await start_node(KAFKA, tmp_path, die_with_parent=True, keep_port=True)
    kafka = f"127.0.0.1:{node.state.port}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic("many", _PARTITIONS, 1)])
    member = AIOKafkaConsumer(bootstrap_servers=kafka, group_id="group", enable_auto_commit=False)
    await member.start()
    places = [TopicPartition("many", number) for number in range(_PARTITIONS)]
    member.assign(places)
    try:
        while await member.committed(places[-1]) is None:
            with contextlib.suppress(KafkaError):  # a new topic is not known everywhere at once
                await member.commit(dict.fromkeys(places, 42))
        for _ in range(_COMMITS):  # enough that reading them again takes a moment
            await member.commit(dict.fromkeys(places, 42))
        for _ in range(_RESTARTS):
            assert node.child is not None
            node.child.send_signal(signal.SIGKILL)
            node.child.wait()
            starting = asyncio.create_task(start_node(KAFKA, tmp_path, die_with_parent=True, keep_port=True))
            answers: list[int | None] = []
            while len(answers) < _ANSWERS:
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(5):
                        answers.append(await member.committed(places[7]))
            assert set(answers) == {42}
            node = await starting
    finally:
        await admin.close()
        await member.stop()
        await stop_node(KAFKA, tmp_path)
        if node.child is not None:
            node.child.wait()
