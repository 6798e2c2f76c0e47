"""Sessions: only what we sealed, with keys that still hold, and not for ever."""

import base64

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ingress.pages.sessions import LIFE_S, claimed, form_token, is_form_token, new_session, opened, seal, sealing_key

KEY = sealing_key("admin")


def test_a_session_comes_back_until_it_is_over() -> None:
    """To the second."""
    session = new_session("acme", now_s=100)
    assert opened(seal(session, KEY), KEY, now_s=100 + LIFE_S - 1) == session
    assert opened(seal(session, KEY), KEY, now_s=100 + LIFE_S) is None


def test_another_key_opens_nothing() -> None:
    """A changed admin key, or a changed key of the tenant, ends what was begun with the old one."""
    cookie = seal(new_session("acme", now_s=100), sealing_key("admin", "tenant"))
    assert opened(cookie, sealing_key("admin", "tenant"), now_s=100) is not None
    for key in (KEY, sealing_key("other", "tenant"), sealing_key("admin", "other")):
        assert opened(cookie, key, now_s=100) is None


def test_what_is_said_cannot_be_changed() -> None:
    """A tenant does not become the administrator by writing so."""
    cookie = seal(new_session("acme", now_s=100), KEY)
    said = claimed(cookie)
    assert said is not None
    other = base64.urlsafe_b64encode(msgspec.json.encode(msgspec.structs.replace(said, tenant="*"))).decode().rstrip("=")
    forged = f"{other}.{cookie.partition('.')[2]}"
    assert claimed(forged) is not None
    assert opened(forged, KEY, now_s=100) is None


@given(st.text(max_size=60))
def test_no_cookie_is_an_error(cookie: str) -> None:
    """Whatever somebody sends is no session, not a traceback."""
    assert opened(cookie, KEY, now_s=0) is None


def test_a_form_belongs_to_one_session() -> None:
    """Neither another session's token nor the seal itself will do."""
    mine, other = new_session("acme", now_s=100), new_session("acme", now_s=100)
    assert is_form_token(form_token(mine, KEY), mine, KEY)
    for wrong in (form_token(other, KEY), seal(mine, KEY), seal(mine, KEY).partition(".")[2], "", "\udcff"):
        assert not is_form_token(wrong, mine, KEY)
