"""Metrics for Prometheus, read from the store: one process that is asked answers for all of them.

    from prometheus_client import REGISTRY, start_http_server
    from cross_instance.metrics import CallCollector, StoreCollector

    REGISTRY.register(StoreCollector(runtime))
    REGISTRY.register(CallCollector(runtime))
    start_http_server(9464)

Each scrape looks at the store once. Instances that also serve it tell the same figures. What they are, and which labels
they have, is told in `readings`. How long calls took is measured by each process for its own (`call_metrics`). It needs
the extra `prometheus`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING
from weakref import WeakSet

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from cross_instance.watching.call_metrics import MEASURES, Calls
from cross_instance.watching.readings import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric as Family

    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.watching.call_metrics import Measure
    from cross_instance.watching.notes import Ended
    from cross_instance.watching.readings import Metric, Values

__all__ = ["CallCollector", "StoreCollector"]


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


class CallCollector(Collector):
    """The durations and tokens of the calls of a runtime's process, from now on; in a forked child, of the child's."""

    def __init__(self, runtime: Runtime | AsyncRuntime) -> None:
        self._begin()
        _collectors.add(self)
        runtime._membership.activity.hear_ends(self._hear)

    def _begin(self) -> None:
        """Know of no call; also in a forked child, where a thread that does not exist may have held the lock."""
        self._calls = Calls()
        self._buckets: dict[Measure, dict[tuple[str, ...], _Buckets]] = {measure: {} for measure in MEASURES}
        self._lock = threading.Lock()

    def _hear(self, ended: Sequence[Ended]) -> None:
        with self._lock:
            for measure, attributes, value in self._calls.measured(ended):
                buckets = self._buckets[measure].setdefault(attributes, _Buckets(measure.bounds))
                buckets.add(value)

    def describe(self) -> list[Family]:
        """Nothing in advance."""
        return []

    def collect(self) -> Iterator[Family]:
        """The histograms now."""
        for measure, series in self._buckets.items():
            seconds = "_seconds" if measure.unit == "s" else ""
            labels = [_label(name) for name in measure.attributes]
            family = HistogramMetricFamily(_label(measure.name) + seconds, measure.text, labels=labels)
            with self._lock:
                for attributes, buckets in series.items():
                    family.add_metric(attributes, buckets.cumulated(), sum_value=buckets.sum)
            yield family


_collectors: WeakSet[CallCollector] = WeakSet()


def _begin_anew() -> None:
    for collector in list(_collectors):
        collector._begin()


os.register_at_fork(after_in_child=_begin_anew)


class _Buckets:
    """One series of a histogram."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """One more value; a bucket holds those up to its bound."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulated(self) -> list[tuple[str, float]]:
        """How many values each bound and all smaller ones hold."""
        bounds = (*map(floatToGoString, self._bounds), "+Inf")
        return list(zip(bounds, accumulate(self._counts), strict=True))


def _label(name: str) -> str:
    return name.replace(".", "_")


def _family(metric: Metric, values: Values) -> Family:
    made = CounterMetricFamily if metric.counts else GaugeMetricFamily
    labels = [_label(name) for name in metric.attributes]
    family: Family = made(f"cross_instance_{metric.name}", metric.text, labels=labels)
    for attributes, value in values:
        family.add_metric(attributes, value)  # type: ignore[attr-defined]  # both kinds have it
    return family
