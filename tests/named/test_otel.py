"""OpenTelemetry: the same figures as for Prometheus, one look for each collection, and attributes that do not grow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.named.names import ROOT
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import Runtime
from cross_instance.config import Settings
from cross_instance.otel import observe_store
from cross_instance.rules.operations import Snapshot
from cross_instance.watching.readings import METRICS

Values = dict[str, dict[tuple[tuple[str, object], ...], float]]


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    made = InMemoryMetricReader()
    yield made
    made.shutdown()


def configured(folder: Path) -> Settings:
    models = {"big-*": {"requestsPerMinute": 30}}
    providers = {"acme": {"requestsPerMinute": 60, "burst": 10, "models": models}}
    return settings_in(folder, providers=providers, logging=False)


def collected(reader: InMemoryMetricReader) -> Values:
    data = reader.get_metrics_data()
    metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    return {
        metric.name: {
            tuple(sorted((point.attributes or {}).items())): point.value  # type: ignore[union-attr]
            for point in metric.data.data_points
        }
        for metric in metrics
    }


def place(provider: str, group: str = "") -> tuple[tuple[str, object], ...]:
    found = {
        "cross_instance.account": "default",
        "cross_instance.model_group": group,
        "gen_ai.provider.name": provider,
    }
    return tuple(sorted(found.items()))


def test_one_process_tells_of_all_with_one_look(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    timeline, settings = Timeline(), configured(tmp_path)
    with (
        Runtime("one", store=timeline, settings=settings) as one,
        Runtime("two", store=timeline, settings=settings) as two,
    ):
        observe_store(one, MeterProvider([reader]))
        with one.permit("acme", "big-1"), two.permit("acme", "small"):
            before = len(timeline.ops)
            told = collected(reader)
            looks = [op for op, _ in timeline.ops[before:] if isinstance(op, Snapshot)]
        after = collected(reader)
    assert len(looks) == 1
    assert (told["cross_instance.up"], told["cross_instance.instances"]) == ({(): 1}, {(): 2})
    assert told["cross_instance.requests_in_flight"][place("acme")] == 2
    assert told["cross_instance.requests_in_flight"][place("acme", "big-*")] == 1
    assert after["cross_instance.requests_in_flight"][place("acme")] == 0
    kinds = {dict(key)["cross_instance.kind"]: value for key, value in told["cross_instance.limit"].items()}
    assert "requests" in kinds
    assert "small" not in str(told)
    assert "one" not in str(told)


def test_a_store_that_cannot_be_read_is_not_up(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    runtime = Runtime("one", store=Timeline(), settings=configured(tmp_path))
    observe_store(runtime, MeterProvider([reader]))
    told = {name: values for name, values in collected(reader).items() if values}
    assert told == {"cross_instance.up": {(): 0}}


def test_every_metric_is_documented_and_no_other(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    page = (ROOT / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    with Runtime("one", store=Timeline(), settings=configured(tmp_path)) as runtime:
        observe_store(runtime, MeterProvider([reader]))
        with runtime.permit("acme", "big-1"):
            told = set(collected(reader))
    assert set(re.findall(r"`(cross_instance\.\w+)` \|", page)) == told
    assert len(told) == len(METRICS)
