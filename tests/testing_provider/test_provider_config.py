"""Settings: what is accepted, what is refused and in which words; faults and latencies as drawn."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cross_instance.errors import ConfigError
from cross_instance.testing.provider import Constant, Fault, Limit, LogNormal, ProviderConfig, Uniform
from cross_instance.testing.provider.config import SECOND, parse_spec
from cross_instance.testing.provider.faults import FaultPlan
from cross_instance.testing.provider.latency import parse_latency


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("requests:amount=600,burst=20", Limit("requests", 600, burst=20)),
        ("tokens:amount=10,period=0.5,models=gpt-*", Limit("tokens", 10, period=0.5, models="gpt-*")),
        ("requests: amount = 5 , window = fixed", Limit("requests", 5, window="fixed")),
        ("concurrency:amount=4,provider=gemini", Limit("concurrency", 4, provider="gemini")),
    ],
)
def test_limits_as_text(text: str, limit: Limit) -> None:
    assert parse_spec(text, Limit) == limit


@pytest.mark.parametrize("key", ["retry_after", "retry-after", "retryAfter"])
def test_faults_as_text(key: str) -> None:
    assert parse_spec(f"429:first=2,last=4,{key}=86400", Fault) == Fault("429", first=2, last=4, retry_after="86400")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("request:amount=5", "accepted: .*requests, tokens"),
        ("requests", "amount"),
        ("requests:amount=many", "accepted"),
        ("requests:amount", "'amount' is not key=value"),
        ("requests:amount=5,bust=3", "unknown field `bust`"),
        ("requests:amount=0", r"`requests.amount`: must be a whole number, at least 1"),
        ("requests:amount=5,burst=2,window=fixed", "a fixed window has no burst"),
        ("requests:amount=5,period=0", "number of seconds"),
        ("requests:amount=5,provider=azure", "azure"),
    ],
)
def test_wrong_limits_are_told_in_full(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_spec(text, Limit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("418", "accepted: .*insufficient_quota"),
        ("500:last=0", r"`500.last`"),
        ("500:probability=2", "from 0 to 1"),
        ("500:after=3,until=2", "after < until"),
        ("429:retry_after=\n", "accepted|printable|key=value"),
        ("slow_first_byte:seconds=-1", "number of seconds"),
    ],
)
def test_wrong_faults_are_told_in_full(text: str, words: str) -> None:
    if text.endswith("\n"):
        with pytest.raises(ConfigError, match="printable"):
            Fault("429", retry_after="1\r\nset-cookie: no")
        return
    with pytest.raises(ConfigError, match=words):
        parse_spec(text, Fault)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"output_tokens": 0}, "output_tokens"),
        ({"port": 70_000}, "port"),
        ({"cached_input": 1.5}, "cached_input"),
        ({"characters_per_token": 0.0}, "characters_per_token"),
        ({"keep_alive": 0.0}, "keep_alive"),
        ({"limits": ["requests"]}, "limits"),
        ({"seed": "one"}, "seed"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"`{words}`"):
        ProviderConfig(**wrong)


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("0.5", Constant(0.5)),
        ("constant:2", Constant(2.0)),
        ("uniform:0.6:1", Uniform(0.6, 1.0)),
        ("lognormal:0.8:0.5", LogNormal(0.8, 0.5)),
    ],
)
def test_latencies_as_text(text: str, latency: object) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize("text", ["", "fast", "uniform:1", "uniform:2:1", "normal:1:1", "-1", "lognormal:0:1", "nan"])
def test_wrong_latencies_are_told_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ConfigError, match="uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA"):
        parse_latency(text)


@given(st.integers(), st.floats(0, 10), st.floats(0, 10))
def test_latencies_stay_in_range_and_repeat_with_their_seed(seed: int, low: float, more: float) -> None:
    latency = Uniform(low, low + more)
    drawn = latency.draw(Random(seed))
    assert low <= drawn <= low + more
    assert drawn == latency.draw(Random(seed))


def test_a_lognormal_has_its_median() -> None:
    random = Random(1)
    latency = LogNormal(0.8, 0.5)
    drawn = sorted(latency.draw(random) for _ in range(2001))
    assert drawn[1000] == pytest.approx(0.8, rel=0.1)


def test_faults_by_number_time_model_and_chance() -> None:
    by_number = FaultPlan([Fault("500", first=2, last=3)], Random(1), 0)
    assert [by_number.next("m", 0) is not None for _ in range(4)] == [False, True, True, False]
    by_time = FaultPlan([Fault("500", after=1.0, until=2.0)], Random(1), 10 * SECOND)
    assert [by_time.next("m", (10 + at) * SECOND) is not None for at in range(4)] == [False, True, False, False]
    by_model = FaultPlan([Fault("500", models="gpt-*"), Fault("529")], Random(1), 0)
    assert [fault.kind for model in ("gpt-4o", "o3") if (fault := by_model.next(model, 0))] == ["500", "529"]


@given(st.integers(0, 1000))
def test_faults_by_chance_repeat_with_their_seed(seed: int) -> None:
    def run() -> list[bool]:
        plan = FaultPlan([Fault("500", probability=0.5)], Random(seed), 0)
        return [plan.next("m", 0) is not None for _ in range(30)]

    assert run() == run()
    assert 0 < sum(run()) < 30
