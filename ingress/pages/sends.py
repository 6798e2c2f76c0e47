"""/sends: the sends of which nobody knows whether they arrived, and sending one again: first what would be sent, then sending it."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.cassandra.sends import UnknownSend, read_unknown_sends
from infra.cassandra.session import Cassandra
from ingress.audit import audit_of
from ingress.pages.forms import all_of, one_of
from ingress.pages.live import Item, version_of
from ingress.pages.render import error_page, page, piece, shown
from ingress.retry_to_outbound import RefusedResendError, plan_resend, send_again

_LISTED = 50


async def show_sends(request: Request) -> Response:
    """Show a page of them, newest first."""

    async def show(cassandra: Cassandra) -> Response:
        before = request.query_params.get("before") or None
        found = await read_unknown_sends(cassandra, tenant=request.state.tenant, before=before, limit=_LISTED)
        listed = [(each, version_of(each)) for each in found.sends]
        return page(request, "sends.html", sends=listed, before=found.before, is_first=before is None)

    return await shown(request, show)


async def newest_sends(request: Request, cassandra: Cassandra) -> list[Item]:
    """Return the first page of them, as it changes."""
    found = await read_unknown_sends(cassandra, tenant=request.state.tenant, limit=_LISTED)

    def item(each: UnknownSend) -> Item:
        version = version_of(each)
        return Item(f"s-{each.id}", version, lambda: piece(request, "send.html", "send", each, version))

    return [item(each) for each in found.sends]


async def resend(request: Request) -> Response:
    """Show what would be sent again; with `do` send it, each as a new send."""

    async def show(cassandra: Cassandra) -> Response:
        state, form = request.app.state, request.state.form
        ids, is_done = list(dict.fromkeys(all_of(form, "id")))[:_LISTED], bool(one_of(form, "do"))
        if not ids:
            return error_page(request, 422, "None is chosen", "Go back and mark those that you mean.")
        planned, refused = [], []
        for each in ids:
            try:
                event = await plan_resend(cassandra, tenant=request.state.tenant, send=each, now_ms=state.clock.now_ms())
            except RefusedResendError as error:
                refused.append((each, str(error)))
                continue
            if event is None:
                refused.append((each, f"There is no send {each[:40]}."))
                continue
            if is_done:
                await send_again(event, cassandra, state.producer, audit_of(request))
            planned.append(event)
        return page(request, "resend.html", planned=planned, refused=refused, is_done=is_done, ids=ids)

    return await shown(request, show)


routes = [
    Route("/sends", show_sends, methods=["GET"]),
    Route("/sends/resend", resend, methods=["POST"]),
]
