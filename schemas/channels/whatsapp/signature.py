"""Is a webhook body signed by the platform? `X-Hub-Signature-256: sha256=<64 hex digits>`, an HMAC over the raw bytes with the app secret.

The platform signs its text with the escapes as sent; JSON that was read and written again has other bytes and another signature.
"""

import hmac
import re
from collections.abc import Mapping, Sequence

_HEADER = "x-hub-signature-256"
_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)


def verify(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes]) -> bool:
    """Tell whether one of the secrets signed exactly these bytes; every secret is tried, in constant time.

    Whatever is not one header of exactly the documented form is False; an empty secret, with which anybody could sign, never counts.
    """
    given = [value for name, value in headers.items() if name.lower() == _HEADER]
    match = _SIGNATURE.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        return False
    signature = bytes.fromhex(match[1])
    matches = [hmac.compare_digest(hmac.digest(secret, body, "sha256"), signature) for secret in secrets if secret]
    return any(matches)
