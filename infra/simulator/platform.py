"""The simulated platform: takes sends like the Graph API and posts signed statuses back."""

import asyncio
import secrets
import time
from base64 import b64encode

import msgspec
from aiohttp import web

from infra.simulator.books import KEPT_DEFAULT, Arrival, Books
from infra.simulator.faults import Fault, Faults
from infra.simulator.graph_errors import GraphError, error_body, known_error
from infra.simulator.poster import Update, WebhookPoster
from infra.simulator.send_rules import check_send
from infra.simulator.server import HOST, Control, SimulatedServer, json_response, vanish
from infra.simulator.statuses import (
    STATUS_FAULTS,
    DueStatus,
    Recipient,
    StatusTimes,
    contact_item,
    due_statuses,
    phone_digits,
    recipient_of,
    status_item,
)

PLATFORM_FAULTS = STATUS_FAULTS | {"refuse", "slow", "throttle", "error", "html", "reject", "cut"}
"""refuse: reset before the body is read, nothing is remembered · slow: the answer takes `seconds` · throttle: 429 (`code` 130429 for the
number, 131056 for the pair, 80007 for the business account) · error: 500 with the platform's own error body · html: 502 without one
(`accepted`: the send counts all the same) · reject: a final error (`code`) · cut: accepted, then reset without an answer ·
status_twice, status_disorder, status_late (`seconds`), status_early (before the answer), status_missing, status_failed (`code`)."""

_CODES = {"throttle": 130429, "error": 131000, "reject": 131026}
_STATUSES = {"throttle": 429}
_HTML = "<html><head><title>{status}</title></head><body><h1>Sorry, something went wrong.</h1></body></html>"


class PlatformControl(Control, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /control of the platform takes beside the faults: when statuses are due."""

    statuses: StatusTimes | None = None


class SimulatedPlatform(SimulatedServer):
    """The platform on a port of its own.

    With `webhook_url` it posts statuses there, signed with `app_secret`. `kept` bounds how many arrivals are remembered.
    """

    control_type = PlatformControl

    def __init__(
        self,
        *,
        host: str = HOST,
        port: int = 0,
        webhook_url: str = "",
        app_secret: bytes = b"",
        seed: int | None = None,
        times: StatusTimes | None = None,
        kept: int = KEPT_DEFAULT,
    ) -> None:
        super().__init__(host=host, port=port, faults=Faults(PLATFORM_FAULTS, seed=seed))
        self.books = Books(kept=kept)
        self.times = times or StatusTimes()
        self.poster = WebhookPoster(url=webhook_url, secret=app_secret) if webhook_url else None

    @property
    def api_url(self) -> str:
        """The base URL with version, as OTTLA_WHATSAPP_API takes it."""
        return f"{self.url}/v25.0"

    async def start(self) -> None:
        """Listen and begin posting statuses; OSError if the port is taken."""
        await super().start()
        if self.poster is not None:
            await self.poster.start()

    async def stop(self) -> None:
        """Free the port; statuses that are still due are forgotten."""
        await super().stop()
        if self.poster is not None:
            await self.poster.stop()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the Graph API and the books."""
        router.add_get("/received", self._show_received)
        router.add_delete("/received", self._forget_received)
        router.add_post(r"/{version:v\d+\.\d+}/{account}/messages", self._take_message)
        router.add_route("*", "/{path:.*}", _no_such_path)

    def state(self) -> dict[str, object]:
        """Return counts of sends and webhooks, and how many webhooks wait."""
        webhooks = self.poster.counts | {"pending": self.poster.pending} if self.poster else None
        return {"statuses": self.times, "counts": self.books.counts, "webhooks": webhooks}

    def apply(self, control: Control) -> None:
        """Set faults, seed and status times."""
        super().apply(control)
        if isinstance(control, PlatformControl) and control.statuses is not None:
            self.times = control.statuses

    async def _take_message(self, request: web.Request) -> web.Response:
        account = request.match_info["account"]
        if self.faults.draw("refuse"):
            self._record(account, outcome="refused", answered=0)
            return vanish(request)
        data = await request.read()
        message, error = _read_message(request, data)
        if error is not None:
            self._record(account, outcome="invalid", answered=error.status, message=message, data=data)
            return json_response(error_body(error), status=error.status)
        if message.get("status") == "read":
            self._record(account, outcome="read", answered=200, message=message, data=data, kind="read")
            return json_response({"success": True})
        return await self._take_send(request, account, message, data)

    async def _take_send(self, request: web.Request, account: str, message: dict[str, object], data: bytes) -> web.Response:
        hit = self.faults.first("throttle", "error", "html", "reject", "cut")
        slow = self.faults.draw("slow")
        answered = _answered(hit)
        accepted = hit is None or hit[0] == "cut" or hit[1].accepted
        arrival = self._record(
            account, outcome="accepted" if accepted else hit[0] if hit else "", answered=answered, message=message, data=data
        )
        early = accepted and self.poster is not None and self.faults.draw("status_early") is not None
        if early and self.poster is not None:
            await self.poster.post_now(_update(arrival, DueStatus(0, "sent"), recipient_of(message)))
        if slow:
            await asyncio.sleep(slow.seconds)
        if accepted:
            self._schedule_statuses(arrival, recipient_of(message), sent_posted=early)
        if hit is None:
            return json_response(_acceptance(recipient_of(message), arrival.platform_id))
        return vanish(request) if hit[0] == "cut" else _fault_answer(*hit)

    def _record(
        self,
        account: str,
        *,
        outcome: str,
        answered: int,
        message: dict[str, object] | None = None,
        data: bytes = b"null",
        kind: str = "send",
    ) -> Arrival:
        message = message or {}
        arrival = Arrival(
            sequence=self.books.next_sequence(),
            at=time.time_ns() / 1e6,
            account=account,
            outcome=outcome,
            answered=answered,
            kind=kind,
            to=recipient_of(message).address,
            callback=str(message.get("biz_opaque_callback_data", "")),
            platform_id=_new_platform_id() if outcome == "accepted" else "",
            body=msgspec.Raw(data) if message else msgspec.Raw(b"null"),
        )
        self.books.add(arrival)
        return arrival

    def _schedule_statuses(self, arrival: Arrival, recipient: Recipient, *, sent_posted: bool) -> None:
        if self.poster is None:
            return
        for status in due_statuses(self.times, self.faults):
            if sent_posted and status.name == "sent":
                continue
            self.poster.schedule(_update(arrival, status, recipient), after_s=status.after_s)

    async def _show_received(self, request: web.Request) -> web.Response:
        try:
            after, limit = int(request.query.get("after", "0")), int(request.query.get("limit", "1000"))
        except ValueError:
            return json_response({"error": "after and limit must be whole numbers."}, status=400)
        callback, to = request.query.get("callback"), request.query.get("to")
        chosen = [
            arrival
            for arrival in self.books.arrivals(after=after)
            if (callback is None or arrival.callback == callback) and (to is None or arrival.to == to)
        ]
        return json_response({"counts": self.books.counts, "duplicates": self.books.duplicates(), "received": chosen[:limit]})

    async def _forget_received(self, _: web.Request) -> web.Response:
        self.books.clear()
        return json_response({"success": True})


def _read_message(request: web.Request, data: bytes) -> tuple[dict[str, object], GraphError | None]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in {"bearer", "oauth"} or not token.strip():
        return {}, known_error(190)
    try:
        message = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}, known_error(100, details="Invalid parameter: the body is not JSON.")
    error = check_send(message)
    if error is None and not request.match_info["account"].isdigit():
        error = known_error(33, details=f"Unsupported post request. Object with ID '{request.match_info['account']}' does not exist.")
    return message if isinstance(message, dict) else {}, error


def _answered(hit: tuple[str, Fault] | None) -> int:
    if hit is None:
        return 200
    name, fault = hit
    if name == "cut":
        return 0
    if name == "html":
        return fault.status or 502
    return fault.status or _STATUSES.get(name, 0) or known_error(fault.code or _CODES[name]).status


def _fault_answer(name: str, fault: Fault) -> web.Response:
    status = _answered((name, fault))
    headers = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s else None
    if name == "html":
        return web.Response(status=status, text=_HTML.format(status=status), content_type="text/html", headers=headers)
    return json_response(error_body(known_error(fault.code or _CODES[name], status=status)), status=status, headers=headers)


def _acceptance(recipient: Recipient, platform_id: str) -> dict[str, object]:
    contact = {"input": recipient.address}
    if recipient.kind == "user":
        contact["user_id"] = recipient.address
    else:
        contact["wa_id"] = phone_digits(recipient.address) if recipient.kind == "phone" else recipient.address
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": platform_id}]}


def _update(arrival: Arrival, status: DueStatus, recipient: Recipient) -> Update:
    item = status_item(status, platform_id=arrival.platform_id, recipient=recipient, callback=arrival.callback)
    return Update(arrival.account, item, contact_item(recipient, status.name))


def _new_platform_id() -> str:
    return "wamid." + b64encode(b"\x1d\x05\x15\x02\x00" + secrets.token_bytes(20)).decode()


async def _no_such_path(request: web.Request) -> web.Response:
    error = GraphError(status=400, code=2500, message=f"Unknown path components: {request.path}")
    return json_response(error_body(error), status=error.status)
