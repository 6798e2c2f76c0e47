"""Counts what must never happen: offsets that go back. The process ends with it, so a file keeps the count for the next one to show."""

from pathlib import Path

import structlog

from infra.metrics import ORDER_VIOLATIONS

log = structlog.get_logger()


class OrderViolations:
    """The violations of one stage of one worker, in `folder`; without a folder they are forgotten with the process."""

    def __init__(self, stage: str, folder: Path | None = None) -> None:
        self._count = ORDER_VIOLATIONS.labels(stage)
        self._path = folder / stage if folder is not None else None
        self._count.inc(self._kept())

    def note(self) -> None:
        """Count one, at once and for good."""
        self._count.inc()
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(str(self._kept() + 1))
        except OSError as error:
            log.warning("a violation of order could not be kept", error=error.strerror)

    def _kept(self) -> int:
        try:
            return int(self._path.read_text()) if self._path is not None else 0
        except (OSError, ValueError):
            return 0
