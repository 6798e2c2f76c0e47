"""/asyncapi.json says of every topic what it holds and who writes and reads it, and kept examples are what it says."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import schemas
from ingress.asyncapi import document
from schemas.topics import TOPICS

_EXAMPLES = Path(schemas.__file__).parent / "examples"
FOUND = document(prefix="my-", raw_days=21)


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return here + [each for value in part.values() for each in _references(value)]
    return [each for value in part for each in _references(value)] if isinstance(part, list) else []


def test_every_reference_leads_somewhere() -> None:
    """From channels to messages, from operations to channels, and among the schemas."""
    references = set(_references(FOUND))
    assert references
    for reference in references:
        place: Any = FOUND
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_topic_is_in_it() -> None:
    """Under its name at the broker, with how long it is kept, its events, and everybody who writes or reads it."""
    assert set(FOUND["channels"]) == {topic.name for topic in TOPICS}
    raw = FOUND["channels"]["raw"]
    assert raw["address"] == "my-raw"
    assert raw["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] == 21 * 86_400_000
    assert set(raw["messages"]) == {"WebhookPart", "RoutedPart", "CanaryEvent"}
    assert FOUND["operations"]["sender-receive-status"] == {"action": "receive", "channel": {"$ref": "#/channels/status"}}
    assert len(FOUND["operations"]) == sum(len(topic.producers) + len(topic.consumers) for topic in TOPICS)


@pytest.mark.parametrize("path", sorted(_EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_kept_examples_are_valid(path: Path) -> None:
    """Each by the schema of its event and version; with a field of another type it is not."""
    name, _, tag = path.stem.partition(".v")
    example = json.loads(path.read_text("utf-8"))
    message = _message(name, int(tag))
    validator = jsonschema_rs.validator_for({**message["payload"], "components": FOUND["components"]})
    assert [error.message for error in validator.iter_errors(example)] == []
    assert not validator.is_valid(example | {"v": "another"})


def _message(name: str, tag: int) -> dict[str, Any]:
    title = "".join(part.capitalize() for part in name.split("-"))
    for candidate in (f"{title}Event", title):
        if candidate in FOUND["components"]["messages"]:
            message: dict[str, Any] = FOUND["components"]["messages"][candidate]
            assert FOUND["components"]["schemas"][candidate]["properties"]["v"]["enum"] == [tag]
            return message
    raise AssertionError(name)
