"""infra.kafka.log_reader: a record by where it stands, and nothing where there is none."""

import pytest

from infra.kafka.admin import KafkaUnreachableError, create_topics
from infra.kafka.log_reader import log_reader
from infra.kafka.producer import Producer
from infra.settings import Settings
from schemas.topics import DEAD_LETTERS
from tests.topic_settings import forget_before


@pytest.mark.servers
async def test_records_are_read_by_where_they_stand(settings: Settings) -> None:
    """In any order, small and large; before the first, behind the last and in no partition there is none, and what was deleted is gone."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    values = [bytes([number]) * (5 << 20 if number == 1 else 10) for number in range(4)]
    for value in values:
        await producer.send(DEAD_LETTERS.name, key=b"k", value=value, headers=[("name", b"value")], partition=3)
    await producer.stop()
    async with log_reader(settings, DEAD_LETTERS) as reader:
        for number in (2, 1, 0, 3, 1):
            record = await reader.read(3, number)
            assert record is not None
            assert (record.value == values[number], record.key, record.headers) == (True, b"k", [("name", b"value")])
        for place in ((3, 4), (2, 0), (999, 0)):
            assert await reader.read(*place) is None
        await forget_before(settings, DEAD_LETTERS.name, 3, 2)
        assert await reader.read(3, 1) is None
        assert await reader.read(3, 2) is not None


async def test_a_broker_that_is_away_is_said_to_be() -> None:
    """Nobody waits for ever for a record."""
    with pytest.raises(KafkaUnreachableError):
        async with log_reader(Settings(kafka="127.0.0.1:1", _env_file=None), DEAD_LETTERS):
            pass
