"""ingress.health: when the ingress says that it is ready."""

from infra.kafka.producer import Producer
from ingress.health import Readiness


class _Log(Producer):
    """Has its topics."""

    def __init__(self) -> None:
        """Begin without a broker."""

    async def ask_partitions(self, topic: str, timeout_s: float = 5.0) -> int:
        assert topic == "raw", timeout_s
        return 8


async def test_not_ready_before_the_accounts_were_read() -> None:
    """An ingress that does not know yet who may sign would answer 503 to whoever it should refuse, and to tenants' webhooks."""
    read: list[bool] = []
    readiness = Readiness(_Log(), accounts_read=lambda: bool(read))
    assert not await readiness.check()
    assert "accounts" in readiness.reason
    assert readiness.log_answers  # which is no reason to say that the log is away
    read.append(True)
    assert await readiness.check()
