"""What the stage asks an agent, with a log in memory."""

import msgspec

from infra.simulator.webhooks import text_body
from schemas.events.outbound import OutboundEvent
from tests.driver import ACCOUNT
from tests.streams.memory import Log


async def test_a_turn_names_the_send_that_its_answer_becomes() -> None:
    """The id that an agent is given is the one under which its answer is sent."""
    log = Log()
    log.post(text_body(account=ACCOUNT, phone="15550001111", texts=[("wamid.1", "one"), ("wamid.2", "two")], at_s=1))
    await log.drain()
    assert {turn.send: turn.text for turn in log.asked} == {send.id: _answered(send) for send in log.sends()}
    assert len({turn.send for turn in log.asked}) == 2


def _answered(send: OutboundEvent) -> str:
    text: str = msgspec.json.decode(send.message)["text"]["body"]
    return text.removeprefix("re: ")
