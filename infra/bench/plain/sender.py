"""Plain: a consumer that posts one answer after the other and tells [plain-sent] what the platform called it."""

import uuid

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from infra.bench.plain import OUTBOUND, SENDER, SENT
from infra.settings import load_settings
from infra.simulator.freshen import ACCOUNT_DEFAULT


async def _run() -> None:
    settings = load_settings()
    servers = settings.kafka
    url = f"{settings.whatsapp_api}/{ACCOUNT_DEFAULT}/messages"
    headers = {"Authorization": f"Bearer {settings.whatsapp_token.get_secret_value()}"}
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + OUTBOUND, group_id=settings.topic_prefix + SENDER, auto_offset_reset="earliest", bootstrap_servers=servers
    )
    async with consumer, AIOKafkaProducer(bootstrap_servers=servers) as producer, aiohttp.ClientSession(headers=headers) as session:
        async for record in consumer:
            answer = orjson.loads(record.value)
            message = {
                "messaging_product": "whatsapp",
                "to": answer["to"],
                "type": "text",
                "text": {"body": answer["text"]},
                "biz_opaque_callback_data": uuid.uuid4().hex,
            }
            async with session.post(url, json=message) as reply:
                if not reply.ok:
                    print(f"not sent: {reply.status}", flush=True)  # noqa: T201  # it is this process's log
                    continue
                sent = answer | {"id": (await reply.json())["messages"][0]["id"]}
            await producer.send_and_wait(settings.topic_prefix + SENT, key=record.key, value=orjson.dumps(sent))


if __name__ == "__main__":
    uvloop.run(_run())
