"""The platform's error codes: what each means, and what becomes of the send.

The code counts, not the HTTP status: throttling comes as 400, passing trouble as 400 or 500. Sources: Meta's list of Cloud API error codes;
where it leaves open what to do, what long-lived open clients do.

RETRY without `throttled` counts as a try of the message. RETRY with it is no try: the pair, number or app waits and the message keeps its
place, because the trouble is not the message's. Trouble with credentials and accounts pauses the number: another tenant's goes on.
"""

from typing import NamedTuple

from schemas.channels.base import Outcome, Pause


class PlatformError(NamedTuple):
    """What an error code means. `wait_s` is how long to wait, in seconds, where the platform does not say; 0: the sender's own backoff."""

    meaning: str
    outcome: Outcome
    pause: Pause = Pause.NONE
    throttled: bool = False
    wait_s: float = 0.0


def _retry(meaning: str, *, wait_s: float = 0.0) -> PlatformError:
    return PlatformError(meaning, Outcome.RETRY, wait_s=wait_s)


def _throttled(meaning: str, pause: Pause, wait_s: float) -> PlatformError:
    return PlatformError(meaning, Outcome.RETRY, pause, throttled=True, wait_s=wait_s)


def _credentials(meaning: str) -> PlatformError:
    return _throttled(meaning, Pause.NUMBER, 60.0)


def _rejected(meaning: str) -> PlatformError:
    return PlatformError(meaning, Outcome.REJECTED)


ERRORS: dict[int, PlatformError] = {
    # Credentials and permissions: an operator has to act, the messages wait.
    0: _credentials("authentication failed"),
    3: _credentials("the app lacks a capability"),
    10: _credentials("permission not granted or removed"),
    190: _credentials("access token expired or not valid"),
    131005: _credentials("access denied"),
    # The account or the app is held back for a while.
    368: _throttled("account blocked for policy violations", Pause.NUMBER, 600.0),
    131031: _throttled("account locked", Pause.NUMBER, 600.0),
    131048: _throttled("spam limit of the number", Pause.NUMBER, 600.0),
    131057: _throttled("account in maintenance", Pause.NUMBER, 60.0),
    4: _throttled("call rate of the app", Pause.APP, 60.0),
    613: _throttled("call rate of the app", Pause.APP, 60.0),
    80007: _throttled("rate of the business account", Pause.APP, 60.0),
    130429: _throttled("message throughput of the number", Pause.NUMBER, 1.0),
    131056: _throttled("messages to one recipient", Pause.PAIR, 6.0),
    133016: _throttled("too many registrations of the number", Pause.NUMBER, 600.0),
    # It may pass: a few tries.
    1: _retry("unknown error or bad request"),
    2: _retry("service temporarily down"),
    131000: _retry("something went wrong"),
    131016: _retry("service overloaded"),
    131053: _retry("media could not be fetched"),
    131064: _retry("classification limit, lifted by itself", wait_s=600.0),
    133004: _retry("server temporarily unavailable"),
    # The recipient cannot or must not get it.
    130472: _rejected("recipient is part of an experiment"),
    130497: _rejected("messages to this country are not allowed"),
    131021: _rejected("recipient is the sender"),
    131026: _rejected("undeliverable: no account, old client or terms not accepted"),
    131030: _rejected("recipient not in the test number's list"),
    131047: _rejected("more than 24 hours since the recipient's last message: send a template"),
    131049: _rejected("not delivered, to keep the recipient from too many marketing messages"),
    131050: _rejected("recipient stopped marketing messages"),
    131062: _rejected("user ids are not allowed for this message"),
    131063: _rejected("marketing messages are off"),
    137000: _rejected("the recipient's identity changed"),
    # The number or its account is not set up for it.
    131037: _rejected("the number's display name is not approved"),
    131042: _rejected("no valid payment method"),
    131045: _rejected("the number's certificate is wrong"),
    133010: _rejected("the number is not registered"),
    # The message is not what the platform takes.
    33: _rejected("no such phone number id, or a wrong parameter"),
    100: _rejected("parameter missing, misspelled or not supported"),
    131008: _rejected("required parameter missing"),
    131009: _rejected("a parameter's value is not valid"),
    131051: _rejected("message type not supported"),
    131052: _rejected("media could not be downloaded"),
    131060: _rejected("message not available"),
    132000: _rejected("template: wrong number of parameters"),
    132001: _rejected("template: does not exist in this language"),
    132005: _rejected("template: text too long with its parameters"),
    132007: _rejected("template: against the platform's policy"),
    132012: _rejected("template: wrong format of a parameter"),
    132015: _rejected("template: paused for its quality"),
    132016: _rejected("template: disabled for its quality"),
    132068: _rejected("flow: blocked"),
    132069: _rejected("flow: throttled"),
    135000: _rejected("a parameter of the message is wrong"),
}
"""Every code that is known by itself."""

_PERMISSIONS = range(200, 300)
_TEMPLATES = range(132000, 133000)


def known_error(code: int) -> PlatformError | None:
    """Return what a code means; None if nobody knows."""
    error = ERRORS.get(code)
    if error is not None:
        return error
    if code in _PERMISSIONS:
        return _credentials("permission not granted or removed")
    if code in _TEMPLATES:
        return _rejected("template or flow not valid")
    return None
