"""How the platform writes and signs a webhook body."""

import hmac
import json

import msgspec

SIGNATURE_HEADER = "X-Hub-Signature-256"


def dump(body: object) -> bytes:
    r"""Return the body as the platform writes it: non-ASCII as `\uXXXX` and `/` as `\/`, so that only a check of the raw bytes passes."""
    try:
        data = msgspec.json.encode(body)
        ascii_only = data.isascii()
    except UnicodeEncodeError:  # a lone surrogate: no UTF-8, but the platform escapes it like any other character
        ascii_only = False
    if not ascii_only:
        data = json.dumps(body, separators=(",", ":")).encode()
    return data.replace(b"/", b"\\/")


def sign(body: bytes, secret: bytes) -> dict[str, str]:
    """Return the headers of a webhook with this body."""
    digest = hmac.digest(secret, body, "sha256").hex()
    return {"Content-Type": "application/json", SIGNATURE_HEADER: f"sha256={digest}"}
