"""Violations of order outlive the process that ends with them."""

from pathlib import Path

from prometheus_client import REGISTRY

from infra.kafka.order_violations import OrderViolations


def counted(stage: str) -> float | None:
    return REGISTRY.get_sample_value("ottla_order_violations_total", {"stage": stage})


def test_they_are_kept(tmp_path: Path) -> None:
    """There with 0 from the start, for Prometheus to see the increase; the next process begins with what there was."""
    first = OrderViolations("kept", tmp_path / "worker")
    assert counted("kept") == 0
    first.note()
    first.note()
    assert counted("kept") == 2
    OrderViolations("kept", tmp_path / "worker")
    assert counted("kept") == 4  # here both count in one process
    OrderViolations("another", tmp_path / "worker")
    assert counted("another") == 0


def test_what_cannot_be_kept_is_counted(tmp_path: Path) -> None:
    """A folder that is no folder, and a file that is no number, stop nothing."""
    (tmp_path / "file").touch()
    OrderViolations("unkept", tmp_path / "file").note()
    assert counted("unkept") == 1
    (tmp_path / "damaged").write_text("many")
    OrderViolations("damaged", tmp_path).note()
    assert (tmp_path / "damaged").read_text() == "1"
