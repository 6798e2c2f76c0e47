"""Which metrics there are, and which an expression names."""

import re
from collections.abc import Iterator

from prometheus_client.metrics import MetricWrapperBase

from infra import metrics

# From Prometheus itself and its client's process collector.
_OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
_NAME = re.compile(r"\b(?:ottla|process)_[a-z_]+|\bup(?=\{)")


def ours() -> Iterator[MetricWrapperBase]:
    """Yield every metric of `infra.metrics`."""
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            yield each


def exposed_names() -> set[str]:
    """Return the names of all series that a process may show."""
    return {each._name + suffix for each in ours() for suffix in _SUFFIXES[str(each._type)]} | _OTHERS


def named_in(expr: str) -> set[str]:
    """Return the metrics that an expression names."""
    return set(_NAME.findall(expr))
