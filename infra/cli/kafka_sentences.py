"""What a command says when Kafka does not answer its questions."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import OttlaError
from infra.kafka.admin import KafkaUnreachableError
from infra.retries import AwayError
from infra.settings import Settings


@contextmanager
def kafka_sentences(settings: Settings) -> Iterator[None]:
    """Have a broker that is away told in one sentence; the client library's own words are kept off the terminal."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        yield
    except AwayError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise KafkaUnreachableError(settings.kafka) from None
        raise OttlaError(f"{error}.") from None
