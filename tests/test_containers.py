"""Where the tests' servers come from, and how the images are told to be as the local servers are."""

import pytest

from tests.containers import ContainersError, Source, cassandra_environment, chosen_source, kafka_environment


@pytest.mark.parametrize(
    ("kafka", "wanted", "engine", "source"),
    [
        ("k:1", "", True, "given"),
        ("k:1", "containers", False, "given"),
        ("", "", True, "containers"),
        ("", "", False, "local"),
        ("", "local", True, "local"),
        ("", "containers", True, "containers"),
    ],
)
def test_given_servers_come_first_then_containers_then_local_ones(kafka: str, wanted: str, engine: bool, source: Source) -> None:
    assert chosen_source(kafka=kafka, cassandra=kafka, wanted=wanted, engine_answers=lambda: engine) == source


@pytest.mark.parametrize(("wanted", "words"), [("containers", "no Docker engine answers"), ("docker", "set it to containers or local")])
def test_what_cannot_be_is_said(wanted: str, words: str) -> None:
    """Who asks for containers gets no local servers instead; a typing error is found."""
    with pytest.raises(ContainersError, match=words):
        chosen_source(kafka="", cassandra="", wanted=wanted, engine_answers=lambda: False)


def test_an_engine_is_not_asked_for_nothing() -> None:
    """Neither with servers given nor with local ones asked for."""

    def never() -> bool:
        raise AssertionError

    assert chosen_source(kafka="k:1", cassandra="c:1", wanted="", engine_answers=never) == "given"
    assert chosen_source(kafka="", cassandra="", wanted="local", engine_answers=never) == "local"


def test_the_images_are_told_what_the_local_servers_are() -> None:
    """By variables alone; paths and addresses are the container's, but the one that clients are told."""
    kafka = kafka_environment(12345)
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:12345"
    assert (kafka["KAFKA_LISTENERS"], kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"]) == (
        "PLAINTEXT://:9092,CONTROLLER://:9093",
        "1@localhost:9093",
    )
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    options = cassandra_environment()["JVM_EXTRA_OPTS"].split()
    assert "-Dcassandra.settings.commitlog_sync=batch" in options
    assert "-Dcassandra.settings.write_request_timeout=15s" in options
