"""Cassandra from asyncio.

The driver answers on a thread of its own. Answers are collected there and the event loop is woken once for a whole burst of them, which
is what makes the bridge cheap. Everything is prepared, bounded and idempotent; connecting makes missing tables (see migrate).
"""

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any

from cassandra import ConsistencyLevel, DriverException, OperationTimedOut, ProtocolVersion, Timeout, Unauthorized, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    HostFilterPolicy,
    LoadBalancingPolicy,
    TokenAwarePolicy,
)
from cassandra.query import BatchStatement, BatchType, SimpleStatement, dict_factory

from infra.cassandra.binding import Binder, Limits, Write
from infra.cassandra.connection import security_options
from infra.cassandra.measured import measured, name_of
from infra.cassandra.migrate import migrate
from infra.errors import OttlaError
from infra.retries import AwayError
from infra.settings import Settings

Row = dict[str, Any]

KEYSPACE = "@."
"""Stands before a table's name for the installation's keyspace, in statements with parameters."""

_IN_FLIGHT_MAX = 512
_REQUEST_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
# A node that is frozen, or cut off, takes connections and does not answer. The driver would notice after a minute; until then what goes
# to it is asked of another one as well (infra/decisions/0028-silent-servers.md).
_HEARTBEAT_S, _HEARTBEAT_ANSWER_S = 5, 10  # as long as any answer may take
_ASK_ANOTHER_S, _NODES_MORE = 1.0, 1  # not of all: where all are slow that would make them slower still
_FETCH_ROWS = 5_000
_AWAY = (NoHostAvailable, OperationTimedOut, Timeout, Unavailable, ConnectionException)
_REASON_LENGTH_MAX = 160
_WARNS_OF_SIZE, _WARNS_OF_PARTITIONS = "batch_size_warn_threshold", "unlogged_batch_across_partitions_warn_threshold"
_SELECT_LIMITS = f"SELECT name, value FROM system_views.settings WHERE name IN ('{_WARNS_OF_SIZE}', '{_WARNS_OF_PARTITIONS}')"  # noqa: S608
_SIZE = re.compile(r"(\d+)(B|KiB|MiB)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_SAID_BY_US = ("Control connection failed to connect", "[control connection] Error connecting to", "Error attempting to reconnect to")


class CassandraAwayError(AwayError, OttlaError):
    """Cassandra does not answer; what was asked of it may be asked again."""


@dataclass(eq=False, slots=True)
class _Call:
    """A request under way: who waits for it and the rows that came so far."""

    waiter: asyncio.Future[list[Row]]
    response: Any = None
    rows: list[Row] = field(default_factory=list)


class Cassandra:
    """A session in the installation's keyspace. Make it with `connect`, give it back with `close`; it belongs to one event loop."""

    def __init__(self, cluster: Any, session: Any) -> None:
        self._cluster = cluster
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._keyspace: str | None = None
        self._room = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._prepared: dict[str, asyncio.Task[Any]] = {}
        self._binders: dict[str, Binder] = {}
        self._limits: Limits | None = None
        self._answers: deque[tuple[_Call, list[Row] | None, BaseException | None]] = deque()
        self._woken = False

    @classmethod
    async def connect(cls, settings: Settings) -> "Cassandra":
        """Connect, make the tables that are missing and use the installation's keyspace.

        Raises CassandraAwayError when no node answers, and MigrationError when the tables are not what this version needs.
        """
        opening = asyncio.create_task(asyncio.to_thread(_open, settings))
        try:
            cluster, session = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_shut_down_late)
            raise
        cassandra = cls(cluster, session)
        try:
            await migrate(cassandra, keyspace=settings.keyspace)
        except BaseException:
            await cassandra.close()
            raise
        return cassandra

    def use(self, keyspace: str) -> None:
        """Make `keyspace` the one of names that say none; it goes with each request, so `USE` is not needed."""
        self._keyspace = keyspace

    async def prepare(self, cql: str) -> Any:
        """Return the prepared statement of `cql`; asked for again, it is the same one."""
        task = self._prepared.get(cql)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        if task is None:
            task = self._prepared[cql] = asyncio.create_task(asyncio.to_thread(self._prepare, cql))
        try:
            return await asyncio.shield(task)
        except Exception as error:
            if self._prepared.get(cql) is task:
                del self._prepared[cql]
            if isinstance(error, _AWAY):
                raise CassandraAwayError(f"Cassandra does not answer ({_reason(error)}).") from error
            raise

    def _prepare(self, cql: str) -> Any:
        # Names without a keyspace would make a prepared statement ambiguous to the server, and it would warn of each.
        prepared = self._session.prepare(cql.replace(KEYSPACE, f'"{self._keyspace}".'))
        # Every write names its own timestamp and replaces equal by equal: sending it again does no harm, so the driver may. Only what
        # depends on what is there (IF) has another answer the second time.
        prepared.is_idempotent = " IF " not in cql
        return prepared

    async def execute(self, statement: Any, parameters: Sequence[Any] = (), *, timeout_s: float = _REQUEST_TIMEOUT_S) -> list[Row]:
        """Run a CQL text (prepared if it has parameters) or a prepared statement; return all rows as dicts.

        Raises CassandraAwayError when nobody answered in `timeout_s` seconds, and the driver's own errors for what it refuses.
        """
        if isinstance(statement, str):
            statement = await self.prepare(statement) if parameters else SimpleStatement(statement, keyspace=self._keyspace)
        with measured(name_of(statement.query_string)):
            return await self._run(statement, parameters or None, timeout_s)

    async def bind(self, cql: str, values: Sequence[Any]) -> Write:
        """Return a write (an INSERT, UPDATE or DELETE that names its partition) with its values, none of them None, ready to be run."""
        binder = self._binders.get(cql)
        if binder is None:
            binder = self._binders[cql] = Binder(cql, await self.prepare(cql), self._cluster.protocol_version)
        return binder.bind(values)

    async def limits(self) -> Limits:
        """Return what the server says of the size of requests to several partitions; its defaults where it does not say."""
        if self._limits is None:
            try:
                found = {row["name"]: row["value"] for row in await self.execute(_SELECT_LIMITS)}
            except Unauthorized:
                found = {}
            size = _SIZE.fullmatch(found.get(_WARNS_OF_SIZE) or "")
            partitions = found.get(_WARNS_OF_PARTITIONS) or ""
            self._limits = Limits(
                int(size[1]) * _UNITS[size[2]] if size else Limits().size, int(partitions) if partitions.isdigit() else Limits().partitions
            )
        return self._limits

    def nodes_of(self, write: Write) -> Hashable:
        """Return what writes have in common whose rows are kept by the same nodes; None where that is not known."""
        metadata = self._cluster.metadata
        if len(metadata.all_hosts()) == 1:
            return ()
        return frozenset(host.host_id for host in metadata.get_replicas(self._keyspace, write.statement.routing_key)) or None

    async def execute_batch(self, writes: Sequence[Write]) -> None:
        """Run writes in one request. Those to one partition happen together, all of them or none; the partitions are not bound together."""
        if len(writes) == 1:
            statement, name = writes[0].statement, name_of(writes[0].cql)
        else:
            # Named by what takes the most of it: which write comes first says nothing.
            largest = max(writes, key=attrgetter("size"))
            statement, name = BatchStatement(BatchType.UNLOGGED), f"batch {name_of(largest.cql)}"
            statement.is_idempotent = True
            for write in writes:
                statement.add(write.statement)
        with measured(name):
            await self._run(statement, None, _REQUEST_TIMEOUT_S)

    async def schema_agreement(self) -> bool:
        """Wait until all nodes know the same tables; False if they don't after the driver's patience."""
        agreed: bool = await asyncio.to_thread(self._cluster.control_connection.wait_for_schema_agreement)
        return agreed

    async def close(self) -> None:
        """End all connections."""
        await asyncio.gather(*self._prepared.values(), return_exceptions=True)
        await asyncio.to_thread(self._cluster.shutdown)

    async def _run(self, statement: Any, parameters: Sequence[Any] | None, timeout_s: float) -> list[Row]:
        async with self._room:
            call = _Call(self._loop.create_future())
            try:
                call.response = self._session.execute_async(statement, parameters, timeout=timeout_s)
                call.response.add_callbacks(self._came, self._failed, callback_args=(call,), errback_args=(call,))
                return await call.waiter
            except _AWAY as error:
                raise CassandraAwayError(f"Cassandra does not answer ({_reason(error)}).") from error

    # The next two are called on the driver's thread.
    def _came(self, rows: list[Row] | None, call: _Call) -> None:
        self._answer(call, rows or [], None)

    def _failed(self, error: BaseException, call: _Call) -> None:
        self._answer(call, None, error)

    def _answer(self, call: _Call, rows: list[Row] | None, error: BaseException | None) -> None:
        self._answers.append((call, rows, error))
        if not self._woken:
            self._woken = True
            # The loop is closed when the process ends in the middle of a request: nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        # Before the first is taken, so that an answer that comes while we are here wakes us again.
        self._woken = False
        while self._answers:
            call, rows, error = self._answers.popleft()
            if call.waiter.done():
                continue
            if error is not None:
                call.waiter.set_exception(error)
                continue
            call.rows.extend(rows or ())
            if call.response.has_more_pages:
                call.response.start_fetching_next_page()
            else:
                call.waiter.set_result(call.rows)


def _open(settings: Settings) -> tuple[Any, Any]:
    """Connect, on a thread because the driver does it while the caller waits."""
    servers = settings.cassandra
    if not servers:
        raise CassandraAwayError("No Cassandra is known: start one with `ottla infra up` or set OTTLA_CASSANDRA=host:port.")
    addresses = [(host, int(port)) for host, _, port in (server.strip().rpartition(":") for server in servers.split(",") if server)]
    profile = ExecutionProfile(
        load_balancing_policy=_policy(addresses),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=_REQUEST_TIMEOUT_S,
        row_factory=dict_factory,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(_ASK_ANOTHER_S, _NODES_MORE),
    )
    cluster = Cluster(
        contact_points=addresses,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=ProtocolVersion.V5,
        # For ever: the default gives up after 64 tries, and a role outlives an hour without its database.
        reconnection_policy=ExponentialReconnectionPolicy(0.2, 2.0, max_attempts=None),
        connect_timeout=_CONNECT_TIMEOUT_S,
        control_connection_timeout=_CONNECT_TIMEOUT_S,
        idle_heartbeat_interval=_HEARTBEAT_S,
        idle_heartbeat_timeout=_HEARTBEAT_ANSWER_S,
        monitor_reporting_enabled=False,
        **security_options(settings),
        # The driver writes pieces of 4 KiB: without this, the second piece of a batch waits 40 ms for the first one's acknowledgement.
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    for name in ("cassandra.cluster", "cassandra.connection", "cassandra.pool"):
        logging.getLogger(name).addFilter(_quieted)
    try:
        session = cluster.connect()
    except (DriverException, NoHostAvailable, OSError) as error:
        cluster.shutdown()
        raise CassandraAwayError(
            f"Cassandra does not answer at {servers} ({_reason(error)}): start it (`ottla infra up`) or set OTTLA_CASSANDRA."
        ) from None
    session.default_fetch_size = _FETCH_ROWS
    return cluster, session


def _policy(addresses: Sequence[tuple[str, int]]) -> LoadBalancingPolicy:
    nearest = TokenAwarePolicy(DCAwareRoundRobinPolicy())
    if not all(_is_loopback(host) for host, _ in addresses):
        return nearest
    # Behind mapped ports the other nodes are known by addresses that nobody can reach from here.
    return HostFilterPolicy(nearest, lambda host: _is_loopback(host.endpoint.address))


@lru_cache(maxsize=64)  # the driver asks for each request
def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def _quieted(record: logging.LogRecord) -> bool:
    """Drop what our own error says as well, and the stacks of the rest: a node that is away is no defect."""
    record.exc_info = record.exc_text = None
    return not record.getMessage().startswith(_SAID_BY_US)


def _shut_down_late(opening: "asyncio.Task[tuple[Any, Any]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].shutdown()


def _reason(error: BaseException) -> str:
    errors = getattr(error, "errors", None)
    if isinstance(errors, dict):
        # The driver's own text of this is a tuple; what each node said is better, where one was asked.
        error = next(iter(errors.values()), ConnectionError("no node is up"))
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_REASON_LENGTH_MAX].rstrip(" .")
