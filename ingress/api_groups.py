"""GET /v1/groups: how far each consumer group is behind in each topic, and how it is doing."""

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.lag.watcher import LagWatcher
from infra.retries import AwayError
from ingress.auth import EVERY_TENANT
from ingress.problems import problem
from ingress.takes import Parameter, takes

_YES = frozenset({"true", "1"})


@takes(query={"partitions": Parameter("also each partition", {"type": "string", "enum": ["true", "1"]})})
async def list_groups(request: Request) -> Response:
    """Answer a row for each group and topic as it is now, with `partitions=true` also each partition; 503 while Kafka is away."""
    if request.state.tenant != EVERY_TENANT:
        return problem(403, "Administrator only", "What all tenants share is seen with the admin key.")
    lag: LagWatcher = request.app.state.lag
    try:
        rows = await lag.rows(partitions=request.query_params.get("partitions", "") in _YES)
    except AwayError as error:
        return problem(503, "Kafka is away", f"{error}; try again in a moment.", headers={"Retry-After": "5"})
    return Response(orjson.dumps({"groups": rows}), media_type="application/json")


routes = [Route("/v1/groups", list_groups)]
