"""How a container finds out which replica it is: the script, with a name server of the test's own."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "docker" / "entrypoint.sh"


def run(folder: Path, *, getent: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script with commands that say what they are told here; its `ottla` shows who it is and what it was given."""
    commands = {"hostname": "echo 10.0.0.2 10.0.1.2", "getent": getent, "ottla": 'echo "$OTTLA_WORKER: $*"', "sleep": ":"}
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    variables = {"PATH": f"{folder}:/usr/bin:/bin", **environment}
    return subprocess.run(["sh", str(SCRIPT), "run", "streams"], env=variables, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    "getent",
    [
        'echo "$4  ottla-streams-2.ottla_servers"',
        # One network knows it, the other one does not.
        '[ "$4" = 10.0.1.2 ] && echo "$4  ottla-streams-2.ottla_servers" || exit 2',
        # Only the second time.
        '[ -e "$0.asked" ] && echo "$4  ottla-streams-2.ottla_servers" || { touch "$0.asked"; exit 2; }',
    ],
)
def test_a_replica_is_who_its_container_is(tmp_path: Path, getent: str) -> None:
    done = run(tmp_path, getent=getent, WORKER_FROM_CONTAINER_NAME="yes", OTTLA_WORKER="")
    assert (done.returncode, done.stdout) == (0, "ottla-streams-2: run streams\n"), done.stderr


def test_without_a_name_it_does_not_start(tmp_path: Path) -> None:
    """One that has no identity would get a made one, and with it no table and a group's wait for the one before."""
    done = run(tmp_path, getent="exit 2", WORKER_FROM_CONTAINER_NAME="yes", OTTLA_WORKER="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The name of this container could not be found out: set OTTLA_WORKER")


def test_elsewhere_the_name_is_as_it_is_set(tmp_path: Path) -> None:
    done = run(tmp_path, getent="exit 2", OTTLA_WORKER="pod-0")
    assert (done.returncode, done.stdout) == (0, "pod-0: run streams\n")
