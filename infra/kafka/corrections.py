"""What aiokafka 0.14 gets wrong, put right for every consumer of this process, Faust's too; importing this module does it.

From version 2 on, the answer to OffsetFetch has an error of its own beside those of its partitions, and then no partitions. aiokafka looks
at those of the partitions alone. So a coordinator that is just loading its groups, as after each start of a broker, was understood as
"nothing was ever committed", and the consumer began at the oldest record of the topic.
https://kafka.apache.org/protocol#The_Messages_OffsetFetch, and the same mistake in another client: Parsely/pykafka #958.
"""

from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

_send = GroupCoordinator._send_req  # noqa: SLF001  # there is nothing public between the request and what is made of its answer


async def _send_checked(coordinator: Any, request: Any) -> Any:
    """Send a request to the coordinator; raise the error that its answer has as a whole, which aiokafka then tries again."""
    answer = await _send(coordinator, request)
    code = getattr(answer, "error_code", 0) if isinstance(request, OffsetFetchRequest) else 0
    if code:
        error = for_code(code)
        if error in {NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError}:
            coordinator.coordinator_dead()
        raise error(coordinator.group_id)
    return answer


GroupCoordinator._send_req = _send_checked  # noqa: SLF001
