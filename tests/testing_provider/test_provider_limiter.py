"""The referee's own laws: it admits neither more nor less than the limits say, to the microsecond."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, strategies as st

from cross_instance.errors import ConfigError
from cross_instance.testing.provider.charging import Charge, Usage, on_arrival, on_output, on_start
from cross_instance.testing.provider.config import SECOND, Limit
from cross_instance.testing.provider.limiter import Admission, Bucket, FixedWindow, Limiter, Refusal

ONE = Charge(tokens=1, input_tokens=1)
MINUTE = 60 * SECOND

buckets = st.builds(
    Limit,
    kind=st.just("tokens"),
    amount=st.integers(1, 10_000),
    burst=st.integers(1, 500),
    period=st.sampled_from([0.001, 0.7, 1.0, 60.0, 86_400.0]),
)
windows = st.builds(
    Limit,
    kind=st.just("tokens"),
    amount=st.integers(1, 500),
    period=st.sampled_from([0.001, 0.7, 60.0]),
    window=st.just("fixed"),
)
arrivals = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 600)), min_size=1, max_size=40)
"""Gaps in µs before each request, and what it takes."""


def admitted(limit: Limit, requests: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What a limiter lets in, as (instant, units)."""
    limiter = Limiter([limit])
    instants = accumulate(gap for gap, _ in requests)
    return [
        (now, units)
        for now, (_, units) in zip(instants, requests, strict=True)
        if isinstance(limiter.admit("a", "openai", "m", Charge(units, units), now), Admission)
    ]


@given(buckets, arrivals)
def test_a_bucket_never_admits_more_than_its_burst_and_rate_in_any_interval(
    limit: Limit, requests: list[tuple[int, int]]
) -> None:
    taken = admitted(limit, requests)
    for first, (start, _) in enumerate(taken):
        for last in range(first, len(taken)):
            units = sum(units for _, units in taken[first : last + 1])
            assert units <= limit.capacity + Fraction(limit.amount * (taken[last][0] - start), limit.period_us)


@given(buckets, arrivals)
def test_a_bucket_admits_exactly_what_a_bucket_of_fractions_would(
    limit: Limit, requests: list[tuple[int, int]]
) -> None:
    level, former, expected = Fraction(limit.capacity), 0, []
    instants = accumulate(gap for gap, _ in requests)
    for now, (_, units) in zip(instants, requests, strict=True):
        level = min(Fraction(limit.capacity), level + Fraction(limit.amount * (now - former), limit.period_us))
        former = now
        if units <= level:
            level -= units
            expected.append((now, units))
    assert admitted(limit, requests) == expected


@given(windows, arrivals)
def test_a_fixed_window_never_admits_more_than_its_amount(limit: Limit, requests: list[tuple[int, int]]) -> None:
    used: dict[int, int] = {}
    for now, units in admitted(limit, requests):
        used[now // limit.period_us] = used.get(now // limit.period_us, 0) + units
    assert all(units <= limit.amount for units in used.values())


@given(st.one_of(buckets, windows), arrivals)
def test_the_wait_that_is_told_is_exact(limit: Limit, requests: list[tuple[int, int]]) -> None:
    meter = FixedWindow(limit) if limit.window == "fixed" else Bucket(limit)
    now = 0
    for gap, units in requests:
        now += gap
        wait = meter.wait(units, now)
        assert (wait is None) == (units > limit.capacity)
        if wait:
            assert meter.wait(units, now + wait - 1) == 1
            assert meter.wait(units, now + wait) == 0
        elif wait == 0:
            meter.take(units, now)


@given(buckets, st.integers(1, 1000), st.integers(0, 10 * SECOND))
def test_what_is_given_back_never_overfills(limit: Limit, units: int, now: int) -> None:
    bucket = Bucket(limit)
    bucket.take(-units, now)
    assert bucket.available(now) == limit.capacity


@given(buckets, st.integers(1, 1000), st.integers(1, 10_000), st.integers(1, 500))
def test_a_changed_limit_keeps_what_was_spent(limit: Limit, spent: int, amount: int, burst: int) -> None:
    bucket = Bucket(limit)
    bucket.take(spent, 5)
    bucket.change(Limit("tokens", amount, burst=burst, period=limit.period), 5)
    assert bucket.available(5) == burst - spent


def test_all_or_nothing() -> None:
    limiter = Limiter([Limit("requests", 10), Limit("tokens", 100), Limit("concurrency", 5)])
    refusal = limiter.admit("a", "openai", "m", Charge(101, 0), 0)
    assert isinstance(refusal, Refusal)
    assert refusal.too_large
    assert [view.remaining for view in limiter.views("a", "openai", "m", 0)] == [10, 100, 5]


def test_the_limit_that_holds_longest_is_told() -> None:
    limiter = Limiter([Limit("requests", 60, burst=1), Limit("tokens", 60, burst=10)])
    assert isinstance(limiter.admit("a", "openai", "m", Charge(10, 0), 0), Admission)
    refusal = limiter.admit("a", "openai", "m", Charge(10, 0), 0)
    assert isinstance(refusal, Refusal)
    assert (refusal.limit.kind, refusal.wait) == ("tokens", 10 * SECOND)


def test_accounts_providers_and_models_have_their_own_limits() -> None:
    limiter = Limiter([Limit("requests", 1, models="gpt-*"), Limit("requests", 1, provider="anthropic")])

    def fits(account: str, provider: str, model: str) -> bool:
        return isinstance(limiter.admit(account, provider, model, ONE, 0), Admission)

    assert fits("a", "openai", "gpt-4o")
    assert not fits("a", "openai", "gpt-4o-mini")  # the pattern's models share one limit
    assert fits("b", "openai", "gpt-4o")
    assert fits("a", "openai", "o3")
    assert fits("a", "openai", "o3")  # no limit at all
    assert fits("c", "anthropic", "claude")
    assert not fits("c", "anthropic", "claude")


def test_slots_are_held_until_the_request_is_over() -> None:
    limiter = Limiter([Limit("concurrency", 1)])
    first = limiter.admit("a", "openai", "m", ONE, 0)
    assert isinstance(first, Admission)
    refusal = limiter.admit("a", "openai", "m", ONE, MINUTE)
    assert isinstance(refusal, Refusal)
    assert refusal.wait is None
    first.finish(MINUTE)
    first.finish(MINUTE)  # twice does no harm
    assert limiter.views("a", "openai", "m", MINUTE)[0].remaining == 1


def test_slots_held_while_the_limit_changes_come_back_to_the_new_limit() -> None:
    limiter = Limiter([Limit("concurrency", 2)])
    held = limiter.admit("a", "openai", "m", ONE, 0)
    assert isinstance(held, Admission)
    limiter.replace([Limit("concurrency", 1)], 0)
    assert isinstance(limiter.admit("a", "openai", "m", ONE, 0), Refusal)
    held.finish(0)
    assert isinstance(limiter.admit("a", "openai", "m", ONE, 0), Admission)


def test_a_penalty_empties_but_never_owes() -> None:
    limiter = Limiter([Limit("requests", 60, burst=2)])
    for _ in range(9):
        limiter.penalise("a", "openai", "m", ONE, 0)
    refusal = limiter.admit("a", "openai", "m", ONE, SECOND - 1)
    assert isinstance(refusal, Refusal)
    assert isinstance(limiter.admit("a", "openai", "m", ONE, SECOND), Admission)


def test_a_request_that_never_fits_is_not_penalised_for_it() -> None:
    limiter = Limiter([Limit("tokens", 100), Limit("requests", 10)])
    limiter.penalise("a", "openai", "m", Charge(101, 0), 0)
    assert [view.remaining for view in limiter.views("a", "openai", "m", 0)] == [100, 9]


def test_output_is_owed_when_it_exceeds_what_is_left() -> None:
    limiter = Limiter([Limit("output_tokens", 60, burst=10)])
    admission = limiter.admit("a", "anthropic", "m", ONE, 0)
    assert isinstance(admission, Admission)
    admission.correct("output_tokens", 15, 0)
    refusal = limiter.admit("a", "anthropic", "m", ONE, 0)
    assert isinstance(refusal, Refusal)
    assert (refusal.available, refusal.wait) == (-5, 6 * SECOND)


def test_a_correction_downwards_does_not_help_a_later_window() -> None:
    limiter = Limiter([Limit("input_tokens", 10, window="fixed")])
    first = limiter.admit("a", "anthropic", "m", Charge(8, 8), 0)
    assert isinstance(first, Admission)
    assert isinstance(limiter.admit("a", "anthropic", "m", Charge(9, 9), MINUTE), Admission)
    first.correct("input_tokens", -5, MINUTE)
    assert limiter.views("a", "anthropic", "m", MINUTE)[0].remaining == 1


def test_a_limit_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`requests`: given twice"):
        Limiter([Limit("requests", 1), Limit("requests", 2)])


def test_each_provider_charges_by_its_own_rule() -> None:
    figures = {"estimate": 100, "real_input": 120, "output_limit": 500}
    assert on_arrival("openai", **figures) == Charge(tokens=500, input_tokens=100)
    assert on_arrival("openai", estimate=100, real_input=120, output_limit=None) == Charge(100, 100)
    assert on_arrival("anthropic", **figures) == Charge(100, 100)
    assert on_arrival("gemini", **figures) == Charge(120, 120)
    usage = Usage(input_tokens=120, cached=50, output_tokens=7)
    assert dict(on_start("anthropic", Charge(100, 100), usage)) == {"input_tokens": -30, "tokens": -30}
    assert on_start("openai", Charge(500, 100), usage) == []
    assert dict(on_output("anthropic", 7)) == {"output_tokens": 7, "tokens": 7}
    assert dict(on_output("gemini", 7)) == {"output_tokens": 7}
