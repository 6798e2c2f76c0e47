"""GET /v1/groups without servers: who may ask, and what is answered while Kafka is away (tests/cli/test_lag.py has it on real ones)."""

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from infra.retries import AwayError
from ingress.api_groups import list_groups

ROWS = [{"group": "streams", "topic": "raw"}]


class Lag:
    """Answers with the same rows, or with what is away."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.asked: list[bool] = []

    async def rows(self, *, partitions: bool) -> list[dict[str, Any]]:
        self.asked.append(partitions)
        if self._error is not None:
            raise self._error
        return ROWS


def request(lag: Lag, *, tenant: str = "*", query: bytes = b"") -> Request:
    """Return a request of a tenant."""
    app = SimpleNamespace(state=SimpleNamespace(lag=lag))
    return Request({"type": "http", "app": app, "state": {"tenant": tenant}, "query_string": query, "headers": []})


@pytest.mark.parametrize(
    ("query", "partitions"), [(b"", False), (b"partitions=true", True), (b"partitions=1", True), (b"partitions=no", False)]
)
async def test_the_administrator_is_answered(query: bytes, partitions: bool) -> None:
    """With partitions if they are wanted."""
    lag = Lag()
    answer = await list_groups(request(lag, query=query))
    assert (answer.status_code, orjson.loads(answer.body), lag.asked) == (200, {"groups": ROWS}, [partitions])


async def test_a_tenant_is_not() -> None:
    """Groups are of all tenants together."""
    lag = Lag()
    assert (await list_groups(request(lag, tenant="acme"))).status_code == 403
    assert lag.asked == []


async def test_kafka_that_is_away() -> None:
    """It says so, and when to ask again."""
    answer = await list_groups(request(Lag(AwayError("Kafka is not there"))))
    assert (answer.status_code, answer.headers["retry-after"], answer.media_type) == (503, "5", "application/problem+json")
    assert orjson.loads(answer.body)["detail"] == "Kafka is not there; try again in a moment."
