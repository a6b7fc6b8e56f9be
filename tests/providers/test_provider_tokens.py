"""Costs by each provider's rule, and the calibration that makes estimates fit."""

import threading

import pytest
from hypothesis import given, strategies as st

from cross_instance.providers import calibration as calibrating
from cross_instance.providers.calibration import FIRST_OUTPUT
from cross_instance.providers.tokens import Calibration, RequestInfo, Usage, charged, costs_of
from cross_instance.rules.operations import Costs


def request(estimated: int = 1_000, limit: int | None = None, model: str = "m") -> RequestInfo:
    return RequestInfo(model, estimated_input=estimated, output_limit=limit)


@pytest.mark.parametrize(
    ("provider", "limit", "tokens"),
    [
        ("openai", 4_000, 4_000),
        ("openai", 100, 1_000),
        ("openai", None, 1_000),
        ("azure", 4_000, 5_000),
        ("azure", None, 1_000 + FIRST_OUTPUT),
        ("anthropic", 32_000, 1_000 + FIRST_OUTPUT),
        ("anthropic", 10, 1_010),
        ("gemini", 8_000, 1_000),
        ("deepseek", 8_000, 1_000 + FIRST_OUTPUT),
        ("unheard-of", None, 1_000 + FIRST_OUTPUT),
        ("OpenAI", 4_000, 4_000),
    ],
)
def test_the_cost_on_arrival(provider: str, limit: int | None, tokens: int) -> None:
    costs = costs_of(provider, request(limit=limit), Calibration())
    assert costs.requests == 1
    assert costs.tokens == tokens
    assert costs.input_tokens == 1_000
    assert costs.output_tokens == min(FIRST_OUTPUT, FIRST_OUTPUT if limit is None else limit)


def test_what_counts_no_tokens_costs_a_request() -> None:
    assert costs_of("openai", RequestInfo("m", counts=False, output_limit=9), Calibration()) == Costs()


def test_embeddings_cost_their_input_everywhere() -> None:
    for provider in ("openai", "azure", "gemini", "unheard-of"):
        costs = costs_of(provider, request(limit=0), Calibration())
        assert (costs.tokens, costs.output_tokens) == (1_000, 0)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o", Costs(1, 1_321, 1_221, 100)),
        ("azure", "mine", Costs(1, 1_321, 1_221, 100)),
        ("anthropic", "claude-sonnet-4-5", Costs(1, 321, 221, 100)),
        ("anthropic", "claude-3-5-haiku-20241022", Costs(1, 1_321, 1_221, 100)),
        ("anthropic", "claude-haiku-4-5", Costs(1, 321, 221, 100)),
        ("gemini", "gemini-3", Costs(1, 1_221, 1_221, 100)),
        ("unheard-of", "", Costs(1, 1_321, 1_221, 100)),
    ],
)
def test_the_real_cost(provider: str, model: str, expected: Costs) -> None:
    usage = Usage(input_tokens=21, output_tokens=100, cache_creation_tokens=200, cache_read_tokens=1_000)
    assert charged(provider, usage, model) == expected


def learn(calibration: Calibration, times: int, inputs: int, outputs: int, provider: str = "openai") -> None:
    for _ in range(times):
        calibration.observe(provider, "m", request(1_000), Usage(inputs, outputs))


@given(st.integers(100, 15_000), st.integers(0, 20_000))
def test_estimates_come_to_fit_what_is_used(inputs: int, outputs: int) -> None:
    calibration = Calibration()
    learn(calibration, 100, inputs, outputs)
    costs = costs_of("unheard-of", request(1_000), _renamed(calibration, inputs, outputs))
    assert calibration.input_factor("openai", "m") * 1_000 == pytest.approx(inputs, rel=0.01)
    assert costs.input_tokens == pytest.approx(inputs, rel=0.01, abs=1)
    assert calibration.output("openai", "m") == pytest.approx(outputs, rel=0.01, abs=2)


def _renamed(calibration: Calibration, inputs: int, outputs: int) -> Calibration:
    learn(calibration, 100, inputs, outputs, provider="unheard-of")
    return calibration


def test_it_rises_fast_and_falls_slowly() -> None:
    calibration = Calibration()
    learn(calibration, 1, 3_000, 2_500)
    assert calibration.input_factor("openai", "m") == pytest.approx(2.0)
    assert calibration.output("openai", "m") == 1_500
    learn(calibration, 1, 1_000, 500)
    assert calibration.input_factor("openai", "m") == pytest.approx(1.9)
    assert calibration.output("openai", "m") == 1_400


def test_models_and_providers_are_learned_apart() -> None:
    calibration = Calibration()
    learn(calibration, 50, 5_000, 9_000)
    assert calibration.input_factor("openai", "other") == 1.0
    assert calibration.input_factor("azure", "m") == 1.0
    assert calibration.output("openai", "other") == FIRST_OUTPUT
    assert calibration.input_factor("OpenAI", "m") > 4


def test_free_cache_reads_are_learned_where_they_are_free() -> None:
    calibration = Calibration()
    for provider in ("openai", "anthropic"):
        for _ in range(100):
            calibration.observe(provider, "m", request(1_000), Usage(100, 10, 0, 900))
    assert calibration.input_factor("openai", "m") == pytest.approx(1.0)
    assert calibration.input_factor("anthropic", "m") == pytest.approx(0.1, rel=0.01)


def test_absurd_usage_stays_within_bounds() -> None:
    calibration = Calibration()
    learn(calibration, 50, 10**12, 0)
    assert calibration.input_factor("openai", "m") <= calibrating.LARGEST_FACTOR
    learn(calibration, 200, 1, 0)
    assert calibration.input_factor("openai", "m") >= calibrating.SMALLEST_FACTOR


def test_nothing_is_learned_from_what_says_nothing() -> None:
    calibration = Calibration()
    calibration.observe("openai", "m", request(1_000), Usage())
    calibration.observe("openai", "m", RequestInfo("m", counts=False), Usage(5, 5))
    assert calibration.input_factor("openai", "m") == 1.0
    assert calibration.output("openai", "m") == FIRST_OUTPUT


def test_without_an_estimate_only_the_output_is_learned() -> None:
    calibration = Calibration()
    calibration.observe("openai", "m", request(0), Usage(700, 2_500))
    assert calibration.input_factor("openai", "m") == 1.0
    assert calibration.output("openai", "m") == 1_500


def test_memory_is_bounded() -> None:
    calibration = Calibration()
    for number in range(calibrating.MOST_MODELS + 1):
        calibration.observe("openai", f"m{number}", request(1_000), Usage(3_000, 10))
    assert calibration.input_factor("openai", "m0") == 1.0, "the first is forgotten"
    assert calibration.input_factor("openai", "m1") > 1.0


def test_threads_lose_no_observation() -> None:
    calibration = Calibration()
    threads = [threading.Thread(target=learn, args=(calibration, 200, 500, 600)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Calibration()
    learn(alone, 1_600, 500, 600)
    assert calibration.input_factor("openai", "m") == alone.input_factor("openai", "m")
    assert calibration.output("openai", "m") == alone.output("openai", "m")
