"""Error answers of the Graph API, with the platform's own codes and shape.

The table follows Meta's list of Cloud API error codes. What an error means is its code; the HTTP status is only a hint.
"""

import secrets

import msgspec


class GraphError(msgspec.Struct, frozen=True, kw_only=True):
    """An error answer. `message` goes after `(#code)`; `details` explains it; `subcode` 0 is left out."""

    status: int
    code: int
    message: str
    details: str = ""
    type: str = "OAuthException"
    subcode: int = 0
    transient: bool = False


def _known(status: int, code: int, message: str, details: str = "", *, transient: bool = False) -> tuple[int, GraphError]:
    return code, GraphError(status=status, code=code, message=message, details=details, transient=transient)


_KNOWN = dict(
    [
        _known(401, 0, "AuthException", "We were unable to authenticate the app user."),
        _known(500, 1, "API Unknown", "An unknown error occurred."),
        _known(503, 2, "API Service", "Temporary due to downtime or due to being overloaded.", transient=True),
        _known(400, 4, "Application request limit reached", "The app has reached its API call rate limit."),
        _known(403, 10, "Application does not have permission for this action", "Permission is not granted or has been removed."),
        _known(400, 33, "Parameter value is not valid", "The business phone number has been deleted."),
        _known(400, 100, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."),
        _known(401, 190, "Invalid OAuth access token - Cannot parse access token"),
        _known(403, 368, "Temporarily blocked for policies violations", "The account has been restricted or disabled."),
        _known(400, 80007, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."),
        _known(400, 130429, "Rate limit hit", "Cloud API message throughput has been reached."),
        _known(400, 130472, "User's number is part of an experiment", "Message was not sent as part of an experiment."),
        _known(500, 131000, "Something went wrong", "Message failed to send due to an unknown error."),
        _known(403, 131005, "Access denied", "Permission is either not granted or has been removed."),
        _known(400, 131008, "Required parameter is missing"),
        _known(400, 131009, "Parameter value is not valid"),
        _known(500, 131016, "Service unavailable", "A service is temporarily unavailable.", transient=True),
        _known(400, 131021, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
        _known(400, 131026, "Message undeliverable", "Unable to deliver message."),
        _known(400, 131030, "Recipient phone number not in allowed list"),
        _known(400, 131042, "Business eligibility payment issue", "There was an error related to your payment method."),
        _known(400, 131047, "Re-engagement message", "More than 24 hours have passed since the recipient last replied."),
        _known(400, 131048, "Spam rate limit hit", "There are restrictions on how many messages can be sent from this phone number."),
        _known(400, 131049, "Meta chose not to deliver", "To maintain healthy ecosystem engagement the message was not delivered."),
        _known(400, 131051, "Unsupported message type"),
        _known(400, 131053, "Media upload error"),
        _known(400, 131056, "(Business Account, Consumer Account) pair rate limit hit", "Too many messages to the same phone number."),
        _known(500, 131057, "Account in maintenance mode", "Business Account is in maintenance mode.", transient=True),
        _known(503, 133004, "Server temporarily unavailable", transient=True),
    ]
)


def known_error(code: int, *, details: str = "", status: int = 0) -> GraphError:
    """Return the error of a code; an unknown code becomes a 400. `details` and `status` replace the usual ones if given."""
    error = _KNOWN.get(code) or GraphError(status=400, code=code, message="Unknown error")
    return msgspec.structs.replace(error, details=details or error.details, status=status or error.status)


def error_body(error: GraphError) -> dict[str, object]:
    """Return the body of an error answer."""
    body: dict[str, object] = {"message": f"(#{error.code}) {error.message}", "type": error.type, "code": error.code}
    if error.details:
        body["error_data"] = {"messaging_product": "whatsapp", "details": error.details}
    if error.subcode:
        body["error_subcode"] = error.subcode
    if error.transient:
        body["is_transient"] = True
    return {"error": body | {"fbtrace_id": "A" + secrets.token_urlsafe(16)}}


def webhook_error(code: int) -> dict[str, object]:
    """Return the error as a status webhook carries it."""
    error = known_error(code)
    return {
        "code": error.code,
        "title": error.message,
        "message": error.message,
        "error_data": {"details": error.details},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }
