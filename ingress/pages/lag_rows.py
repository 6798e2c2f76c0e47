"""Where the groups stand, for pages: soon, also while Kafka is away."""

import asyncio
from typing import Any

from infra.lag.watcher import LagWatcher
from infra.retries import AwayError

_PATIENCE_S = 1.0


async def lag_rows(lag: LagWatcher, *, partitions: bool = False) -> tuple[list[dict[str, Any]], str]:
    """Return a row for each group and topic, and why there are none (empty: there are).

    A look that takes longer than a second is not waited for: then they are those of the last one, with seconds counted until now.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await lag.rows(partitions=partitions), ""
    except AwayError as error:
        return [], str(error)
    except TimeoutError:
        return lag.rows_seen(partitions=partitions), lag.away
