"""Durations and tokens of calls: histograms by the semantic conventions, with attributes that do not grow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from tests.named.names import ROOT
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import Runtime, Usage
from cross_instance.metrics import CallCollector
from cross_instance.otel import observe_calls
from cross_instance.providers.requests import read_request
from cross_instance.status import OTHER_MODELS
from cross_instance.watching import call_metrics
from cross_instance.watching.call_metrics import DURATION, MEASURES, TOKENS

PROVIDERS = {"acme": {"requestsPerMinute": 60_000, "burst": 1_000, "baseUrls": ["http://acme.test"]}}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path, providers=PROVIDERS, logging=False)) as joined:
        yield joined


def call(runtime: Runtime, model: str = "m", **settled: Any) -> None:
    with runtime.permit("acme", model) as permit:
        permit.settle(**settled)


def hear(runtime: Runtime) -> None:
    runtime._membership.activity._safely()


@pytest.fixture
def reader(runtime: Runtime) -> Iterator[InMemoryMetricReader]:
    made = InMemoryMetricReader()
    observe_calls(runtime, MeterProvider([made]))
    yield made
    made.shutdown()


@pytest.fixture
def registry(runtime: Runtime) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(CallCollector(runtime))
    return made


def points(reader: InMemoryMetricReader) -> dict[str, list[HistogramDataPoint]]:
    data = reader.get_metrics_data()
    metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    found: dict[str, list[Any]] = {metric.name: list(metric.data.data_points) for metric in metrics}
    return found


def series(registry: CollectorRegistry, name: str) -> dict[str, float]:
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith(f"{name}{{")]
    return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_bounds_are_those_of_the_conventions() -> None:
    assert DURATION.bounds == (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    )
    assert TOKENS.bounds == (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    )


def test_every_end_of_a_call_is_measured_once(
    runtime: Runtime, reader: InMemoryMetricReader, registry: CollectorRegistry
) -> None:
    usage = Usage(input_tokens=5, output_tokens=3, cache_read_tokens=20)
    call(runtime, status=200, usage=usage, operation="chat")
    for outcome in ("rejected", "overloaded", "timeout", "error", "ignored"):
        call(runtime, outcome=outcome)
    hear(runtime)
    told = points(reader)
    durations = told["gen_ai.client.operation.duration"]
    errors = {(point.attributes or {}).get("error.type"): point.count for point in durations}
    assert errors == dict.fromkeys((None, "429", "overloaded", "timeout", "_OTHER"), 1)
    done = next(point for point in durations if "error.type" not in (point.attributes or {}))
    assert done.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "m",
    }
    assert tuple(done.explicit_bounds) == DURATION.bounds
    tokens = {(point.attributes or {})["gen_ai.token.type"]: point.sum for point in told["gen_ai.client.token.usage"]}
    assert tokens == {"input": 25, "output": 3}
    assert sum(series(registry, "gen_ai_client_operation_duration_seconds_count").values()) == 5
    of = 'gen_ai_operation_name="chat",gen_ai_provider_name="acme",gen_ai_request_model="m"'
    buckets = series(registry, "gen_ai_client_token_usage_bucket")
    inputs = f'gen_ai_client_token_usage_bucket{{{of},gen_ai_token_type="input",le="'
    assert [buckets[f'{inputs}{bound}"}}'] for bound in ("16.0", "64.0", "+Inf")] == [0, 1, 1]
    sums = series(registry, "gen_ai_client_token_usage_sum")
    assert sums[f'gen_ai_client_token_usage_sum{{{of},gen_ai_token_type="output"}}'] == 3


def test_models_beyond_the_first_are_one(
    runtime: Runtime, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_metrics, "MOST_MODELS", 2)
    for model in ("a", "b", "c", "d", "a"):
        call(runtime, model, status=200)
    hear(runtime)
    counts = series(registry, "gen_ai_client_operation_duration_seconds_count")
    models = {re.findall(r'request_model="(.*?)"', key)[0]: value for key, value in counts.items()}
    assert models == {"a": 2, "b": 1, OTHER_MODELS: 2}


def test_a_transport_says_what_was_asked_for(runtime: Runtime, reader: InMemoryMetricReader) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"usage": {"prompt_tokens": 7, "completion_tokens": 2}})

    with runtime.http_client(transport=httpx2.MockTransport(answer)) as client:
        client.post("http://acme.test/v1/embeddings", json={"model": "e", "input": "text"})
    hear(runtime)
    told = points(reader)
    assert {(point.attributes or {})["gen_ai.operation.name"] for name in told for point in told[name]} == {
        "embeddings"
    }


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1beta/models/g:embedContent", "embeddings"),
        ("/v1beta/models/g:streamGenerateContent?alt=sse", "generate_content"),
        ("/v1/messages/count_tokens", "other"),
        ("/v1/audio/speech", "other"),
    ],
)
def test_operations_are_known_by_their_paths(path: str, operation: str) -> None:
    info = read_request("acme", "POST", path, "application/json", b'{"model": "m", "messages": []}')
    assert info is not None
    assert info.operation == operation


def test_an_operation_that_does_not_exist_is_refused(runtime: Runtime) -> None:
    with runtime.permit("acme", "m") as permit, pytest.raises(ValueError, match="operation is one of"):
        permit.settle(operation="anything")


def test_every_measure_is_documented() -> None:
    page = (ROOT / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(gen_ai\.client\.[\w.]+)` \|", page)) == {measure.name for measure in MEASURES}
    assert f"the first {call_metrics.MOST_MODELS}" in page
