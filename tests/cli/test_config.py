"""`ottla config` and `ottla doctor` from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import Settings

NOT_SECRET = "do-not-show-me"


def _ottla(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_config_shows_every_setting_and_no_secret(tmp_path: Path) -> None:
    """Each setting has a row with value, origin and help; secrets are masked; nothing is made by looking."""
    (tmp_path / ".env").write_text(f"OTTLA_AI_KEY={NOT_SECRET}\n")
    done = _ottla(tmp_path, "config", "-o", "json", OTTLA_PORT="9001", OTTLA_ADMIN_KEY=NOT_SECRET, OTTLA_PROT="1")
    assert done.returncode == 0
    rows = {row["variable"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {f"OTTLA_{name.upper()}" for name in Settings.model_fields}
    assert (rows["OTTLA_PORT"]["value"], rows["OTTLA_PORT"]["origin"]) == (9001, "environment")
    assert (rows["OTTLA_AI_KEY"]["value"], rows["OTTLA_AI_KEY"]["origin"]) == ("***", ".env")
    assert (rows["OTTLA_WHATSAPP_TOKEN"]["value"], rows["OTTLA_WHATSAPP_TOKEN"]["origin"]) == ("***", "made")
    assert rows["OTTLA_HOME"]["value"] == str(tmp_path / ".ottla")
    assert done.stderr == "OTTLA_PROT in the environment is no setting: did you mean OTTLA_PORT?\n"
    assert NOT_SECRET not in done.stdout
    assert not (tmp_path / ".ottla").exists()


def test_config_for_people(tmp_path: Path) -> None:
    """The table has a head and one line for each setting."""
    done = _ottla(tmp_path, "config")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["setting", "value", "from", "meaning"]
    assert [line.split()[0] for line in lines] == [f"OTTLA_{name.upper()}" for name in Settings.model_fields]


@pytest.mark.parametrize("command", ["config", "up", "topics list", "infra status"])
@pytest.mark.parametrize(
    ("env_file", "environment", "sentence"),
    [
        (f"OTTLA_AI_KEY {NOT_SECRET}", {}, ".env line 1 is not NAME=value: correct it, or put # before it.\n"),
        ("", {"OTTLA_PORT": "x"}, "OTTLA_PORT cannot be used: input should be a valid integer, unable to parse string as an integer.\n"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path: Path, command: str, env_file: str, environment: dict[str, str], sentence: str) -> None:
    """A broken `.env` or setting ends any command with its sentence and exit code 2."""
    (tmp_path / ".env").write_text(env_file)
    done = _ottla(tmp_path, *command.split(), **environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_doctor_tells_bad_settings_as_well(tmp_path: Path) -> None:
    """What keeps every other command from starting is a finding of the doctor."""
    done = _ottla(tmp_path, "doctor", "-o", "json", OTTLA_KAFKA="nowhere")
    assert done.returncode == 1
    assert json.loads(done.stdout) == [
        {"check": "settings", "state": "problem", "message": "OTTLA_KAFKA cannot be used: 'nowhere' is not host:port."}
    ]


def test_doctor_on_nothing(tmp_path: Path, unused_tcp_port: int) -> None:
    """With nothing running the doctor says what to start, and exits with 1."""
    done = _ottla(tmp_path, "doctor", OTTLA_PORT=str(unused_tcp_port))
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok") and "settings" in line for line in lines)
    assert any(line.startswith("PROBLEM  kafka") and "`ottla infra up`" in line for line in lines)
    assert any(line.startswith("PROBLEM  ingress") and "`ottla up`" in line for line in lines)


@pytest.mark.parametrize("arguments", [["apply"], ["apply", "missing.yaml"], ["apply", "wrong.yaml"], ["config", "-o", "xml"]])
def test_wrong_usage_is_two(tmp_path: Path, arguments: list[str]) -> None:
    """A missing argument, a missing file, wrong YAML and an unknown form are one sentence and exit code 2."""
    (tmp_path / "wrong.yaml").write_text("tenants: [")
    done = _ottla(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_apply_without_an_ingress(tmp_path: Path, unused_tcp_port: int) -> None:
    """A right file and nobody to give it to is one sentence and exit code 1."""
    (tmp_path / "shop.yaml").write_text("tenants:\n- id: shop\n")
    done = _ottla(tmp_path, "apply", "shop.yaml", OTTLA_PORT=str(unused_tcp_port))
    assert done.returncode == 1
    assert done.stderr == f"No ingress listens at http://127.0.0.1:{unused_tcp_port}: start one with `ottla up`.\n"
