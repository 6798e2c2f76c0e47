"""What a check found, and how checks are run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from infra.errors import OttlaError
from infra.settings import Settings

State = Literal["ok", "warning", "problem"]

DEADLINE_S = 10.0


class Finding(msgspec.Struct, frozen=True):
    """One sentence about one thing; a warning or a problem says what to do about it."""

    check: str
    state: State
    message: str


Check = Callable[[Settings], Awaitable[list[Finding]]]


def ok(check: str, message: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check, "ok", message)


def warning(check: str, message: str) -> Finding:
    """Return that something works now but is worth a look."""
    return Finding(check, "warning", message)


def problem(check: str, message: str) -> Finding:
    """Return that something does not work."""
    return Finding(check, "problem", message)


async def run_checks(checks: Sequence[Check], settings: Settings, *, deadline_s: float = DEADLINE_S) -> list[Finding]:
    """Run all checks at once and return what they found, in their order; one that fails or hangs is a problem of its own."""
    found = await asyncio.gather(*(_run(check, settings, deadline_s) for check in checks))
    return [finding for findings in found for finding in findings]


async def _run(check: Check, settings: Settings, deadline_s: float) -> list[Finding]:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return await asyncio.wait_for(check(settings), deadline_s)
    except TimeoutError:
        return [problem(name, f"The check took longer than {deadline_s:g} s: look at the log of what it asks.")]
    except OttlaError as error:
        return [problem(name, str(error))]
    except Exception as error:  # noqa: BLE001 - whatever a broken installation makes a check meet, the others still count
        return [problem(name, f"The check itself failed ({type(error).__name__}: {str(error)[:200]}).")]
