"""Raw records on a page: of messages only, and a tenant's own only."""

import pytest

from infra.cassandra.rows import write_rows
from infra.cassandra.session import Cassandra
from infra.kafka.admin import create_topics
from infra.kafka.producer import Producer
from infra.settings import Settings
from sinks.history_rows import history_rows
from tests.cassandra.conftest import cassandra, history_settings, tenant
from tests.history_events import NOON_MS, Talk
from tests.ingress.pages.site import ADMIN_KEY, TENANT_KEY, browser, site

__all__ = ["cassandra", "history_settings", "tenant"]


@pytest.mark.servers
async def test_a_record_is_shown_to_whom_it_belongs(cassandra: Cassandra, settings: Settings, tenant: str) -> None:
    """Whole, harmless and indented; not to another tenant, nor once the conversation has messages of two; accounts' topics to nobody."""
    await create_topics(settings)
    talk = Talk(tenant=tenant)
    producer = Producer(settings, client_id="test")
    await producer.start()
    offset = await producer.send("raw", key=talk.key.encode(), value=b'{"a":"<b>\xe2\x80\xae"}', headers=[("ce_id", b"<i>")], partition=2)
    await producer.stop()
    record = talk.inbound(talk.wamid("in"), "hello", at_ms=NOON_MS)
    await write_rows(cassandra, history_rows(record))
    path = f"/records/raw/2/{offset}"
    async with browser(site(cassandra, tenant=tenant, settings=settings), TENANT_KEY) as client:
        shown = await client.get(path)
        assert shown.status_code == 200
        for words in ("&#34;a&#34;: &#34;&lt;b&gt;\\u202e&#34;", "&lt;i&gt;", talk.key):
            assert words in shown.text
        for other in (
            "/records/accounts/0/0",
            "/records/raw/2/999",
            "/records/raw/99/0",
            "/records/raw/99999999999/0",
            "/records/x/0/0",
            f"/records/raw/0/{'9' * 5_000}",
            "/records/raw/0/²",
        ):
            assert (await client.get(other)).status_code == 404, other
        await write_rows(cassandra, history_rows(Talk(contact=talk.contact, tenant=f"{tenant}-2").inbound("x", "hello", at_ms=NOON_MS + 1)))
        assert (await client.get(path)).status_code == 404
    other_app = site(cassandra, tenant=f"{tenant}-other", settings=settings)
    async with browser(other_app, TENANT_KEY) as client:
        assert (await client.get(path)).status_code == 404
    async with browser(other_app, ADMIN_KEY) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.get("/records/accounts/0/0")).status_code == 404
