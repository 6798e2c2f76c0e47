"""`ottla run sinks [NAME...]`: the sinks, all in one process or each in its own."""

import uvloop

from infra.settings import Settings
from sinks.runner import run_sinks


def run(settings: Settings, names: tuple[str, ...]) -> None:
    """Run until SIGTERM, then finish what is under way."""
    uvloop.run(run_sinks(settings, names))
