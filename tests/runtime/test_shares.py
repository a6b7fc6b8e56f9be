"""The arithmetic of fair shares: they never add up to more than the limit."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, strategies as st

from cross_instance.degraded.shares import LONGEST, Share, first_level, scaled_spec
from cross_instance.rules.limits import new_limit
from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    AccountSpec,
    Instant,
    Kind,
    LimitSpec,
    LimitState,
    NodeState,
    Source,
)

weights = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=30).map(tuple)


def node(*limits: LimitState) -> NodeState:
    return NodeState("acme/default", limits, 0, 0, 0, 0, (0, 0, 0), 0, (), ())


def scaled(limit: LimitState, weights: tuple[int, ...]) -> list[LimitSpec]:
    """Each instance's share of a limit."""
    nodes = {"acme/default": node(limit)}
    specs = (scaled_spec("acme/default", nodes, Share(weights, n), AccountSpec()) for n in range(len(weights)))
    return [spec.limits[0] for spec in specs]


@given(weights, st.integers(1, 1 << 30), st.integers(1, 1 << 30), st.sampled_from([1_000_000, MINUTE, DAY]))
def test_buckets_add_up_to_no_more_than_the_limit(
    weights: tuple[int, ...], amount: int, burst: int, period: int
) -> None:
    state = LimitState("acme/default", Kind.REQUESTS, amount, burst, period, Source.CONFIGURED, burst)
    shares = scaled(state, weights)
    rates = sum(Fraction(share.amount, share.period) for share in shares)
    assert rates <= Fraction(amount, period) + Fraction(len(weights), LONGEST)
    assert sum(share.burst for share in shares if share.burst > 1) <= burst
    for share in shares:
        new_limit(share, Instant(0, 0))  # its figures can be stored
        assert share.source not in {Source.CONFIGURED, Source.TOLD}


@given(weights, st.integers(1, 1000))
def test_slots_add_up_to_the_limit_or_to_one_for_each(weights: tuple[int, ...], amount: int) -> None:
    state = LimitState("acme/default", Kind.CONCURRENCY, amount, 0, 0, Source.CONFIGURED, amount)
    slots = [share.amount for share in scaled(state, weights)]
    assert min(slots) >= 1
    assert amount <= sum(slots) <= amount + len(slots) - 1
    equal = [Share((1,) * amount, place).slots(amount) for place in range(amount)]
    assert equal == [1] * amount


@given(weights, st.integers(-1000, 1000))
def test_levels_add_up_to_no_more_than_what_is_left(weights: tuple[int, ...], available: int) -> None:
    for period, left in ((MINUTE, min(0, available)), (DAY, available)):
        state = LimitState("acme/default", Kind.REQUESTS_DAY, 1000, 1000, period, Source.CONFIGURED, available)
        assert sum(first_level(state, Share(weights, place)) for place in range(len(weights))) <= left


def test_how_a_limit_is_charged_is_what_was_published() -> None:
    published = LimitSpec(Kind.REQUESTS_DAY, 100, 100, DAY, correct=False, refund=False, anchor=7)
    state = LimitState("acme/default", Kind.REQUESTS_DAY, 80, 80, DAY, Source.CONFIGURED, 80)
    spec = scaled_spec("acme/default", {"acme/default": node(state)}, Share((1, 1), 0), AccountSpec((published,)))
    (half,) = spec.limits
    assert (half.amount, half.correct, half.refund, half.anchor) == (40, False, False, 7)
