"""Writes dead letters: whatever cannot be handled is kept, or the process stops with a sentence."""

import structlog

from infra.errors import OttlaError
from infra.kafka.producer import ProduceError, RecordWriter
from infra.metrics import DEAD_LETTERS
from schemas.events.dead_letter import DeadLetter, dead_letter_headers
from schemas.topics import DEAD_LETTERS as TOPIC

log = structlog.get_logger()


class DeadLetterError(ProduceError, OttlaError):
    """A dead letter was not acknowledged: its event would be lost if the process went on."""


async def write_dead_letter(producer: RecordWriter, letter: DeadLetter, *, key: bytes, value: bytes) -> None:
    """Write the original bytes with what the letter says of them, and wait for the acknowledgement; DeadLetterError if there is none."""
    try:
        await producer.send(TOPIC.name, key=key, value=value, headers=dead_letter_headers(letter))
    except ProduceError as error:
        where = f"{letter.topic}/{letter.partition}/{letter.offset}"
        raise DeadLetterError(
            f"{letter.stage} stops, because {where} cannot be handled and [{TOPIC.name}] does not take it ({str(error).rstrip('.')}): "
            "run `ottla topics create` and start again, nothing is lost."
        ) from error
    DEAD_LETTERS.labels(letter.stage, letter.cause).inc()
    # The error's text may hold what people wrote; `ottla dead-letters show` has it.
    log.warning("dead letter", stage=letter.stage, cause=letter.cause, topic=letter.topic, partition=letter.partition, offset=letter.offset)
