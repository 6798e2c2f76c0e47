"""Event streams: nobody takes those of others."""

from ingress.auth import EVERY_TENANT
from ingress.pages.open_streams import STREAMS_MAX, OpenStreams


def opened(streams: OpenStreams, tenant: str) -> int:
    """Open as many as there is room for; return how many that were."""
    count = 0
    while streams.has_room(tenant):
        streams.add(object(), tenant)
        count += 1
    return count


def test_one_tenant_leaves_room_for_the_others() -> None:
    """A tenant has a quarter, all of them nine tenths; what is closed can be opened by somebody else."""
    streams = OpenStreams()
    assert opened(streams, "a") == STREAMS_MAX // 4
    assert opened(streams, "b") == STREAMS_MAX // 4
    assert [opened(streams, each) for each in ("c", "d")] == [25, 15]
    assert opened(streams, EVERY_TENANT) == 10
    assert not streams.has_room("e")
    gone = next(iter(streams._tenants))
    streams.discard(gone)
    streams.discard(gone)
    assert (streams.has_room("e"), streams.has_room("b")) == (True, False)


def test_administrators_may_have_all() -> None:
    """But no more than there are."""
    streams = OpenStreams()
    assert opened(streams, EVERY_TENANT) == len(streams) == STREAMS_MAX
    assert not streams.has_room("a")
