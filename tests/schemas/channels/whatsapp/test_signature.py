"""The signature of a webhook: over the raw bytes, with any of the secrets, in exactly the documented form."""

import hashlib
import hmac
import json

import pytest
from starlette.datastructures import Headers

from tests.schemas.channels.whatsapp.bodies import CHANNEL, PAYLOADS

_SECRET = b"test-app-secret"
_BODY = (PAYLOADS / "signature" / "escaped_body.raw").read_bytes()
_FIXTURE = json.loads((PAYLOADS / "signature" / "escaped_body.json").read_bytes())
_HEADER = _FIXTURE["X-Hub-Signature-256"]


def _verify(header: str, *, body: bytes = _BODY, secrets: tuple[bytes, ...] = (_SECRET,)) -> bool:
    return CHANNEL.verify(body, {"X-Hub-Signature-256": header}, secrets)


def test_signature_over_raw_bytes_counts() -> None:
    """The stored body passes with its signature, over JSON that was written again it fails."""
    assert _verify(_HEADER)
    again = json.dumps(json.loads(_BODY)).encode()
    assert again != _BODY
    assert not _verify(_HEADER, body=again)


def test_any_of_the_secrets_counts() -> None:
    """While secrets rotate, and with one for each app, every one of them may have signed; an empty one never counts."""
    assert _verify(_HEADER, secrets=(b"new", b"other", _SECRET))
    assert not _verify(_HEADER, secrets=(b"new", b"other"))
    assert not _verify(_HEADER, secrets=())
    assert not _verify("sha256=" + hmac.new(b"", _BODY, hashlib.sha256).hexdigest(), secrets=(b"", b"new"))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha256=",
        _HEADER[:-1],
        _HEADER + "0",
        _HEADER + "\n",
        " " + _HEADER,
        _HEADER.removeprefix("sha256="),
        _HEADER.upper(),
        "sha256=" + _HEADER.removeprefix("sha256=").upper(),
        "sha1=" + hmac.new(_SECRET, _BODY, hashlib.sha1).hexdigest(),
        f"{_HEADER}, {_HEADER}",
        "sha256=" + "g" * 64,
        "sha256=" + "é" * 64,
        "sha256=" + "٣" * 64,
        "sha256=" + "\udc80" * 64,
    ],
)
def test_any_other_form_is_refused(header: str) -> None:
    """A wrong length, prefix, case, alphabet or number of signatures is False and raises nothing."""
    assert not _verify(header)


def test_header_is_found_in_any_case_and_once() -> None:
    """Header names have no case; two headers of the name are refused, as nobody knows which one was checked before us."""
    assert CHANNEL.verify(_BODY, {"x-hub-signature-256": _HEADER}, (_SECRET,))
    assert CHANNEL.verify(_BODY, Headers({"X-Hub-Signature-256": _HEADER}), (_SECRET,))
    twice = Headers(raw=[(b"x-hub-signature-256", _HEADER.encode())] * 2)
    assert not CHANNEL.verify(_BODY, twice, (_SECRET,))
    assert not CHANNEL.verify(_BODY, {}, (_SECRET,))
