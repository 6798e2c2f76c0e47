"""`ottla conv` shows a conversation, or says in one sentence why it cannot."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.cli import run_command_line
from infra.cli.conv import news
from tests.listening import listening

KEY = "wa:106540352242922:16505550001"


def message(number: int, text: str = "hello") -> dict[str, Any]:
    """Return a message as the ingress answers it."""
    return {
        "id": f"id{number}",
        "at": f"2026-11-21T12:00:{number % 60:02}.000Z",
        "direction": "in",
        "type": "text",
        "text": f"{text} {number}",
        "status": "received",
        "statuses": [],
        "error_code": 0,
        "error": "",
        "hops": [{"name": "received", "at": "2026-11-21T12:00:00.000Z"}],
    }


@dataclass
class Ingress:
    """Stands in for the ingress."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    status: int = 200
    asked: list[str] = field(default_factory=list)

    async def list_messages(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer a-key"
        self.asked.append(request.raw_path)
        if self.status != 200 or request.match_info["id"] != KEY:
            detail = {"detail": "Cassandra does not answer."}
            return web.json_response(detail, status=self.status if self.status != 200 else 404, content_type="application/problem+json")
        start, limit = int(request.query.get("before", 0)), int(request.query["limit"])
        rest = start + limit < len(self.messages)
        return web.json_response({"messages": self.messages[start : start + limit], "before": str(start + limit) if rest else None})

    async def list_conversations(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["contact"])
        return web.json_response({"conversations": [{"conversation": key} for key in self.found], "before": None})


@pytest.fixture
async def ingress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Ingress]:
    stand_in = Ingress()
    app = web.Application()
    app.router.add_get("/v1/conversations/{id}/messages", stand_in.list_messages)
    app.router.add_get("/v1/conversations", stand_in.list_conversations)
    async with TestServer(app) as server:
        configure(monkeypatch, tmp_path, server.port or 0)
        yield stand_in


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTTLA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OTTLA_PORT", str(port))
    monkeypatch.setenv("OTTLA_HOST", "0.0.0.0")
    monkeypatch.setenv("OTTLA_ADMIN_KEY", "a-key")


async def conv(*arguments: str) -> int:
    """Run the command in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(run_command_line, ["conv", *arguments])


async def test_the_timeline_is_oldest_first_over_all_pages(ingress: Ingress, capsys: pytest.CaptureFixture[str]) -> None:
    """A long conversation is shown whole, in the order it was said."""
    ingress.messages = [message(number) for number in reversed(range(1_200))]
    assert await conv(KEY) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{KEY}: 1200 messages, times in UTC"
    assert [line.rsplit(" ", 1)[1] for line in lines if " hello " in line] == [str(number) for number in range(1_200)]
    assert len(ingress.asked) == 3


async def test_only_the_last(ingress: Ingress, capsys: pytest.CaptureFixture[str]) -> None:
    """`--last` shows the newest ones and asks for no more."""
    ingress.messages = [message(number) for number in reversed(range(50))]
    assert await conv(KEY, "--last", "2") == 0
    out = capsys.readouterr().out
    assert [line.rsplit(" ", 1)[1] for line in out.splitlines() if " hello " in line] == ["48", "49"]
    assert "limit=2" in ingress.asked[0]


async def test_json_is_the_contract_s(ingress: Ingress, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get what the HTTP interface answers, in ASCII, so that nothing in it reaches a terminal as a control."""
    ingress.messages = [message(1, text="\x1b\u202e")]
    assert await conv(KEY, "-o", "json") == 0
    out = capsys.readouterr().out
    assert out.strip().isascii()
    assert json.loads(out) == {"conversation": KEY, "messages": ingress.messages, "before": None}


async def test_a_phone_number_will_do(ingress: Ingress, capsys: pytest.CaptureFixture[str]) -> None:
    """A number with one conversation stands for it."""
    ingress.messages, ingress.found = [message(1)], [KEY]
    assert await conv("+1 650-555-0001") == 0
    assert capsys.readouterr().out.startswith(KEY)
    assert ingress.asked[0] == "+1 650-555-0001"


@pytest.mark.parametrize(
    ("found", "code", "sentence"),
    [([], 3, "There is no conversation with '1555'"), ([KEY, "wa:2:1555"], 2, f"name one of {KEY}, wa:2:1555.")],
)
async def test_a_phone_number_without_one_conversation(
    ingress: Ingress, capsys: pytest.CaptureFixture[str], found: list[str], code: int, sentence: str
) -> None:
    """None is not found, several must be told apart by whoever asks."""
    ingress.found = found
    assert await conv("1555") == code
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (404, 3, f"There is no conversation '{KEY}' in history."),
        (401, 1, "has another key: set OTTLA_ADMIN_KEY"),
        (503, 1, "cannot answer: Cassandra does not answer."),
    ],
)
async def test_refusals_are_one_sentence(
    ingress: Ingress, capsys: pytest.CaptureFixture[str], status: int, code: int, sentence: str
) -> None:
    """Whatever the ingress answers, the command says what it means."""
    ingress.status = status
    assert await conv(KEY) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


async def test_nobody_listening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an ingress the command says how to start one."""
    with listening() as port:
        pass
    configure(monkeypatch, tmp_path, port)
    assert await conv(KEY) == 1
    assert capsys.readouterr().err == f"No ingress listens at http://127.0.0.1:{port}: start one with `ottla up`.\n"


def test_following_shows_what_is_new() -> None:
    """A message is shown when it is new and when it has gone on, and never twice the same."""
    shown: dict[str, int] = {}
    first = message(1)
    assert len(news(first, shown, as_json=False)) == 2
    assert news(first, shown, as_json=False) == []
    more = first | {"hops": [*first["hops"], {"name": "decided", "at": "2026-11-21T12:00:01.000Z"}]}
    assert [line.split()[0] for line in news(more, shown, as_json=False)[1:]] == ["decided"]
    assert news(more, shown, as_json=True) == []


async def test_following_live(ingress: Ingress, tmp_path: Path) -> None:
    """A new hop and a new message are shown as they come, also after the ingress was away; Ctrl-C ends it."""
    ingress.messages = [message(1)]
    words = [sys.executable, "-m", "infra", "conv", KEY, "--follow"]
    folder = {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(*words, env=os.environ | folder, cwd=tmp_path, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(120):  # to start takes seconds of processor time, and others may be at it
        assert [(await process.stdout.readline()).split()[-1] for _ in range(2)] == [b"1", b"12:00:00.000"]
        ingress.messages = [message(1) | {"hops": [*message(1)["hops"], {"name": "decided", "at": "2026-11-21T12:00:01.000Z"}]}]
        assert [(await process.stdout.readline()).split()[0] for _ in range(2)] == [b"2026-11-21", b"decided"]
        ingress.status = 503
        assert b"Cassandra does not answer. Waiting for it." in await process.stderr.readline()
        ingress.status, ingress.messages = 200, [message(2), *ingress.messages]
        assert [(await process.stdout.readline()).split()[-1] for _ in range(2)] == [b"2", b"12:00:00.000"]
        process.send_signal(signal.SIGINT)
        assert (await process.wait(), await process.stderr.read()) == (130, b"\n")
