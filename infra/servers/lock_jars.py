"""Write `jars.json` again: every jar of the two servers with size and SHA-256, resolved from the coordinates below.

Run as `python -m infra.servers.lock_jars` after changing a version. With the list in the repository, fetching needs no
resolving (a minute of small requests), gives everybody the same bytes, and refuses any other.
"""

import hashlib
import json
import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from jgo.maven import MavenContext
from jgo.parse import Endpoint

LOCK = Path(__file__).with_name("jars.json")
_SERVERS = {
    # Kafka alone, without kafka-tools: that one brings Connect with Jetty and Jersey, 40 jars that no broker needs.
    "kafka": ("4.1.1", "org.apache.kafka:kafka_2.13:4.1.1+org.slf4j:slf4j-simple:1.7.36"),
    "cassandra": ("5.0.6", "org.apache.cassandra:cassandra-all:5.0.6"),
}
# TLS by native code: our servers speak on loopback only, and Netty does without.
_NOT_NEEDED = ("netty-tcnative-boringssl-static",)

_log = logging.getLogger(__name__)


def main() -> None:
    """Resolve, download, hash and write."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder))
        lock = {name: {"version": version, "jars": _jars(context, coordinates)} for name, (version, coordinates) in _SERVERS.items()}
    LOCK.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")
    _log.warning("%s written", LOCK)


def _jars(context: Any, coordinates: str) -> list[dict[str, Any]]:
    wanted = [context.create_dependency(replace(part, scope="compile")) for part in Endpoint.parse(coordinates).coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    artifacts = [part.artifact for part in [*inputs, *(part for part in transitive if part.scope in ("compile", "runtime"))]]
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(_jar, [part for part in artifacts if part.artifactId not in _NOT_NEEDED]))


def _jar(artifact: Any) -> dict[str, Any]:
    data = Path(artifact.resolve()).read_bytes()
    coordinate = ":".join(filter(None, (artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier)))
    return {"coordinate": coordinate, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


if __name__ == "__main__":
    main()
