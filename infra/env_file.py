"""The file `.env` beside which a command is run: read as python-dotenv reads it, but a broken line is an error and not skipped."""

from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from infra.errors import UsageError

ENV_FILE = Path(".env")


class EnvFileError(UsageError):
    """A `.env` that cannot be read as it is; the text names the line, and never shows it, for it may hold a secret."""


def read_env_file(path: Path = ENV_FILE) -> dict[str, str]:
    """Return the variables of the file, none if there is no file; EnvFileError for a line that is not NAME=value."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
        for binding in bindings:
            if binding.error or (binding.key and binding.value is None):
                raise EnvFileError(f"{path} line {_line(binding)} is not NAME=value: correct it, or put # before it.")
        return {name: value for name, value in dotenv_values(path, encoding="utf-8").items() if value is not None}
    except UnicodeDecodeError:
        raise EnvFileError(f"{path} is not UTF-8 text: save it again as UTF-8.") from None
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read: {error.strerror}.") from None


def _line(binding: Binding) -> int:
    # The parser counts blank lines before a binding as part of it.
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
