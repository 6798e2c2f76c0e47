"""The event streams of a process: bounded in all, and for each tenant, so that one with many pages open leaves room for the others."""

from collections import Counter

from ingress.auth import EVERY_TENANT

STREAMS_MAX = 100
"""Streams of one process at a time."""

_TENANT_MAX = STREAMS_MAX // 4
_ADMINISTRATORS = STREAMS_MAX // 10


class OpenStreams:
    """Who follows something; each stream is a thing of its own."""

    def __init__(self) -> None:
        self._tenants: dict[object, str] = {}

    def __len__(self) -> int:
        return len(self._tenants)

    def has_room(self, tenant: str) -> bool:
        """Tell whether one more of a tenant may be opened: a tenant has a quarter at most, and a tenth is kept for administrators."""
        if tenant == EVERY_TENANT:
            return len(self) < STREAMS_MAX
        counts = Counter(self._tenants.values())
        return counts[tenant] < _TENANT_MAX and len(self) - counts[EVERY_TENANT] < STREAMS_MAX - _ADMINISTRATORS and len(self) < STREAMS_MAX

    def add(self, stream: object, tenant: str) -> None:
        """Count a stream."""
        self._tenants[stream] = tenant

    def discard(self, stream: object) -> None:
        """Count it no more."""
        self._tenants.pop(stream, None)
