"""infra.retries: few tries for what may be wrong with an event, endless patience for what is away."""

import pytest
import structlog
from prometheus_client import REGISTRY

from infra.retries import AwayError, Patience, with_retries

QUICK = Patience(first_delay_s=0.001, away_delay_s=0.001, away_delay_s_max=0.002)


class Attempts:
    """Fails with the given errors, one after the other, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


async def test_an_event_gets_three_tries() -> None:
    """Two failures are forgiven and counted; the third is the event's end."""
    assert await with_retries(Attempts(ValueError(), ValueError()), patience=QUICK, what="x") == ("done", 3)
    three = Attempts(ValueError("first"), ValueError("second"), ValueError("third"))
    with pytest.raises(ValueError, match="third"):
        await with_retries(three, patience=QUICK, what="x")
    assert three.count == 3


async def test_what_is_away_is_waited_for() -> None:
    """However often a dependency is away, no try is used up."""
    away = Attempts(*(AwayError("database") for _ in range(50)), ValueError())
    assert await with_retries(away, patience=QUICK, what="x") == ("done", 2)


async def test_final_errors_are_not_repeated() -> None:
    """What cannot get better is raised at once."""
    final = Attempts(KeyError("no"))
    with pytest.raises(KeyError):
        await with_retries(final, patience=QUICK, what="x", final=(KeyError,))
    assert final.count == 1


async def test_a_thousand_lanes_complain_once() -> None:
    """The same dependency being away is one line in the log, not one for each lane."""
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            await with_retries(Attempts(AwayError("the one database")), patience=QUICK, what=f"lane {number}")
    assert [line["event"] for line in lines] == ["waiting for a dependency"]


async def test_what_is_done_again_is_counted_for_its_stage() -> None:
    """By why it is; work that belongs to no stage is not counted."""

    def counted(cause: str) -> float:
        return REGISTRY.get_sample_value("ottla_event_retries_total", {"stage": "test-retries", "cause": cause}) or 0

    for stage in ("test-retries", ""):
        await with_retries(Attempts(AwayError(), AwayError(), ValueError()), patience=QUICK, what="x", stage=stage)
    assert (counted("away"), counted("error")) == (2, 1)
