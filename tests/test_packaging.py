"""What an installed Ottla has: the image is one, while development works in the tree."""

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("infra", "ingress", "schemas", "sinks", "streams")
# Read by Docker and Prometheus from the tree, by nothing that is installed.
NOT_INSTALLED = ("infra/docker/*", "infra/monitoring/*")


def test_every_file_of_a_package_is_installed() -> None:
    """A template, picture or table that no pattern names would be missing where Ottla is installed, and only there."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    data = [name for name in listed if not name.endswith(".py") and not any(fnmatch(name, each) for each in NOT_INSTALLED)]
    assert len(data) > 100
    assert [name for name in data if not any(fnmatch(Path(name).name, pattern) for pattern in patterns)] == []
