"""`ottla trigger` posts signed webhooks and says what it did, or in one sentence what is wrong."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.cli.trigger import command
from infra.errors import OttlaError, UsageError

SECRET = "a test secret"


class _Ingress(ThreadingHTTPServer):
    """Stands in for the ingress: keeps each body and signature, answers `status` with `reply`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, bytes, str]] = []
        self.status = 200
        self.reply = b"{}"


class _Handler(BaseHTTPRequestHandler):
    server: _Ingress

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, body, self.headers["X-Hub-Signature-256"]))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.reply)))
        self.end_headers()
        self.wfile.write(self.server.reply)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def ingress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Ingress]:
    monkeypatch.chdir(tmp_path)
    with _Ingress() as server:
        monkeypatch.setenv("OTTLA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("OTTLA_PORT", str(server.server_address[1]))
        monkeypatch.setenv("OTTLA_WHATSAPP_APP_SECRET", f"{SECRET},an older one")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _trigger(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def _sentence(result: Result, kind: type[OttlaError]) -> str:
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_a_webhook_is_posted_and_signed(ingress: _Ingress) -> None:
    """One text goes to the local ingress, signed with the first secret, and the next command is named."""
    result = _trigger("text", "--from", "+16505550009", "--text", "hello", "--account", "1234")
    assert result.exit_code == 0, result.output
    ((path, body, signature),) = ingress.received
    assert path == "/webhooks/whatsapp"
    assert signature == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"] == "hello"
    assert "answered 200" in result.output
    assert "`ottla conv wa:1234:16505550009`" in result.output
    assert len(result.output.splitlines()) == 1


def test_count_makes_ids_of_their_own(ingress: _Ingress) -> None:
    """Each of several webhooks has another message id."""
    assert _trigger("text", "--count", "40").exit_code == 0
    ids = {json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]["id"] for _, body, _ in ingress.received}
    assert len(ids) == 40


def test_duplicate_posts_the_same_bytes_twice(ingress: _Ingress) -> None:
    """The kind duplicate arrives twice."""
    assert _trigger("duplicate").exit_code == 0
    first, second = ingress.received
    assert first == second


def test_a_file_is_posted_as_it_is(ingress: _Ingress, tmp_path: Path) -> None:
    """With --file exactly the file's bytes are posted, valid or not."""
    path = tmp_path / "body.json"
    path.write_bytes(b'{ "half": ')
    assert _trigger("--file", str(path)).exit_code == 0
    assert ingress.received[0][1] == b'{ "half": '


def test_a_refusal_is_told_with_its_reason(ingress: _Ingress) -> None:
    """When the ingress refuses, its reason is said and the command fails."""
    ingress.status, ingress.reply = 401, b'{"title": "Unauthorized", "detail": "The signature is wrong."}'
    result = _trigger("text")
    assert "The signature is wrong." in _sentence(result, OttlaError)
    assert "answered 401" in result.output


def test_without_an_ingress_it_says_so(ingress: _Ingress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listening is one sentence that says what to start, exit code 1."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OTTLA_PORT", str(unused.getsockname()[1]))
        result = _trigger("text")
    assert "ottla up" in _sentence(result, OttlaError)
    assert isinstance(result.exception, OttlaError)
    assert result.exception.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["imag"], "image"), ([], "trigger text"), (["text", "--from", "me"], "phone number"), (["text", "--url", "nowhere"], "URL")],
)
def test_wrong_use_is_one_sentence(ingress: _Ingress, arguments: list[str], word: str) -> None:
    """A kind that does not exist, none at all, or a number or URL that is none: one sentence, exit code 2."""
    sentence = _sentence(_trigger(*arguments), UsageError)
    assert word in sentence
    assert "\n" not in sentence


def test_list_names_all_kinds() -> None:
    """--list names the usual kinds, each stored body and the hostile ones."""
    output = _trigger("--list").output
    for name in ("text ", "duplicate ", "bsuid-only ", "msg-text.netflie-whatsapp-cloud-api.1 ", "invalid-nan "):
        assert f"\n{name}" in "\n" + output
