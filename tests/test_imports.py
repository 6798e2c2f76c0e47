"""infra.imports, and what a role imports before it does anything: it is started again after a kill, so each package counts."""

import importlib
import subprocess
import sys

import pytest

from infra.imports import absent


def _imported(code: str) -> set[str]:
    """Return the top-level packages that a new Python has imported after this code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name, module in sys.modules.items() if module is not None})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_absent_is_not_found_and_then_found() -> None:
    with absent("wave"), pytest.raises(ImportError):
        importlib.import_module("wave")
    assert importlib.import_module("wave").open


def test_what_is_imported_already_stays() -> None:
    with absent("subprocess"):
        import subprocess as again
    assert again is subprocess


@pytest.mark.parametrize("role", ["ingress.app", "streams.app", "sinks.run, sinks.outbound_to_platform, sinks.events_to_history"])
def test_no_role_imports_what_it_does_not_use(role: str) -> None:
    """Rich draws tracebacks that no role shows, NumPy is for rows as arrays: half a second of a start under load."""
    assert not {"rich", "pygments", "numpy", "faust.web"} & _imported(f"import infra.cli.run, {role}")
