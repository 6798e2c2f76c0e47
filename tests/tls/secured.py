"""The whole path over TLS with logins, to a Kafka and a Cassandra that take nothing else: `make test-tls`.

The certificates beside this file are for 127.0.0.1, and their keys are no secret: made by `openssl req -x509` and `openssl x509 -req`.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from pydantic import SecretStr

from infra.cassandra.session import Cassandra, CassandraAwayError
from infra.errors import OttlaError
from infra.kafka.admin import KafkaUnreachableError, check_kafka
from infra.kafka.group_log import GroupLog
from infra.servers import wire
from infra.servers.cassandra import CASSANDRA
from infra.servers.kafka import KAFKA
from infra.servers.node import start_node, stop_node
from infra.servers.reach import check_servers
from infra.servers.state import ServerState, free_ports
from infra.settings import Settings
from infra.simulator.webhooks import text_body
from infra.tls import client_context
from schemas.ids import conversation_key
from schemas.topics import RAW
from tests.driver import ACCOUNT
from tests.installation import Installation

HERE = Path(__file__).parent
USER, PASSWORD = "ottla", "correct-horse"
PHONE = "15550001111"
_JAAS = "org.apache.kafka.common.security"


def _kafka() -> Sequence[str]:
    """Return properties of a listener for clients with TLS on both sides and a login, and a plain one for the broker itself."""
    return [
        "inter.broker.listener.name=INSIDE",
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:SASL_SSL",
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
        f'listener.name.outside.plain.sasl.jaas.config={_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        f"listener.name.outside.scram-sha-512.sasl.jaas.config={_JAAS}.scram.ScramLoginModule required;",
        "ssl.keystore.type=PEM",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={HERE / 'ca.pem'}",
        "listener.name.outside.ssl.client.auth=required",
    ]


def _configured_kafka(home: Path, state: ServerState, inside: int) -> Sequence[str]:
    (path,) = KAFKA.configure(home, state)
    both = home / "kafka" / "server-and-key.pem"
    both.write_text((HERE / "server.key").read_text() + (HERE / "server.pem").read_text())
    listeners = f"OUTSIDE://127.0.0.1:{state.port},INSIDE://127.0.0.1:{inside}"
    own = [
        f"listeners={listeners},CONTROLLER://127.0.0.1:{state.inner_port}",
        f"advertised.listeners={listeners}",
        f"ssl.keystore.location={both}",
        *_kafka(),
    ]
    with Path(path).open("a") as file:
        file.writelines(f"{line}\n" for line in own)
    return [path]


def _configured_cassandra(home: Path, state: ServerState) -> Sequence[str]:
    arguments = CASSANDRA.configure(home, state)
    path = home / "cassandra" / "cassandra.yaml"
    key, chain, trusted = ((HERE / name).read_text() for name in ("server.key", "server.pem", "ca.pem"))
    options = {
        "enabled": True,
        "optional": False,
        "require_client_auth": True,
        "ssl_context_factory": {
            "class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory",
            "parameters": {"private_key": key + chain, "trusted_certificates": trusted},
        },
    }
    own = {"client_encryption_options": options, "authenticator": "PasswordAuthenticator"}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | own))
    return arguments


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """Start both servers, and give settings that reach them."""
    home = tmp_path_factory.mktemp("secured")
    (inside,) = free_ports(1)
    scram = ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]

    def formatted(home: Path) -> Sequence[str]:
        assert KAFKA.format_command is not None
        command = list(KAFKA.format_command(home))
        return [*command[:2], *scram, *command[2:]] if command else []

    context = client_context("TEST", ca=HERE / "ca.pem", cert=HERE / "client.pem", key=HERE / "client.key")
    kafka = dataclasses.replace(
        KAFKA,
        configure=lambda home, state: _configured_kafka(home, state, inside),
        format_command=formatted,
        serves=lambda _: wire.kafka_serves(inside),
    )
    cassandra = dataclasses.replace(
        CASSANDRA, configure=_configured_cassandra, serves=lambda port: wire.cassandra_serves(port, tls=context)
    )
    nodes = await asyncio.gather(*(start_node(plan, home, die_with_parent=True) for plan in (kafka, cassandra)))
    own = {"ca": HERE / "ca.pem", "cert": HERE / "client.pem", "key": HERE / "client.key"}
    files: dict[str, Any] = {f"{server}_{name}": path for server in ("kafka", "cassandra") for name, path in own.items()}
    try:
        yield Settings(
            home=home,
            kafka=nodes[0].address,
            cassandra=nodes[1].address,
            worker="test",
            partitions=2,
            admin_key=SecretStr("test-admin-key"),
            whatsapp_app_secret=SecretStr("test-app-secret"),
            whatsapp_verify_token=SecretStr("test-verify-token"),
            whatsapp_token=SecretStr("test-token"),
            kafka_tls=True,
            kafka_user=USER,
            kafka_password=SecretStr(PASSWORD),
            cassandra_tls=True,
            cassandra_user="cassandra",
            cassandra_password=SecretStr("cassandra"),
            **files,
            _env_file=None,
        )
    finally:
        for node in nodes:
            await stop_node(node.plan, home)
            assert node.child is not None
            node.child.wait()


def variables(settings: Settings) -> dict[str, str]:
    """Return what a role needs to know besides what every installation of tests is told."""
    given = {}
    for name in Settings.model_fields:
        if name.startswith(("kafka_", "cassandra_")):
            value = getattr(settings, name)
            given[f"OTTLA_{name.upper()}"] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return given


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_a_message_is_answered_and_kept(settings: Settings, mechanism: str) -> None:
    """Every role logs in over TLS; the reply arrives, and history has both."""
    phone = PHONE + str(len(mechanism))
    chosen = settings.model_copy(update={"kafka_sasl": mechanism, "topic_prefix": f"{mechanism.lower()}-"})
    await check_servers(chosen)
    async with Installation(chosen, environment=variables(chosen), with_model=False) as installation:
        assert await installation.post(text_body(account=ACCOUNT, phone=phone, texts=[("wamid.1", "hello")], at_s=int(time.time()))) == 200
        conversation = conversation_key(channel="wa", account=ACCOUNT, contact=phone)
        async with asyncio.timeout(60):
            while True:
                _, found = await installation.get(f"/v1/conversations/{conversation}/messages")
                messages = found.get("messages", [])
                if {message["direction"] for message in messages} == {"in", "out"}:
                    break
                await asyncio.sleep(0.2)
    log = GroupLog(chosen, group="streams")
    assert sum([await log.committed(RAW.name, number) for number in range(chosen.partitions)]) > 0
    await log.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_who_is_not_let_in(settings: Settings, tmp_path: Path) -> None:
    """A wrong password, no TLS, an authority nobody trusts and a file that is none are each one sentence."""
    wrong = settings.model_copy(update={"kafka_password": SecretStr("wrong"), "cassandra_password": SecretStr("wrong")})
    plain = settings.model_copy(update={"kafka_tls": False, "cassandra_tls": False})
    stranger = settings.model_copy(update={f"{server}_ca": None for server in ("kafka", "cassandra")})
    for each in (wrong, plain, stranger):
        with pytest.raises(KafkaUnreachableError):
            await check_kafka(each, timeout_s=3)
        with pytest.raises(CassandraAwayError) as told:
            await Cassandra.connect(each)
        assert "wrong" not in str(told.value)
    noise = tmp_path / "noise.pem"
    noise.write_text("noise")
    with pytest.raises(OttlaError, match=f"OTTLA_KAFKA_CA={noise} cannot be used"):
        await check_kafka(settings.model_copy(update={"kafka_ca": noise}), timeout_s=3)
    with pytest.raises(OttlaError, match=f"OTTLA_CASSANDRA_CA={noise} cannot be used"):
        await Cassandra.connect(settings.model_copy(update={"cassandra_ca": noise}))
