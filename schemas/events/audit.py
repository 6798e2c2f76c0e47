"""[audit]: what people had done: who asked, for what, and when. Written before it is done."""

from schemas.codec import Event


class AuditEvent(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One action; `at` is milliseconds since 1970 UTC.

    `actor` is `admin` or the tenant whose key it was, `session` tells the sessions of the pages apart (empty for calls of the API), `via`
    is `api` (commands, too) or `pages`. `action` is `redrive`, `resend` or `apply`, `subject` the id of what it was done to, `detail` what
    came of it: a topic or the new id.
    """

    id: str
    at: int
    actor: str
    via: str
    action: str
    subject: str
    tenant: str = ""
    conversation: str = ""
    detail: str = ""
    session: str = ""
