"""tests.torture.load against an ingress of this test alone: what it posts when, and that a careless installation does not get by."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from infra.settings import Settings
from infra.simulator.faults import Faults
from infra.simulator.server import SimulatedServer
from infra.simulator.statuses import StatusTimes
from schemas.ids import callback_data, conversation_key, event_id, send_id
from tests.installation import Outside
from tests.torture.checker import Report, check
from tests.torture.history import Begun, Effect, Entry, HistoryWriter, Posted, Refused, Status, Stored, read_history
from tests.torture.load import Load, Play

_UNTIL_S = 60


class _Whole(SimulatedServer):
    """An ingress with all behind it: refuses every fifth body, before or after it dealt with it, and answers each message before its 200.

    `dedupes` and `keeps` say what it does not get wrong; while `mute` it stores and answers nobody.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(port=0, faults=Faults(frozenset(), seed=seed))
        self.chance = random.Random(seed)
        self.refusals = 0.2
        self.mute = False
        self.dedupes: Callable[[], bool] = lambda: True
        self.keeps: Callable[[], bool] = lambda: True
        self.api_url = ""
        self.http: aiohttp.ClientSession
        self._known: set[str] = set()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Take webhooks."""
        router.add_post("/webhooks/whatsapp", self._take)

    async def _take(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        refused = self.chance.random() < self.refusals
        if refused and self.chance.random() < 0.5:
            return web.Response(status=503)
        for entry in body["entry"]:
            value = entry["changes"][0]["value"]
            for message in value.get("messages", ()):
                await self._answer(value["metadata"]["phone_number_id"], message)
        return web.Response(status=503 if refused else 200)

    async def _answer(self, account: str, message: dict[str, Any]) -> None:
        if message["type"] != "text" or not message["text"]["body"].strip() or self.mute:
            return
        if message["id"] in self._known and self.dedupes():
            return
        self._known.add(message["id"])
        if not self.keeps():
            return
        to = {"to": message["from"]} if "from" in message else {"recipient": message["from_user_id"]}
        conversation = conversation_key(channel="wa", account=account, contact=message.get("from") or message["from_user_id"])
        send = send_id(conversation=conversation, cause=event_id(conversation, message["id"]), step="reply")
        data = {
            "messaging_product": "whatsapp",
            **to,
            "type": "text",
            "text": {"body": "an answer"},
            "biz_opaque_callback_data": callback_data(send=send, conversation=conversation),
        }
        headers = {"Authorization": "Bearer a-token"}
        async with self.http.post(f"{self.api_url}/{account}/messages", json=data, headers=headers) as response:
            assert response.status == 200, await response.text()


@pytest.fixture
def seed() -> int:
    chosen = random.randrange(1 << 32)
    print(f"seed {chosen}")  # noqa: T201  # a failing run names it
    return chosen


@pytest.fixture
async def whole(seed: int) -> AsyncIterator[_Whole]:
    async with _Whole(seed) as whole:
        yield whole


@pytest.fixture
async def outside(whole: _Whole, tmp_path: Path) -> AsyncIterator[Outside]:
    settings = Settings(home=tmp_path, whatsapp_app_secret=SecretStr("a secret"), admin_key=SecretStr("a key"), _env_file=None)
    outside = Outside(settings)
    await outside.begin()
    outside.webhook_url = f"{whole.url}/webhooks/whatsapp"
    assert outside.platform.poster is not None
    outside.platform.poster.url = outside.webhook_url
    outside.platform.times = StatusTimes(sent_s=0, delivered_s=0, read_s=0)
    whole.api_url, whole.http = outside.platform.api_url, outside.http
    yield outside
    await outside.finish()


async def _played(outside: Outside, load: Load, path: Path) -> tuple[list[Entry], Report]:
    with HistoryWriter(path) as writer, Play(load, outside=outside, writer=writer) as play:
        writer.write(Begun(at=0, seed=load.seed, command="test"))
        async with asyncio.timeout(_UNTIL_S):
            await play.run()
            await play.rest(quiet_s=1)
    return list(read_history(path)), check(read_history(path), drop={"unseen"})


async def test_each_conversation_goes_on_only_after_its_last_message_was_stored(outside: Outside, seed: int, tmp_path: Path) -> None:
    """Whatever is refused comes again before anything else of that conversation, and repeats come only after they were stored."""
    load = Load(events=400, conversations=30, seed=seed, repeated=0.3, noise=0.2, poison=0, together=0.2, large_body=0)
    entries, report = await _played(outside, load, tmp_path / "history")
    assert report.clean, report.lines()
    assert report.books.accepted == 400
    under_way: dict[str, int] = {}
    stored: set[int] = set()
    known: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, Posted) and entry.repeat:
            assert known[entry.message] in stored
        elif isinstance(entry, Posted):
            assert under_way.get(entry.conversation, entry.body) in {entry.body, *stored}
            under_way[entry.conversation] = known[entry.message] = entry.body
        elif isinstance(entry, Stored):
            stored.add(entry.body)
    assert any(isinstance(entry, Refused) and entry.status == 503 for entry in entries)
    assert {type(entry) for entry in entries} >= {Effect, Status}
    per_message = [entry.message for entry in entries if isinstance(entry, Posted)]
    assert max(per_message.count(message) for message in {*per_message}) >= 10


@pytest.mark.parametrize(("careless", "name"), [("dedupes", "duplicate"), ("keeps", "lost-write")])
async def test_a_careless_installation_is_found_out(
    *, whole: _Whole, outside: Outside, seed: int, tmp_path: Path, careless: str, name: str
) -> None:
    """Repeats and refusals are enough to catch one that now and then forgets what it had, or what it was given."""
    setattr(whole, careless, lambda: whole.chance.random() > 0.1)
    load = Load(events=400, conversations=30, seed=seed, repeated=0.3, poison=0, large_body=0)
    _, report = await _played(outside, load, tmp_path / "history")
    assert report.totals[name] > 0, report.lines()


async def test_what_nobody_answers_holds_the_load_back(
    whole: _Whole, outside: Outside, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody answering, the load stops a few bodies above its bound, and only a probe is stored; `stop` ends it while it waits."""
    monkeypatch.setattr("tests.torture.load._STRANGE_STATUS_SHARE", 0)  # which are stored without a message, as a probe is
    whole.mute, whole.refusals = True, 0.0
    load = Load(events=10_000, conversations=200, seed=seed, noise=0, poison=0, together=0, large_body=0, inflight_max=40, connections=8)
    with HistoryWriter(tmp_path / "history") as writer, Play(load, outside=outside, writer=writer) as play:
        running = asyncio.create_task(play.run())
        async with asyncio.timeout(_UNTIL_S):
            while play.in_flight < load.inflight_max:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
            await play.probe()
            whole.refusals = 1.0
            await play.probe()
            play.stop()
            await running
    bodies = {entry.body for entry in read_history(tmp_path / "history") if isinstance(entry, Posted)}
    probes = [entry for entry in read_history(tmp_path / "history") if isinstance(entry, Stored) and entry.body not in bodies]
    assert len(probes) == 1
    assert load.inflight_max <= play.in_flight == play.unanswered <= load.inflight_max + 3 * load.connections


async def test_a_rate_is_kept(whole: _Whole, outside: Outside, seed: int, tmp_path: Path) -> None:
    """A hundred events at two hundred a second take half a second at least."""
    whole.refusals = 0.0
    load = Load(events=100, conversations=50, seed=seed, repeated=0, poison=0, together=0, large_body=0, rate=200, connections=4)
    entries, _ = await _played(outside, load, tmp_path / "history")
    times = [entry.at for entry in entries if isinstance(entry, Posted)]
    assert times[-1] - times[0] > 0.4
