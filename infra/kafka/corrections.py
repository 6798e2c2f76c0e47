"""What aiokafka 0.14 gets wrong, put right for every consumer of this process, Faust's too; importing this module does it.

OffsetFetch: from version 2 on its answer has an error of its own beside those of its partitions, and then no partitions. aiokafka looks
at those of the partitions alone. So a coordinator that is just loading its groups, as after each start of a broker, was understood as
"nothing was ever committed", and the consumer began at the oldest record of the topic.
https://kafka.apache.org/protocol#The_Messages_OffsetFetch, and the same mistake in another client: Parsely/pykafka #958.

Belonging to a group: a coordinator that is loading its groups, or cannot write, also says so to a member that is half way into one, and to
a heartbeat. aiokafka expects that of a first request alone: elsewhere the answer was a defect to it, which ended the process.

Having left one: a member that the coordinator has removed forgets its generation, and goes on committing without one. Of a group that
has no members by then the broker takes such commits from anybody, and what the one who took over had committed last, its claims too, is
gone.

Being alive: heartbeats end before a member joins and go on once `on_partitions_assigned` has returned. Who has much to read there, as the
sender with its ledger, is removed meanwhile, joins again, and reads it all again.

Waiting for an answer: 40 seconds for any request, and Faust 90. A broker that is frozen, or cut off by the network, takes connections and
does not answer; the others have taken over what it led after a few seconds, and nobody here asks them before that time is over.

Stopping: the fetcher cancels its tasks once and waits for them unguarded. One that swallows the cancellation, as the fetcher's own does
just after an assignment, is waited for for ever; one that does not, as those that wait to ask an absent broker again, raises its
CancelledError into whoever stops the consumer, who then seems to be cancelled, and the connections stay open.

Sending: uvloop's transports, once closed, raise RuntimeError where asyncio's say nothing, in the moment before the connection is known as
lost. aiokafka expects an OSError; the other one ended the routine that keeps a consumer in its group, for good.

Assigning: a consumer that names a group and is given other partitions while its coordinator is looked for loses the routine that watches
over the coordinator to an assertion about the partitions it had before, with a stack in the log.

Asking for metadata: where the brokers refuse connections and a partition is known to have no leader, as while they are being stopped one
after the other, the fetcher asks again the moment it was refused, without a pause, and takes a whole core for it.

And it lets the broker make topics that it asks about. On a cluster that does (Kafka's default) a role that came before
`ottla topics create` would have made topics of one partition, whose number can never be put right.

Looking for a coordinator: a broker that was just away may know of no broker, not even itself, and a client that begins with that answer has
nobody to ask. aiokafka takes this for a defect (an assertion) instead of waiting until somebody is known.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NoError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

log = structlog.get_logger()

_AGAIN_S = 0.1
# No request of ours is held by a broker for longer than two seconds, but those of members that wait for other members: the broker answers
# them when all have come, or the sessions of those that have not are over (seven seconds).
_ANSWER_S, _MEMBERS_S = 5.0, 15.0
_WAIT_FOR_MEMBERS = (JoinGroupRequest, SyncGroupRequest)
_OF_MEMBERS = (*_WAIT_FOR_MEMBERS, HeartbeatRequest)
_OF_THE_COORDINATOR = frozenset({NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError})

_send = GroupCoordinator._send_req  # noqa: SLF001  # there is nothing public between the request and what is made of its answer


async def _send_checked(coordinator: Any, request: Any) -> Any:
    """Send a request to the coordinator; raise the error that its answer has as a whole, which aiokafka then tries again."""
    answer = await _send(coordinator, request)
    error = for_code(getattr(answer, "error_code", 0))
    if isinstance(request, OffsetFetchRequest) and error is not NoError:
        if error in _OF_THE_COORDINATOR:
            coordinator.coordinator_dead()
        raise error(coordinator.group_id)
    if isinstance(request, _OF_MEMBERS) and error.retriable and error not in _OF_THE_COORDINATOR:
        raise error(coordinator.group_id)
    if isinstance(request, JoinGroupRequest) and error is RebalanceInProgressError:  # so says a broker before Kafka 4 that could not write
        raise error(coordinator.group_id)
    return answer


GroupCoordinator._send_req = _send_checked  # noqa: SLF001


_commit = GroupCoordinator._do_commit_offsets  # noqa: SLF001


async def _commit_as_member(coordinator: Any, assignment: Any, offsets: Any) -> Any:
    """Commit offsets; IllegalGenerationError of a member of a group that is none any more. It is looked at last: aiokafka tries again."""
    if coordinator.generation < 0 and coordinator._subscription.partitions_auto_assigned():  # noqa: SLF001  # who assigns by hand has none
        raise IllegalGenerationError(coordinator.group_id)
    return await _commit(coordinator, assignment, offsets)


GroupCoordinator._do_commit_offsets = _commit_as_member  # noqa: SLF001

_join = GroupCoordinator._on_join_complete  # noqa: SLF001


async def _join_alive(coordinator: Any, *joined: Any) -> None:
    """Tell the listener what was assigned, with heartbeats meanwhile."""
    coordinator._start_heartbeat_task()  # noqa: SLF001  # does nothing where they go on already, as they then do
    await _join(coordinator, *joined)


GroupCoordinator._on_join_complete = _join_alive  # noqa: SLF001


async def _close(fetcher: Any) -> None:
    """End the tasks of a fetcher and wake who waits for its records."""
    fetcher._closed = True  # noqa: SLF001  # as aiokafka's own does
    await _end([fetcher._fetch_task])  # noqa: SLF001
    for waiter in fetcher._fetch_waiters:  # noqa: SLF001
        fetcher._notify(waiter)  # noqa: SLF001
    await _end(fetcher._pending_tasks)  # noqa: SLF001


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks as often as it takes, and keep what they raise to ourselves."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)


Fetcher.close = _close

_coordinate = GroupCoordinator._GroupCoordinator__coordination_routine  # noqa: SLF001


async def _coordinate_what_is_assigned(coordinator: Any) -> None:
    """Run a coordinator's routine, again where the partitions that it was given by hand were replaced meanwhile."""
    while True:
        try:
            return await _coordinate(coordinator)  # type: ignore[no-any-return]
        except AssertionError:
            if coordinator._subscription.partitions_auto_assigned():  # noqa: SLF001  # whose partitions only the routine itself replaces
                raise
            await asyncio.sleep(_AGAIN_S)  # the others have their turn, also where it comes to this again at once


GroupCoordinator._GroupCoordinator__coordination_routine = _coordinate_what_is_assigned  # noqa: SLF001

_look_up = AIOKafkaClient.coordinator_lookup


async def _look_up_where_known(client: Any, coordinator_type: Any, coordinator_key: str) -> Any:
    """Ask a broker who the coordinator is; NodeNotReadyError, after which aiokafka asks again later, while no broker is known."""
    if not client.cluster.brokers():
        raise NodeNotReadyError("no broker is known yet")
    return await _look_up(client, coordinator_type, coordinator_key)


AIOKafkaClient.coordinator_lookup = _look_up_where_known

_update = AIOKafkaClient._metadata_update  # noqa: SLF001


async def _update_after_a_pause(client: Any, cluster: Any, topics: Any) -> Any:
    """Ask the brokers for their metadata; whoever waits for it waits a moment longer if none of them answers."""
    try:
        updated = await _update(client, cluster, topics)
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the routine that all others wait for
        log.warning("no metadata", error=f"{type(error).__name__}: {error}")
        updated = False
    if not updated:
        await asyncio.sleep(_AGAIN_S)
    return updated


AIOKafkaClient._metadata_update = _update_after_a_pause  # noqa: SLF001

_build = MetadataRequest.build


def _build_that_makes_nothing(request: Any, struct: Any) -> Any:
    """Build a request for metadata that makes no topics, unless somebody wants just that."""
    if request._allow_auto_topic_creation is None:  # noqa: SLF001
        request._allow_auto_topic_creation = False  # noqa: SLF001
    return _build(request, struct)


MetadataRequest.build = _build_that_makes_nothing

_connect = AIOKafkaConnection.connect


async def _connect_in_time(connection: Any) -> Any:
    """Connect, and wait no longer for this and for answers than a broker may take."""
    connection._request_timeout = min(connection._request_timeout, _ANSWER_S)  # noqa: SLF001
    return await _connect(connection)


AIOKafkaConnection.connect = _connect_in_time

_write = AIOKafkaConnection.send


def _send_connected(connection: Any, request: Any, expect_response: bool = True) -> Any:  # aiokafka's signature
    """Send a request on a connection; KafkaConnectionError, which aiokafka then tries again, if it is closed."""
    timeout_s = connection._request_timeout  # noqa: SLF001
    if isinstance(request, _WAIT_FOR_MEMBERS):
        connection._request_timeout = _MEMBERS_S  # noqa: SLF001
    try:
        return _write(connection, request, expect_response)
    except KafkaError:
        raise
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} is closed: {error}") from error
    finally:
        connection._request_timeout = timeout_s  # noqa: SLF001


AIOKafkaConnection.send = _send_connected
