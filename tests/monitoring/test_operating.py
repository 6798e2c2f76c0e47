"""The operator's guide: every alert is in it, it names no alert, metric, command or setting that does not exist."""

import re

import click

from infra.cli import ottla
from infra.settings import Settings
from tests.monitoring.names import exposed_names
from tests.monitoring.test_alerts import FOLDER, RULES

TEXT = (FOLDER / "OPERATING.md").read_text("utf-8")


def test_every_alert_is_explained() -> None:
    """Each once, with what it means, where to look and what to do, and no other."""
    sections = re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]
    assert sorted(section.split("\n", 1)[0] for section in sections) == sorted(rule["alert"] for rule in RULES)
    for section in sections:
        assert [word for word in ("Means", "Look", "Do") if f"**{word}:**" in section] == ["Means", "Look", "Do"]


def test_its_metrics_are_exposed() -> None:
    """A name that is looked for is there."""
    named = set(re.findall(r"`(ottla_\w+)`", TEXT))
    assert named
    assert named <= exposed_names()


def test_its_commands_exist() -> None:
    """With their subcommands and options."""
    given = set(re.findall(r"`ottla ([^`]+)`", TEXT))
    assert given
    for words in given:
        command: click.Command = ottla
        with click.Context(ottla) as context:
            for word in words.split():
                if word.startswith("--"):
                    assert word in {option for parameter in command.params for option in parameter.opts}, words
                elif isinstance(command, click.Group):
                    found = command.get_command(context, word)
                    assert found is not None or command.invoke_without_command, words
                    command = found or command


def test_its_settings_exist() -> None:
    """By the names of the environment."""
    named = set(re.findall(r"`(OTTLA_[A-Z_]+)", TEXT))
    assert named
    assert named <= {f"OTTLA_{name.upper()}" for name in Settings.model_fields}
