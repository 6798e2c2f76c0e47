"""The structure that ARCHITECTURE.md promises: who may import whom, and that the documents say what the code says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.topics import markdown_table

ROOT = Path(__file__).parents[1]
ROLES = {"ingress", "streams", "sinks"}
FORBIDDEN = {
    "ingress": {"streams", "sinks"},
    "streams": {"ingress", "sinks"},
    "sinks": {"ingress", "streams"},
    "infra": ROLES,
    "schemas": ROLES | {"infra", "faust", "aiokafka", "confluent_kafka", "cassandra", "aiohttp", "starlette"},
}


def modules(package: str) -> Iterator[Path]:
    """Yield the Python files of a package."""
    return (ROOT / package).rglob("*.py")


def imports(path: Path) -> set[str]:
    """Return the top-level names that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_import_only_what_they_may(package: str) -> None:
    """The roles never import each other, infra imports no role, schemas imports none of ours and no client."""
    wrong = {str(path.relative_to(ROOT)): found for path in modules(package) if (found := imports(path) & FORBIDDEN[package])}
    assert wrong == {}


def test_the_check_of_imports_can_fail(tmp_path: Path) -> None:
    """An import inside a function is found as well."""
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from streams.app import app\n    import sinks.runner\n")
    assert imports(path) >= {"streams", "sinks"}


def test_channels_do_no_input_or_output() -> None:
    """A channel is a pure translator: no sockets, files, clocks or randomness."""
    forbidden = {"socket", "asyncio", "time", "random", "secrets", "os", "pathlib", "uuid", "threading"}
    wrong = {str(path): found for path in modules("schemas/channels") if (found := imports(path) & forbidden)}
    assert wrong == {}


def test_architecture_has_the_topics_as_they_are() -> None:
    """The table of topics in ARCHITECTURE.md is the one in the code (`python -m schemas.topics` prints it)."""
    assert markdown_table() in (ROOT / "ARCHITECTURE.md").read_text()


def test_documents_name_only_files_that_exist() -> None:
    """A path in backticks in README.md or ARCHITECTURE.md is there."""
    missing = []
    for document in ("README.md", "ARCHITECTURE.md"):
        for word in (ROOT / document).read_text().split("`")[1::2]:
            is_path = (
                "/" in word
                and not word.startswith(("/", "http"))
                and " " not in word
                and word.partition("/")[0] in FORBIDDEN | {"tests": 0}
            )
            if is_path and "*" not in word and not (ROOT / word).exists():
                missing.append(f"{document}: {word}")
    assert missing == []
