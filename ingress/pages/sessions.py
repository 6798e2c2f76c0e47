"""Sessions of the pages: who is logged in, sealed into a cookie, so that every ingress knows them and none keeps them.

The seal's key is made from the admin key and, for a tenant's session, that tenant's key: a key that is changed ends its sessions.
"""

import base64
import binascii
import hashlib
import hmac
import secrets

import msgspec

LIFE_S = 12 * 3600
"""How long a session lasts, in seconds; then the key is asked for again."""

_COOKIE_LENGTH_MAX = 1000
_TOKEN_BYTES = 16


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who gave a key that reaches `tenant`; `until_s` is in seconds since 1970, `name` tells sessions apart and is no secret."""

    tenant: str
    until_s: int
    name: str


def new_session(tenant: str, *, now_s: int) -> Session:
    """Return a session that begins now."""
    return Session(tenant=tenant, until_s=now_s + LIFE_S, name=secrets.token_hex(_TOKEN_BYTES))


def sealing_key(admin_key: str, tenant_key: str = "") -> bytes:
    """Return what seals the sessions of whoever has these keys."""
    return hmac.digest(admin_key.encode(), b"ottla pages session 1\x00" + tenant_key.encode(), hashlib.sha256)


def seal(session: Session, key: bytes) -> str:
    """Return a session as the text of a cookie."""
    said = msgspec.json.encode(session)
    return f"{_text(said)}.{_text(_mark(said, key, b'session'))}"


def claimed(cookie: str) -> Session | None:
    """Return what a cookie says, unchecked: whose key is to check it."""
    if len(cookie) > _COOKIE_LENGTH_MAX:
        return None
    try:
        return msgspec.json.decode(_bytes(cookie.partition(".")[0]), type=Session)
    except (ValueError, RecursionError):
        return None


def opened(cookie: str, key: bytes, *, now_s: int) -> Session | None:
    """Return the session in a cookie; None if it was not sealed with this key, or is over."""
    session = claimed(cookie)
    said, _, mark = cookie.partition(".")
    try:
        is_ours = session is not None and hmac.compare_digest(_bytes(mark), _mark(_bytes(said), key, b"session"))
    except ValueError:
        return None
    return session if is_ours and session is not None and now_s < session.until_s else None


def form_token(session: Session, key: bytes) -> str:
    """Return what each form of this session carries, and no other site can know."""
    return _text(_mark(session.name.encode(), key, b"form"))


def is_form_token(given: str, session: Session, key: bytes) -> bool:
    """Tell whether a form is this session's."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), form_token(session, key).encode())


def _mark(said: bytes, key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose + b"\x00" + said, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
