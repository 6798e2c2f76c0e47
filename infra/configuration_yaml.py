"""The YAML file of `ottla apply`: read with the line of everything in it, so that a mistake can name its line.

Every value is taken as the text it is written as: a phone number id stays what it is without quotes, `no` stays no. Secrets may be
`${NAME}`, which is read from the environment or `.env`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import msgspec
import yaml

from infra.env_file import read_env_file
from infra.errors import UsageError
from schemas.config_file import SECRET_FIELDS, Mistake, Path

_FILE_BYTES_MAX = 4 << 20
_DEPTH = 4  # sections, entries, fields and their values: nothing that may be there lies deeper
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ConfigurationYaml(msgspec.Struct, frozen=True):
    """A file's document, the line of each path in it, and what is wrong with it already as YAML."""

    document: Any
    lines: dict[Path, int]
    mistakes: tuple[Mistake, ...]

    def line(self, path: Path) -> int:
        """Return the line of a path, or of the nearest one above it that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_configuration_yaml(file: FilePath) -> ConfigurationYaml:
    """Return what is in a file; UsageError if it cannot be read or is not YAML at all."""
    try:
        text = file.read_bytes()
        if len(text) > _FILE_BYTES_MAX:
            raise UsageError(f"{file} is larger than {_FILE_BYTES_MAX >> 20} MiB: apply it in parts.")
        node = yaml.compose(text.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text: save it again as UTF-8.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(_not_yaml(file, error)) from None
    lines: dict[Path, int] = {}
    mistakes: list[Mistake] = []
    document = _read(node, (), lines, mistakes) if node is not None else None
    for entry, path in _entries(document):
        _fill_secrets(entry, path, mistakes)
        _find_knowledge(entry, file.resolve().parent)
    return ConfigurationYaml(document, lines, tuple(mistakes))


def _not_yaml(file: FilePath, error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{file} is not YAML: see https://yaml.org for how lists and fields are written."
    # The mark's own text would show the line, which may hold a secret.
    problem = re.sub(r"'[^']{3,}'", "what stands there", error.problem or "it cannot be read")
    return f"{file} line {error.problem_mark.line + 1} is not YAML: {problem}."


def _read(node: yaml.Node, path: Path, lines: dict[Path, int], mistakes: list[Mistake]) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if len(path) >= _DEPTH:
        # Not followed further, so that a few lines of references cannot grow without end.
        return []
    if isinstance(node, yaml.SequenceNode):
        return [_read(item, (*path, number), lines, mistakes) for number, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if key in found:
            lines[*path, key, "again"] = key_node.start_mark.line + 1
            mistakes.append(Mistake((*path, key, "again"), f"`{key}` stands twice in one place."))
        found[key] = _read(value_node, (*path, key), lines, mistakes)
    return found


def _entries(document: Any) -> Iterator[tuple[dict[str, Any], Path]]:
    for section, listed in document.items() if isinstance(document, dict) else ():
        for number, entry in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(entry, dict):
                yield entry, (section, number)


def _fill_secrets(entry: dict[str, Any], path: Path, mistakes: list[Mistake]) -> None:
    for field in SECRET_FIELDS.intersection(entry):
        for name in _REFERENCE.findall(entry[field]) if isinstance(entry[field], str) else ():
            value = os.environ.get(name) or read_env_file().get(name)
            if value is None:
                mistakes.append(Mistake((*path, field), f"The environment variable {name} is not set."))
            else:
                entry[field] = entry[field].replace(f"${{{name}}}", value)


def _find_knowledge(entry: dict[str, Any], folder: FilePath) -> None:
    """Name knowledge that lies beside the file by its whole path, as the workers run elsewhere."""
    knowledge = entry.get("knowledge")
    if isinstance(knowledge, str) and knowledge and (folder / knowledge).is_file():
        entry["knowledge"] = str(folder / knowledge)
