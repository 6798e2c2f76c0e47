"""The command line `ottla`: one module of this package per command, each with a `click` command named `command`.

Only the module of the command that is called gets imported, so that every command starts fast. Errors that a person can act on
are one sentence on standard error and an exit code: 1 failed, 2 usage, 3 not found, 4 refused as unsafe.
"""

import contextlib
import importlib
import os
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

import click

from infra.errors import FAILED, USAGE, OttlaError

_INTERRUPTED = 130
_LARGEST_ERROR_LOG_BYTES = 1_000_000


class Commands(click.Group):
    """Commands found as modules of this package: `dead-letters` is `dead_letters.py`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name every module that defines a command."""
        return [name for name in _module_names() if _load(name) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the module of this command alone."""
        return _load(cmd_name) if cmd_name in _module_names() else None


def _module_names() -> list[str]:
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def _load(name: str) -> click.Command | None:
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    found = getattr(module, "command", None)
    return found if isinstance(found, click.Command) else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ottla", message="%(prog)s %(version)s")
def ottla() -> None:
    """Ottla: webhooks in, Kafka in the middle, agents answering, history in Cassandra."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(arguments: list[str]) -> int:
    """Run a command line and return its exit code; a command may return one, or raise what has one."""
    try:
        returned = ottla.main(arguments, prog_name="ottla", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "ottla"
        return _say(f"{error.format_message().rstrip('.')} (`{path} --help` shows what is possible).", USAGE)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except OttlaError as error:
        return _say(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read us has seen enough, as in `ottla tail | head`; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last resort for what nobody foresaw
        return _say_unforeseen(error)
    return returned if isinstance(returned, int) else 0


def _say(sentence: str, code: int) -> int:
    click.echo(sentence, err=True)
    return code


def _say_unforeseen(error: Exception) -> int:
    if os.environ.get("OTTLA_LOG_LEVEL", "").lower() == "debug":
        traceback.print_exception(error)
        return FAILED
    # Loaded where it is needed: most commands never do.
    from infra.masking import masked_error

    details = masked_error("".join(traceback.format_exception(error)))
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} ottla {' '.join(_harmless(sys.argv[1:]))}\n{details}\n"
    first_line = (str(error).splitlines() or [""])[0][:200]
    path = _write_error(text)
    return _say(f"This should not happen: {type(error).__name__}: {first_line} ({path} has the details).", FAILED)


def _harmless(arguments: list[str]) -> list[str]:
    """Return a command line without what somebody wrote or is known by: the command, and the names of options."""
    command = [word for word in arguments[:1] if word in _module_names()]
    return command + [word.partition("=")[0] if word.startswith("-") else "..." for word in arguments[len(command) :]]


def _write_error(text: str) -> Path:
    """Add to a file that nobody else may read and return it."""
    home = Path(os.environ.get("OTTLA_HOME") or ".ottla")
    for path in (home.absolute() / "logs" / "ottla-error.log", Path(tempfile.gettempdir()) / f"ottla-error-{os.getuid()}.log"):
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            is_large = path.exists() and path.stat().st_size >= _LARGEST_ERROR_LOG_BYTES
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if is_large else os.O_APPEND)
            with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as log:
                os.fchmod(log.fileno(), 0o600)
                log.write(text)
            return path
    return Path(os.devnull)
