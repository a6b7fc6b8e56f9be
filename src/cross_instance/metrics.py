"""Metrics for Prometheus, read from the store: one process that is asked answers for all of them.

    from prometheus_client import REGISTRY, start_http_server
    from cross_instance.metrics import StoreCollector

    REGISTRY.register(StoreCollector(runtime))
    start_http_server(9464)

Each scrape looks at the store once. Instances that also serve it tell the same figures. What they are, and which labels
they have, is told in `readings`. It needs the extra `prometheus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cross_instance.watching.readings import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric as Family

    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.watching.readings import Metric, Values

__all__ = ["StoreCollector"]


class StoreCollector(Collector):
    """What the store of a runtime holds at the moment of a scrape; before the runtime has joined, nothing is known."""

    def __init__(self, runtime: Runtime | AsyncRuntime) -> None:
        self._membership = runtime._membership

    def describe(self) -> list[Family]:
        """Nothing in advance: registering asks no store."""
        return []

    def collect(self) -> Iterator[Family]:
        """The metrics now."""
        for metric, values in read(self._membership).items():
            yield _family(metric, values)


def _family(metric: Metric, values: Values) -> Family:
    made = CounterMetricFamily if metric.counts else GaugeMetricFamily
    labels = [name.replace(".", "_") for name in metric.attributes]
    family: Family = made(f"cross_instance_{metric.name}", metric.text, labels=labels)
    for attributes, value in values:
        family.add_metric(attributes, value)  # type: ignore[attr-defined]  # both kinds have it
    return family
