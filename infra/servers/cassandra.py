"""How the local Cassandra is configured: one node on loopback, with small caches and without remote management."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from infra.servers import wire
from infra.servers.plan import Plan
from infra.servers.state import ServerState

_TITLE, _NAME = "Cassandra", "cassandra"
_MODULE_OPTIONS = Path(__file__).with_name("cassandra-jvm17.options")
# Warnings and what a start consists of; at INFO every flush and compaction would be a line.
_LOGGING = """<configuration>
 <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
  <encoder><pattern>%date{yyyy-MM-dd'T'HH:mm:ss.SSS} [%thread] %level %logger{0} - %msg%n</pattern></encoder>
 </appender>
 <logger name="org.apache.cassandra.service.CassandraDaemon" level="INFO"/>
 <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"""


def _settings(folder: Path, state: ServerState) -> dict[str, Any]:
    seeds = {"seeds": f"127.0.0.1:{state.inner_port}"}
    return {
        "cluster_name": "ottla",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "data_file_directories": [str(folder / "data")],
        "commitlog_directory": str(folder / "commitlog"),
        "saved_caches_directory": str(folder / "saved_caches"),
        "hints_directory": str(folder / "hints"),
        "cdc_raw_directory": str(folder / "cdc_raw"),
        "listen_address": "127.0.0.1",
        "storage_port": state.inner_port,
        "rpc_address": "127.0.0.1",
        "native_transport_port": state.port,
        "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [seeds]}],
        "auto_bootstrap": False,
        "hinted_handoff_enabled": False,
        "auto_snapshot": False,
        # A node whose disk failed or is full must be seen to have died, not go on refusing everything.
        "disk_failure_policy": "die",
        "commit_failure_policy": "die",
        # What is acknowledged must survive a kill: of a `periodic` log the part behind its last mark is not replayed, 0.1 s of writes
        # on average. What comes together shares one write to the disk.
        "commitlog_sync": "batch",
        "commitlog_total_space": "256MiB",
        # Files mapped into memory count as memory of the process; through the bounded cache they do not grow.
        "disk_access_mode": "standard",
        "file_cache_size": "32MiB",
        "networking_cache_size": "16MiB",
        "memtable_allocation_type": "offheap_objects",
        "memtable_heap_space": "64MiB",
        "memtable_offheap_space": "48MiB",
        "memtable_flush_writers": 1,
        "key_cache_size": "4MiB",
        "row_cache_size": "0MiB",
        "counter_cache_size": "0MiB",
        "prepared_statements_cache_size": "4MiB",
        # History writes small rows to many partitions at once; on one node that is no detour, and a large request costs less than many.
        "batch_size_warn_threshold": "32KiB",
        "batch_size_fail_threshold": "320KiB",
        "unlogged_batch_across_partitions_warn_threshold": 100,
        "concurrent_reads": 8,
        "concurrent_writes": 8,
        "concurrent_counter_writes": 2,
        "concurrent_materialized_view_writes": 2,
        "concurrent_compactors": 1,
        "native_transport_max_threads": 8,
        # With everything on two cores a slow answer is better than none.
        "read_request_timeout": "15s",
        "range_request_timeout": "20s",
        "write_request_timeout": "15s",
        "request_timeout": "15s",
    }


def _configure(home: Path, state: ServerState) -> Sequence[str]:
    folder = home / _NAME
    (folder / "cassandra.yaml").write_text(yaml.safe_dump(_settings(folder, state)), encoding="utf-8")
    (folder / "logback.xml").write_text(_LOGGING, encoding="utf-8")
    return []


def _jvm_options(home: Path) -> Sequence[str]:
    folder = home / _NAME
    modules = _MODULE_OPTIONS.read_text(encoding="utf-8").split()
    return [
        *modules,
        "-Xms192m",
        "-Xmx448m",
        "-Xss256k",
        "-XX:MaxDirectMemorySize=128m",
        # On two cores that everything shares, starting fast and compiling little is worth more than peak speed.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        # Newer Java than 17 needs to be told that Cassandra's use of the security manager is meant.
        "-Djava.security.manager=allow",
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Djna.tmpdir={folder / 'tmp'}",
        f"-Dcassandra.storagedir={folder}",
        f"-Dcassandra.config={(folder / 'cassandra.yaml').as_uri()}",
        f"-Dlogback.configurationFile={folder / 'logback.xml'}",
        "-Dcassandra-foreground=yes",
        # One node has nobody to gossip with, to wait for, or to tell that it leaves.
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.ring_delay_ms=100",
        "-Dcassandra.shutdown_announce_in_ms=0",
        # Netty keeps freed buffers per thread and arena; by default two arenas a core.
        "-Dio.netty.allocator.numHeapArenas=1",
        "-Dio.netty.allocator.numDirectArenas=2",
        "-Dio.netty.tryReflectionSetAccessible=true",
    ]


CASSANDRA = Plan(
    name=_NAME,
    title=_TITLE,
    main_class="org.apache.cassandra.service.CassandraDaemon",
    configure=_configure,
    jvm_options=_jvm_options,
    serves=wire.cassandra_serves,
)
