"""Metrics for OpenTelemetry, read from the store: one process that exports answers for all of them.

    from cross_instance.otel import observe_calls, observe_store

    observe_store(runtime)
    observe_calls(runtime)

1. Each collection looks at the store once, whatever asks for how many metrics. What they are, and which attributes they
   have, is told in `readings`.
2. Names are `cross_instance.…`; the provider is `gen_ai.provider.name` of the semantic conventions. There are no
   conventions for limits and queues. There are for calls, which each process measures for itself (`call_metrics`).

It needs the extra `opentelemetry`, which is the API alone; where the figures go is the SDK's to configure.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation, get_meter_provider

from cross_instance._version import __version__
from cross_instance.watching.call_metrics import MEASURES, Calls
from cross_instance.watching.readings import METRICS, PLACE, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from cross_instance.membership.membership import Membership
    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.watching.notes import Ended
    from cross_instance.watching.readings import Metric, Values

__all__ = ["observe_calls", "observe_store"]

SCOPE = "cross_instance"


def observe_store(runtime: Runtime | AsyncRuntime, meter_provider: MeterProvider | None = None) -> None:
    """Have what the store of a runtime holds exported; `meter_provider`: None is the global one. Once for a process."""
    meter = (meter_provider or get_meter_provider()).get_meter(SCOPE, __version__)
    looks = _Looks(runtime._membership)
    for metric in METRICS:
        make = meter.create_observable_counter if metric.counts else meter.create_observable_gauge
        name = f"{SCOPE}.{metric.name.removesuffix('_seconds')}"
        make(name, [partial(looks.observe, metric)], unit=metric.unit, description=metric.text)


def observe_calls(runtime: Runtime | AsyncRuntime, meter_provider: MeterProvider | None = None) -> None:
    """Have the durations and tokens of this process's calls exported, as they end; once for a process.

    `meter_provider`: None is the global one.
    """
    meter = (meter_provider or get_meter_provider()).get_meter(SCOPE, __version__)
    histograms = {
        measure: meter.create_histogram(
            measure.name, measure.unit, measure.text, explicit_bucket_boundaries_advisory=measure.bounds
        )
        for measure in MEASURES
    }
    calls = Calls()

    def hear(ended: Sequence[Ended]) -> None:
        for measure, attributes, value in calls.measured(ended):
            named = zip(measure.attributes, attributes, strict=True)
            histograms[measure].record(value, {name: text for name, text in named if text})

    runtime._membership.activity.hear_ends(hear)


class _Looks:
    """One look for each collection: the next one begins when a metric is asked for that has been told of the last."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._seen: dict[Metric, Values] = {}
        self._lock = threading.Lock()

    def observe(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        """The values of a metric now."""
        with self._lock:
            if metric not in self._seen:
                self._seen = {one: list[Any]() for one in METRICS} | read(self._membership)
            values = self._seen.pop(metric)
        names = [_attribute(name) for name in metric.attributes]
        return [Observation(value, dict(zip(names, attributes, strict=True))) for attributes, value in values]


def _attribute(name: str) -> str:
    return name if name == PLACE[0] else f"{SCOPE}.{name}"
