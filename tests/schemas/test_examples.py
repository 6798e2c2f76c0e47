"""A kept example of each event in each version: what was written once can be read for ever."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import msgspec
import pytest

import schemas.events
from schemas.codec import Event, decode, encode
from schemas.topics import TOPICS

_EXAMPLES = Path(schemas.__file__).parent / "examples"
_NOT_HERE = {"original bytes", "ConversationRow"}
"""What topics hold beside our events: any bytes, and the streams' own table."""


def _events() -> dict[str, type[Event]]:
    for module in pkgutil.iter_modules(schemas.events.__path__):
        importlib.import_module(f"schemas.events.{module.name}")
    return {_kebab(event.__name__): event for event in _below(Event) if event.__module__.startswith("schemas.events.")}


def _below(event: type[Event]) -> list[type[Event]]:
    return [each for below in event.__subclasses__() for each in (below, *_below(below))]


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Event")).lower()


_EVENTS = _events()


def _version(event: type[Event]) -> int:
    return int(str(event.__struct_config__.tag))


def _example(name: str) -> bytes:
    return (_EXAMPLES / f"{name}.v{_version(_EVENTS[name])}.json").read_bytes()


def test_every_event_has_an_example() -> None:
    """Each event in its present version has one; older ones stay for as long as their version is read."""
    present = {f"{name}.v{_version(event)}.json" for name, event in _EVENTS.items()}
    assert present <= {path.name for path in _EXAMPLES.iterdir() if path.suffix == ".json"}
    assert len(present) == 12


def test_every_topic_holds_a_known_event() -> None:
    """The table of topics speaks of events that there are."""
    assert {event for topic in TOPICS for event in topic.event.split(", ")} == {event.__name__ for event in _EVENTS.values()} | _NOT_HERE


@pytest.mark.parametrize("name", sorted(_EVENTS))
def test_example_goes_round(name: str) -> None:
    """It is decoded, and written again it says the same."""
    event = decode(_example(name), _EVENTS[name])
    assert json.loads(encode(event)) == json.loads(_example(name))
    assert encode(decode(encode(event), _EVENTS[name])) == encode(event)


@pytest.mark.parametrize("name", sorted(_EVENTS))
def test_example_shows_every_field(name: str) -> None:
    """Each field of the event stands in it, with another value than where it is left out."""
    fields = {field.encode_name for field in msgspec.structs.fields(_EVENTS[name])}
    assert set(json.loads(_example(name))) == fields | {"v"}


@pytest.mark.parametrize("name", sorted(_EVENTS))
def test_other_versions_are_refused(name: str) -> None:
    """A record of a version this code does not know is not half understood."""
    later = json.loads(_example(name)) | {"v": _version(_EVENTS[name]) + 1}
    with pytest.raises(ValueError, match=_EVENTS[name].__name__):
        decode(json.dumps(later).encode(), _EVENTS[name])
