"""`ottla up` with fake roles: `python -m tests.supervisor.fake_up JOURNAL [HABIT=ROLE...]`, settings from the environment."""

import asyncio
import signal
import sys
from collections.abc import Mapping

from infra.children import Child, spawn
from infra.errors import OttlaError
from infra.settings import Settings, load_settings
from infra.supervisor.printing import Printer
from infra.supervisor.roles import Role
from infra.supervisor.up import Up


def main() -> int:
    """Run until it is stopped; print the sentence of what cannot be done, as the command line does."""
    journal, *given = sys.argv[1:]
    habits = [habit.split("=") for habit in given]

    def start(role: Role, environment: Mapping[str, str], output: int) -> Child:
        command = _command(role, journal, [habit for habit, name in habits if name == role.name])
        return spawn(command, environment=environment, output=output, die_with_parent=signal.SIGKILL)

    async def nothing(_settings: Settings) -> None:
        pass

    try:
        asyncio.run(Up(load_settings(), Printer(sys.stdout, colour=False), prepare=nothing, start=start).run())
    except OttlaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _command(role: Role, journal: str, habits: list[str]) -> list[str]:
    return [sys.executable, "-m", "tests.supervisor.fake_role", role.name, str(role.port), journal, *habits]


if __name__ == "__main__":
    sys.exit(main())
