"""From configured figures to limits: presets, bursts, accounts, groups, and the bounds of exact counting."""

from collections import Counter
from datetime import date, datetime
from math import gcd
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import given, strategies as st

from cross_instance.config import Settings, greatest_burst, load_settings
from cross_instance.config.limits import account_limits, first_problem, midnight_pacific
from cross_instance.errors import ConfigError
from cross_instance.providers import presets
from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Kind,
    LimitSpec,
    Source,
)
from cross_instance.rules.specs import in_force, told_spec
from cross_instance.testing import FakeClock, ModelStore

HOUR = 3_600 * SECOND
WINTER = 1_737_000_000 * SECOND
"""2025-01-16, Pacific time 8 hours behind UTC."""
SUMMER = 1_752_600_000 * SECOND
"""2025-07-15, 7 hours behind."""
SPRING = 1_741_334_400 * SECOND
"""2025-03-07 08:00 UTC, midnight in California two days before its day of 23 hours."""
AUTUMN = 1_761_894_000 * SECOND
"""2025-10-31 07:00 UTC, midnight in California two days before its day of 25 hours."""


def load(tmp_path: Path, providers: Any = None, **arguments: Any) -> Settings:
    return load_settings(tmp_path, home=tmp_path, environ={}, providers=providers, **arguments)


def by_kind(spec: AccountSpec) -> dict[Kind, LimitSpec]:
    return {limit.kind: limit for limit in spec.limits}


def figures(limits: tuple[LimitSpec, ...]) -> dict[Kind, tuple[int, int, Source]]:
    return {limit.kind: (limit.amount, limit.burst, limit.source) for limit in limits}


@pytest.mark.parametrize(
    ("provider", "amount", "burst"),
    [("openai", 500, 100), ("anthropic", 50, 25), ("deepseek", 1000, 200), ("gemini", 60, 15)],
)
def test_what_nobody_configured_is_the_preset(tmp_path: Path, provider: str, amount: int, burst: int) -> None:
    spec = load(tmp_path).account_spec(provider)
    assert figures(spec.limits) == {Kind.REQUESTS: (amount, burst, Source.PRESET)}
    assert spec.origin == "preset"


def test_an_unknown_provider_is_a_guess_with_two_slots(tmp_path: Path) -> None:
    spec = load(tmp_path).account_spec("acme")
    assert figures(spec.limits) == {
        Kind.REQUESTS: (30, 10, Source.GUESS),
        Kind.CONCURRENCY: (2, 0, Source.GUESS),
    }
    assert spec.origin == "guess"


def test_the_guessed_slots_end_with_the_first_configured_limit(tmp_path: Path) -> None:
    spec = load(tmp_path, {"acme": {"requestsPerMinute": 600}}).account_spec("acme")
    assert figures(spec.limits) == {Kind.REQUESTS: (600, 60, Source.CONFIGURED)}


def test_a_provider_without_configured_requests_keeps_the_preset_for_them(tmp_path: Path) -> None:
    spec = load(tmp_path, {"openai": {"tokensPerMinute": 90_000}}).account_spec("OpenAI")
    assert figures(spec.limits) == {
        Kind.REQUESTS: (500, 100, Source.PRESET),
        Kind.TOKENS: (90_000, 90_000, Source.CONFIGURED),
    }
    assert spec.origin == "argument"


def test_every_key_becomes_a_limit(tmp_path: Path) -> None:
    keys = {
        "requestsPerMinute": 6,
        "requestsPerDay": 5,
        "tokensPerMinute": 4000,
        "inputTokensPerMinute": 3000,
        "outputTokensPerMinute": 200,
        "tokenBurst": 1000,
        "concurrency": 2,
    }
    spec = load(tmp_path, {"openai": keys}).account_spec("openai")
    assert figures(spec.limits) == {
        Kind.REQUESTS: (6, 6, Source.CONFIGURED),
        Kind.REQUESTS_DAY: (5, 5, Source.CONFIGURED),
        Kind.TOKENS: (4000, 1000, Source.CONFIGURED),
        Kind.INPUT_TOKENS: (3000, 1000, Source.CONFIGURED),
        Kind.OUTPUT_TOKENS: (200, 200, Source.CONFIGURED),
        Kind.CONCURRENCY: (2, 0, Source.CONFIGURED),
    }
    assert [limit.kind for limit in spec.limits] == list(Kind)
    assert by_kind(spec)[Kind.REQUESTS_DAY].period == DAY
    assert by_kind(spec)[Kind.TOKENS].period == MINUTE
    assert {limit.anchor for limit in spec.limits} == {None}


@pytest.mark.parametrize(("amount", "burst"), [(5, 1), (10, 1), (25, 2), (1000, 100)])
def test_the_default_burst_without_a_preset_is_a_tenth_of_a_minute(tmp_path: Path, amount: int, burst: int) -> None:
    spec = load(tmp_path, {"acme": {"requestsPerMinute": amount}}).account_spec("acme")
    assert by_kind(spec)[Kind.REQUESTS].burst == burst


def test_a_burst_alone_goes_with_the_preset(tmp_path: Path) -> None:
    spec = load(tmp_path, {"openai": {"burst": 7}}).account_spec("openai")
    assert figures(spec.limits) == {Kind.REQUESTS: (500, 7, Source.CONFIGURED)}


@hypothesis.settings(deadline=None)
@given(
    st.sampled_from(["openai", "anthropic", "gemini", "acme"]),
    st.integers(1, 1_000),
    st.booleans(),
    st.lists(st.integers(1, 10**6), max_size=3),
)
def test_nothing_told_raises_a_configured_burst(provider: str, burst: int, rate: bool, told: list[int]) -> None:
    keys = {"burst": burst} | ({"requestsPerMinute": 700} if rate else {})
    published = list(account_limits(provider, keys, 0))
    heard = [told_spec(Kind.REQUESTS, amount, MINUTE, correct=True, refund=True) for amount in told]
    (requests,) = [spec for spec in in_force(published, heard) if spec.kind is Kind.REQUESTS]
    assert requests.burst <= burst
    assert requests.source is Source.CONFIGURED


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "acme"])
def test_limits_are_charged_as_the_provider_does(tmp_path: Path, provider: str) -> None:
    spec = load(tmp_path, {provider: {"tokensPerMinute": 9, "inputTokensPerMinute": 9}}).account_spec(provider)
    for kind in (Kind.REQUESTS, Kind.TOKENS, Kind.INPUT_TOKENS):
        limit, charging = by_kind(spec)[kind], presets.charging(provider, kind)
        assert (limit.correct, limit.refund) == (charging.correct, charging.refund)


def test_an_account_takes_from_its_provider_what_it_does_not_set(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        {
            "openai": {
                "requestsPerMinute": 100,
                "concurrency": 4,
                "models": {"gpt-4*": {"requestsPerMinute": 10, "concurrency": 1}, "o3": {"concurrency": 3}},
                "accounts": {
                    "batch": {
                        "requestsPerMinute": 20,
                        "models": {"GPT-4*": {"concurrency": 2}, "o4": {"concurrency": 1}},
                    }
                },
            }
        },
        account="batch",
    )
    batch, other = settings.account_spec("openai"), settings.account_spec("openai", "other")
    assert figures(batch.limits) == {
        Kind.REQUESTS: (20, 20, Source.CONFIGURED),
        Kind.CONCURRENCY: (4, 0, Source.CONFIGURED),
    }
    assert {pattern: figures(limits) for pattern, limits in batch.groups} == {
        "gpt-4*": {
            Kind.REQUESTS: (10, 10, Source.CONFIGURED),
            Kind.CONCURRENCY: (2, 0, Source.CONFIGURED),
        },
        "o3": {Kind.CONCURRENCY: (3, 0, Source.CONFIGURED)},
        "o4": {Kind.CONCURRENCY: (1, 0, Source.CONFIGURED)},
    }
    assert by_kind(other)[Kind.REQUESTS].amount == 100
    assert [pattern for pattern, _ in other.groups] == ["gpt-4*", "o3"]


def test_the_cluster_is_limited_only_where_it_was_said(tmp_path: Path) -> None:
    assert load(tmp_path).cluster_spec() is None
    spec = load_settings(tmp_path, home=tmp_path, environ={"PI_TOTAL_MAX_LLM": "3"}, ageing_ms=5).cluster_spec()
    assert spec == AccountSpec(
        limits=(LimitSpec(kind=Kind.CONCURRENCY, amount=3, burst=0, period=0),),
        origin="PI_TOTAL_MAX_LLM",
        ageing=5_000,
    )


def test_the_day_of_gemini_begins_at_midnight_pacific(tmp_path: Path) -> None:
    settings = load(tmp_path, {"gemini": {"requestsPerDay": 100, "models": {"x": {"requestsPerDay": 5}}}})
    spec = settings.account_spec("gemini", wall=WINTER)
    assert by_kind(spec)[Kind.REQUESTS_DAY].anchor == 8 * HOUR
    assert spec.groups[0][1][0].anchor == 8 * HOUR
    assert by_kind(settings.account_spec("gemini", wall=SUMMER))[Kind.REQUESTS_DAY].anchor == 7 * HOUR


@pytest.mark.parametrize("begin", [SPRING, AUTUMN], ids=["23 hours", "25 hours"])
def test_each_day_in_california_has_its_requests_once(begin: int) -> None:
    """Around a change of the clocks, asked for every twenty minutes and published anew every hour."""
    store = ModelStore(FakeClock(wall=begin))
    joined = store.run(Join("one", "nonce", 1, "machine", "host", timeout=DAY))
    assert isinstance(joined, Joined)
    incarnation, revision = joined.incarnation, 0
    granted: Counter[date] = Counter()
    for seq in range(4 * 24 * 3):
        wall = store.clock.wall
        if seq % 3 == 0:
            anchor = midnight_pacific(wall)
            limit = LimitSpec(Kind.REQUESTS_DAY, 10, 10, DAY, Source.CONFIGURED, anchor=anchor)
            configured = store.run(Configure(incarnation, "gemini/default", AccountSpec((limit,))))
            assert isinstance(configured, Configured)
            revision = configured.revision
        for more in range(11):
            ask = Acquire(incarnation, 11 * seq + more, "gemini/default", revision=revision, timeout=0)
            if isinstance(store.run(ask), Granted):
                granted[datetime.fromtimestamp(wall // SECOND, ZoneInfo("America/Los_Angeles")).date()] += 1
        store.clock.advance(20 * MINUTE)
        store.run(Heartbeat(incarnation))
    assert list(granted.values()) == [10] * len(granted)
    assert len(granted) in (4, 5)


@hypothesis.settings(deadline=None)
@given(st.integers(1, 10**9), st.sampled_from([MINUTE, DAY]))
def test_up_to_the_greatest_burst_levels_are_exact(amount: int, period: int) -> None:
    scale = period // gcd(amount, period)
    burst = greatest_burst(amount, period)
    assert 1 <= burst <= 10**9
    assert burst * scale < EXACT
    assert burst == 10**9 or (burst + 1) * scale >= EXACT


@hypothesis.settings(deadline=None, max_examples=30)
@given(st.integers(1, 10**9))
def test_a_daily_limit_that_passes_is_exact_and_the_one_named_otherwise_is_the_greatest(amount: int) -> None:
    problem = first_problem("openai", {"requestsPerDay": amount}, group=False)
    fits = amount <= greatest_burst(amount, DAY)
    assert (problem is None) == fits
    if problem is not None:
        accepted = int(problem[1].rsplit(" ", 1)[1])
        assert accepted < amount
        assert first_problem("openai", {"requestsPerDay": accepted}, group=False) is None
        assert all(greatest_burst(n, DAY) < n for n in range(accepted + 1, amount))


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"requestsPerDay": 1_000_003}, "requestsPerDay", "the greatest accepted value below it is 1000000"),
        (
            {"requestsPerMinute": 7, "burst": 200_000_000},
            "burst",
            "must be at most 150119987 beside `requestsPerMinute` 7",
        ),
        ({"tokenBurst": 5}, "tokenBurst", "needs a limit of tokens per minute beside it"),
        ({"models": {"m": {"burst": 5}}}, "models.m.burst", "needs `requestsPerMinute` beside it"),
        ({"accounts": {"a": {"tokenBurst": 5}}}, "accounts.a.tokenBurst", "needs a limit of tokens"),
        ({"accounts": {"a": {"models": {"m": {"burst": 5}}}}}, "accounts.a.models.m.burst", "needs `requests"),
    ],
)
def test_limits_that_cannot_be_applied_are_refused(tmp_path: Path, keys: Any, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"openai": keys})
    assert (caught.value.origin, caught.value.key) == ("argument", f"providers.openai.{key}")
    assert message in str(caught.value)


def test_what_is_missing_in_an_account_may_stand_at_its_provider(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"openai": {"tokensPerMinute": 10, "accounts": {"a": {"tokenBurst": 5}}}})
    assert figures(loaded.account_spec("openai", "a").limits)[Kind.TOKENS] == (10, 5, Source.CONFIGURED)
