"""Which keys are one conversation: a person may have come under a phone number and under a user id. Every read is bounded."""

import asyncio

from infra.cassandra.session import Cassandra

_STEPS_MAX = 5
_MEMBERS_MAX = 100

_SELECT_ALIAS = "SELECT conversation, joined FROM @.aliases WHERE alias = ?"
_SELECT_MEMBERS = f"SELECT member FROM @.members WHERE conversation = ? LIMIT {_MEMBERS_MAX}"  # noqa: S608  # a constant


async def leads_to(cassandra: Cassandra, key: str) -> str:
    """Return the conversation that a key's events belong to by now: itself if it is nobody's alias. Raises CassandraAwayError."""
    rows = await cassandra.execute(_SELECT_ALIAS, (key,))
    return str(rows[0]["conversation"]) if rows else key


async def conversation_of_key(cassandra: Cassandra, key: str) -> str:
    """Return the conversation that what was said under a key is part of: itself if it was joined to none. Raises CassandraAwayError.

    A phone number that changed hands still names the conversation of the one it belonged to.
    """
    seen = {key}
    for _ in range(_STEPS_MAX):
        rows = await cassandra.execute(_SELECT_ALIAS, (key,))
        joined = rows[0]["joined"] if rows else None
        if joined is None or joined in seen:
            break
        key = str(joined)
        seen.add(key)
    return key


async def members_of(cassandra: Cassandra, conversation: str) -> list[str]:
    """Return the keys whose messages are one thread, at most 100, the conversation's own first. Raises CassandraAwayError."""
    found, newest = [conversation], [conversation]
    for _ in range(_STEPS_MAX):
        told = await asyncio.gather(*(cassandra.execute(_SELECT_MEMBERS, (key,)) for key in newest))
        newest = [key for key in dict.fromkeys(row["member"] for rows in told for row in rows) if key not in found]
        found += newest
        if not newest or len(found) >= _MEMBERS_MAX:
            break
    return found[:_MEMBERS_MAX]
