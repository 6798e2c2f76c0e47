"""sinks.ledger_reading on a real log: how far back it reads, and that nothing is sent twice for what it does not."""

import msgspec
import pytest

from infra.clock import SystemClock
from infra.kafka.admin import create_topics
from infra.kafka.consumer import Taken
from infra.kafka.producer import Producer
from infra.settings import Settings
from schemas.ids import callback_data
from schemas.topics import LEDGER, OUTBOUND, SENT, STATUS
from sinks.ledger import Ledger, told_of
from sinks.ledger_reading import take

pytestmark = pytest.mark.servers

HOUR_MS = 3_600_000
KEY, SEND = "wa:1:2", "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("topic", "hours", "is_known"),
    [(LEDGER.name, 1, True), (LEDGER.name, 3, False), (OUTBOUND["high"].name, 3, True)],
    ids=["a plan", "a plan that waits for long", "a send that was never tried"],
)
async def test_how_far_back_it_reads(settings: Settings, topic: str, hours: int, *, is_known: bool) -> None:
    """A plan that waits for days must not have every sender read all of them whenever partitions move: everybody waits for that."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    status = {"id": "wamid.1", "status": "delivered", "biz_opaque_callback_data": callback_data(send=SEND, conversation=KEY)}
    for name, value in ((topic, b"{}"), (STATUS.name, msgspec.json.encode({"changes": [{"items": [status]}]}))):
        await producer.send(name, key=KEY.encode(), value=value, partition=0)
    await producer.stop()
    ledger = Ledger()
    taken = [Taken(each, 0, None, frozenset()) for each in (LEDGER.name, *(one.name for one in OUTBOUND.values()))]
    await take(ledger, settings, taken, now_ms=SystemClock().now_ms() + hours * HOUR_MS)
    assert (ledger.partition(0).platform_id(told_of(KEY.encode(), SEND)) == "wamid.1") is is_known
    assert ledger.planned == (1 if topic == LEDGER.name else 0)


async def test_which_plans_may_have_left(settings: Settings) -> None:
    """Of two plans of one send the one that knows more counts; what has its outcome is left out, and what is no plan is passed over."""
    await create_topics(settings)
    producer = Producer(settings, client_id="test")
    await producer.start()
    plans = [("a", "planned"), ("a", "unknown"), ("b", "planned"), ("c", "unknown")]
    for value in (*(msgspec.json.encode({"send": {"id": send}, "state": state}) for send, state in plans), b"{}"):
        await producer.send(LEDGER.name, key=KEY.encode(), value=value, partition=0)
    await producer.send(SENT.name, key=KEY.encode(), value=b'{"id":"c"}', partition=0)
    await producer.stop()
    ledger = Ledger()
    taken = [Taken(each, 0, None, frozenset()) for each in (LEDGER.name, *(one.name for one in OUTBOUND.values()))]
    await take(ledger, settings, taken, now_ms=SystemClock().now_ms())
    assert (ledger.partition(0).left, ledger.planned) == ({"a"}, 5)
