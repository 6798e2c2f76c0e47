"""ingress.webhook_to_raw in this process: what it does while the log is slow, and that nothing stands in front of it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from infra.clock import SystemClock
from infra.config_tables import ConfigTables
from infra.kafka.producer import ProduceError, Producer
from infra.settings import Settings
from infra.simulator.signing import dump, sign
from infra.simulator.webhooks import text_body
from ingress import webhook_to_raw
from ingress.app import InstallationSecrets, create_app
from ingress.webhook_to_raw import PATHS, WebhooksFirst, WebhookToRaw
from schemas.channels import CHANNELS
from schemas.codec import Headers
from schemas.events.config import Account
from tests.schemas.channels.whatsapp.bodies import stored

_SECRET = b"a secret"
_BODY = text_body(account="1", phone="15550001111", texts=[("wamid.1", "hello")], at_s=1)
_FIVE_PEOPLE = stored("batch-multi-sender__composed__1")


class _Log(Producer):
    """Takes so many records and leaves their acknowledgement to the test; one more only if it does not overflow."""

    def __init__(self, *, full: int = 1, overflows: bool = False) -> None:
        self.futures: list[asyncio.Future[int]] = []
        self.is_full = asyncio.Event()
        self._full = full
        self._overflows = overflows

    def produce(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = -1
    ) -> asyncio.Future[int]:
        assert topic == "raw", (key, value, headers, partition)
        if self._overflows and self.is_full.is_set():
            raise ProduceError("the queue is full")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        if len(self.futures) == self._full:
            self.is_full.set()
        return future


class _Secrets:
    complete = True

    def app_secrets(self, _: str | None = None) -> tuple[bytes]:
        return (_SECRET,)

    def verify_token(self) -> str:
        return ""


def _webhook(log: _Log) -> WebhookToRaw:
    return WebhookToRaw(CHANNELS["whatsapp"], producer=log, secrets=_Secrets(), clock=SystemClock())


def _scope(body: bytes, path: str = PATHS[0], method: str = "POST", *, secret: bytes = _SECRET) -> Scope:
    headers = [(name.lower().encode(), text.encode()) for name, text in sign(body, secret).items()]
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}


def _receiving(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _post(log: _Log, body: bytes) -> asyncio.Task[int]:
    async def post() -> int:
        return (await _webhook(log).receive(Request(_scope(body), _receiving(body)))).status_code

    return asyncio.create_task(post())


async def test_200_comes_after_the_last_acknowledgement() -> None:
    """Of five parts, four are not enough."""
    log = _Log(full=5)
    posting = _post(log, _FIVE_PEOPLE)
    await log.is_full.wait()
    for future in reversed(log.futures[1:]):
        future.set_result(1)
    await asyncio.wait([posting], timeout=0.05)
    assert not posting.done()
    log.futures[0].set_result(1)
    assert await posting == 200


async def test_503_when_one_part_is_refused() -> None:
    """Four acknowledged parts and an error are not stored: the platform sends all of it again."""
    log = _Log(full=5)
    posting = _post(log, _FIVE_PEOPLE)
    await log.is_full.wait()
    log.futures[2].set_exception(ProduceError("no"))
    for future in log.futures:
        if not future.done():
            future.set_result(1)
    assert await posting == 503


async def test_503_when_the_log_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for all parts together; what is acknowledged after it is nobody's any more."""
    monkeypatch.setattr(webhook_to_raw, "STORE_DEADLINE_S", 0.05)
    log = _Log(full=5)
    posting = _post(log, _FIVE_PEOPLE)
    await log.is_full.wait()
    log.futures[0].set_result(1)
    assert await asyncio.wait_for(posting, 5) == 503
    assert all(future.done() for future in log.futures)


async def test_503_when_the_queue_is_full_half_way() -> None:
    """What was queued before is waited for, so that no acknowledgement is left unread."""
    log = _Log(full=2, overflows=True)
    posting = _post(log, _FIVE_PEOPLE)
    await log.is_full.wait()
    await asyncio.wait([posting], timeout=0.05)
    assert not posting.done()
    for future in log.futures:
        future.set_result(1)
    assert await posting == 503


@pytest.mark.parametrize("path", PATHS)
async def test_a_webhook_passes_nothing_else(path: str) -> None:
    """At each of its paths it is answered in front of all other middleware and routes."""
    log = _Log(full=1)
    sent = await _called(log, _scope(_BODY, path))
    assert sent[0]["status"] == 200
    assert len(log.futures) == 1


@pytest.mark.parametrize(("path", "method"), [("/webhooks/whatsapp", "GET"), ("/webhooks/whatsapp/", "POST"), ("/v1/messages", "POST")])
async def test_everything_else_is_passed_on(path: str, method: str) -> None:
    """Another method or path goes the usual way."""
    assert await _called(_Log(), _scope(_BODY, path, method)) == [{"type": "passed on"}]


def test_the_application_has_it_in_front() -> None:
    """What stands first in the list is outermost."""
    first: object = create_app().user_middleware[0].cls
    assert first is WebhooksFirst


async def _called(log: _Log, scope: Scope) -> list[Message]:
    """Return what is sent for a call, or that it was passed on; everything is acknowledged at once."""
    sent: list[Message] = []

    async def passed_on(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "passed on"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def acknowledge() -> None:
        await log.is_full.wait()
        log.futures[0].set_result(1)

    scope["app"] = SimpleNamespace(state=SimpleNamespace(webhook=_webhook(log)))
    acknowledging = asyncio.create_task(acknowledge())
    await WebhooksFirst(passed_on)(scope, _receiving(_BODY), send)
    acknowledging.cancel()
    return sent


class _OfTwoTenants:
    """The installation's secret, and those of two accounts; a third one has none."""

    complete = True
    _own = {"1": b"of one", "2": b"of two"}

    def app_secrets(self, account: str | None = None) -> tuple[bytes, ...]:
        return (_SECRET, *(each for name, each in self._own.items() if account in {None, name}))

    def verify_token(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("secret", "accounts", "status"),
    [
        (b"of one", ("1",), 200),
        (b"of one", ("2",), 401),
        (b"of one", ("3",), 401),
        (b"of one", ("1", "2"), 401),
        (b"of one", ("",), 200),
        (_SECRET, ("1", "2", "3"), 200),
        (b"of nobody", ("1",), 401),
    ],
)
async def test_one_accounts_secret_signs_nothing_of_another(secret: bytes, accounts: tuple[str, ...], status: int) -> None:
    """Who has a tenant's app secret must not speak for another tenant's users. Nothing of such a body is stored."""
    bodies = [text_body(account=each, phone="15550001111", texts=[("wamid.1", "hello")], at_s=1) for each in accounts]
    body = dump({"object": "whatsapp_business_account", "entry": [entry for each in bodies for entry in json.loads(each)["entry"]]})
    log = _Log(full=len(accounts))
    webhook = WebhookToRaw(CHANNELS["whatsapp"], producer=log, secrets=_OfTwoTenants(), clock=SystemClock())
    scope = _scope(body, secret=secret)
    posting = asyncio.create_task(webhook.receive(Request(scope, _receiving(body))))
    if status == 200:
        await log.is_full.wait()
        for future in log.futures:
            future.set_result(1)
    assert (await posting).status_code == status
    assert len(log.futures) == (len(accounts) if status == 200 else 0)


async def test_an_event_of_ours_is_no_webhook() -> None:
    """Python's JSON refuses a key that is there twice, ours does not: kept as it came it would be read as what streams tell each other."""
    part = '"channel":"whatsapp","account":"2","conversation":"wa:2:3","received_at":1,"changes":[]'
    route = '"route":{"step":"link","canonical":"wa:2:4"},"origin":{"topic":"raw","partition":0,"offset":0}'
    for event in (f'{{"v":1,{part},"v":1}}', f'{{"v":2,{part},{route},"v":2}}'):
        body = event.encode()
        log = _Log()
        response = await _webhook(log).receive(Request(_scope(body), _receiving(body)))
        assert (response.status_code, log.futures) == (400, [])


async def test_secrets_are_put_together_once() -> None:
    """And anew after each change; what was put together before all accounts were read is not kept."""
    tables = ConfigTables(Settings(_env_file=None))
    secrets = InstallationSecrets(Settings(whatsapp_app_secret=SecretStr("ours"), _env_file=None), tables)
    assert secrets.app_secrets() == (b"ours",)
    tables.accounts["a"] = Account(id="a", phone_number_id="1", tenant="acme", app_secret="theirs")
    assert secrets.app_secrets() == (b"ours", b"theirs")
    tables._started.set()
    assert secrets.app_secrets() is secrets.app_secrets()
    tables.accounts.clear()
    for listener in tables._listeners:
        listener("accounts", "a")
    assert secrets.app_secrets() == (b"ours",)


async def test_many_secrets_are_tried_where_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may post what none of a thousand accounts has signed: the others' webhooks do not wait for that."""
    apart: list[int] = []

    async def to_thread(verify: Any, body: bytes, *others: Any) -> Any:
        apart.append(len(body))
        return verify(body, *others)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    secrets = SimpleNamespace(complete=True, app_secrets=lambda _account=None: [b"%d" % number for number in range(1_000)])
    webhook = WebhookToRaw(CHANNELS["whatsapp"], producer=_Log(full=1), secrets=cast("Any", secrets), clock=SystemClock())
    answer = await webhook.receive(Request(_scope(_BODY, secret=b"of nobody"), _receiving(_BODY)))
    assert (answer.status_code, apart) == (401, [len(_BODY)])
