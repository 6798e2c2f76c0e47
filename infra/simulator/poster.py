"""Posts status webhooks: those of a moment in one body, signed, tried again with growing pauses until they get a 200."""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiohttp

from infra.simulator.signing import dump, sign
from infra.simulator.statuses import business_account_id

_MOMENT_S = 0.02
_UPDATES_PER_BODY_MAX = 100  # the platform may batch up to 1,000
_CONCURRENCY = 8
_PENDING_MAX = 100_000
_TIMEOUT_S = 10.0
_PAUSE_FIRST_S = 0.5
_PAUSE_MAX_S = 300.0


class Update(NamedTuple):
    """A status to post, with the contact that goes with it."""

    account: str
    status: dict[str, object]
    contact: dict[str, object] | None


class _Body(NamedTuple):
    data: bytes
    updates: Sequence[Update]
    attempt: int = 0


class WebhookPoster:
    """Keeps what is due and posts it; everything it keeps is bounded, and what had to be dropped is counted.

    `watchers` are told each status that was answered with 200.
    """

    def __init__(self, *, url: str, secret: bytes) -> None:
        self.url = url
        self.secret = secret
        self.watchers: list[Callable[[Update], None]] = []
        self.counts = {"posted": 0, "statuses": 0, "refused": 0, "dropped": 0}
        self._due: list[tuple[float, int, Update | _Body]] = []
        self._ready: deque[_Body] = deque()
        self._number = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._posting: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin posting."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2 * _CONCURRENCY, keepalive_timeout=10),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            headers={"User-Agent": "facebookexternalua"},
        )
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop at once; what is still due is forgotten."""
        tasks = [*self._posting, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @property
    def pending(self) -> int:
        """How many statuses and bodies wait, those that will be tried again included."""
        return len(self._due) + len(self._ready) + len(self._posting)

    async def wait_until_idle(self, *, timeout_s: float = 30.0) -> None:
        """Return once nothing is due any more; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s):
            await self._idle.wait()

    def schedule(self, update: Update, *, after_s: float) -> None:
        """Post a status after so many seconds, together with others that are due at that moment."""
        self._put(update, after_s=after_s)

    async def post_now(self, update: Update) -> None:
        """Post one status by itself and return when it was answered; if it was refused it is tried again later."""
        await self._post(_Body(_body([update]), [update]))

    def _put(self, thing: Update | _Body, *, after_s: float) -> None:
        if self.pending >= _PENDING_MAX:
            self.counts["dropped"] += 1
            return
        self._number += 1
        heapq.heappush(self._due, (time.monotonic() + after_s, self._number, thing))
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(_MOMENT_S)
            self._collect()
            self._start_posts()

    def _collect(self) -> None:
        now = time.monotonic()
        updates: dict[str, list[Update]] = {}
        while self._due and self._due[0][0] <= now:
            thing = heapq.heappop(self._due)[2]
            if isinstance(thing, _Body):
                self._ready.append(thing)
            else:
                updates.setdefault(thing.account, []).append(thing)
        for of_account in updates.values():
            for start in range(0, len(of_account), _UPDATES_PER_BODY_MAX):
                chosen = of_account[start : start + _UPDATES_PER_BODY_MAX]
                self._ready.append(_Body(_body(chosen), chosen))

    def _start_posts(self) -> None:
        while self._ready and len(self._posting) < _CONCURRENCY:
            task = asyncio.create_task(self._post(self._ready.popleft()))
            self._posting.add(task)
            task.add_done_callback(self._posted)

    def _posted(self, task: asyncio.Task[None]) -> None:
        self._posting.discard(task)
        self._start_posts()
        if not self.pending:
            self._idle.set()

    async def _post(self, body: _Body) -> None:
        if self._session is None:
            raise RuntimeError("The webhook poster was not started.")
        try:
            async with self._session.post(self.url, data=body.data, headers=sign(body.data, self.secret)) as answer:
                await answer.read()
                stored = answer.status == 200  # noqa: PLR2004  # the platform takes exactly this one for success
        except (aiohttp.ClientError, TimeoutError):
            stored = False
        if stored:
            self.counts["posted"] += 1
            self.counts["statuses"] += len(body.updates)
            for watcher in self.watchers:
                for update in body.updates:
                    watcher(update)
            return
        self.counts["refused"] += 1
        pause_s = min(_PAUSE_FIRST_S * 2.0**body.attempt, _PAUSE_MAX_S)
        self._put(body._replace(attempt=body.attempt + 1), after_s=pause_s)


def _body(updates: list[Update]) -> bytes:
    stamp = str(int(time.time()))
    account = updates[0].account
    contacts: dict[str, dict[str, Any]] = {str(update.contact): update.contact for update in updates if update.contact}
    value: dict[str, object] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": account, "phone_number_id": account},
    }
    if contacts:
        value["contacts"] = list(contacts.values())
    value["statuses"] = [_stamped(update.status, stamp) for update in updates]
    entry = {"id": business_account_id(account), "changes": [{"value": value, "field": "messages"}]}
    return dump({"object": "whatsapp_business_account", "entry": [entry]})


def _stamped(status: dict[str, object], stamp: str) -> dict[str, object]:
    return {"id": status["id"], "status": status["status"], "timestamp": stamp} | status
