"""Logging: structured lines, pretty on a terminal and JSON elsewhere; at most one line per unit of work, nothing secret or personal."""

import logging
import sys

from infra.imports import absent
from infra.log_repeats import Repeats
from infra.masking import hide, mask_event
from infra.settings import Settings
from infra.terminal import harmless

with absent("rich"):
    import structlog

_REPEATING = ("aiokafka", "faust", "mode", "cassandra", "librdkafka", "opentelemetry", "urllib3")


def configure_logging(settings: Settings, *, role: str, level: str = "") -> None:
    """Send structlog and the standard library's loggers to standard error in one form, from `level` on (else the settings').

    On a terminal lines are for people, elsewhere each is one JSON object. The secrets of the settings are never shown, nor is what
    people are known by (`infra/masking.py`).
    """
    hide(settings.secret_values())
    level = level or settings.log_level
    structlog.contextvars.clear_contextvars()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_role(role),
    ]
    # JSON writes every character that a terminal would obey as its number.
    rendered: list[structlog.typing.Processor] = (
        [_harmless, structlog.dev.ConsoleRenderer(colors=True)] if sys.stderr.isatty() else [structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        # Masked here as well: whoever brings other handlers (the `faust` command does) must not see more.
        processors=[*shared, mask_event, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.processors.format_exc_info,
                mask_event,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendered,
            ],
        )
    )
    handler.addFilter(Repeats(_REPEATING))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries speak only when something is wrong: a healthy component is silent in the log.
    for noisy in (*_REPEATING, "aiohttp.access", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _with_role(role: str) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("role", role)
        return event

    return add


def _harmless(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = "\n".join(map(harmless, value.split("\n")))
    return event
