"""Limits as arithmetic: exact, without drift, whatever the figures and however long the time."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from unittest.mock import patch

import pytest
from hypothesis import example, given, strategies as st
from tests.rules.book import Charge, History

from cross_instance.rules.limits import (
    EXACT,
    FREE,
    PEAKS,
    carry_over,
    credit,
    dominant_share,
    hold_of,
    new_limit,
    refill,
    set_guard,
    shown,
    take,
)
from cross_instance.rules.operations import DAY, MINUTE, SECOND, Costs, Instant, Kind, LimitSpec, Source
from cross_instance.rules.records import Limit, Node
from cross_instance.testing.clock import START_OF_2026

START = Instant(1_000_000, START_OF_2026)
HOUR = 60 * MINUTE

figures = st.tuples(
    st.integers(1, 2_000_000), st.integers(1, 50_000), st.sampled_from((SECOND, 7 * SECOND, MINUTE, HOUR))
)
waits = st.one_of(st.integers(0, 2 * SECOND), st.integers(0, 40 * DAY), st.sampled_from((1, MINUTE, DAY)))


def later(at: Instant, us: int) -> Instant:
    return Instant(at.mono + us, at.wall + us)


def bucket(amount: int, burst: int, period: int = MINUTE, **rest: object) -> Limit:
    return new_limit(LimitSpec(Kind.TOKENS, amount, burst, period, **rest), START)  # type: ignore[arg-type]


def level_of(limit: Limit) -> Fraction:
    return Fraction(limit.level, limit.den)


@given(figures, st.lists(st.tuples(waits, st.integers(0, 60_000)), max_size=30))
def test_a_bucket_is_the_rational_bucket(figures: tuple[int, int, int], steps: list[tuple[int, int]]) -> None:
    """Against fractions: not one µs of refill is lost or invented, through any waits and any debts."""
    amount, burst, period = figures
    limit, at, exact = bucket(amount, burst, period), START, Fraction(burst)
    for wait, units in steps:
        at = later(at, wait)
        refill(limit, at)
        exact = min(Fraction(burst), exact + Fraction(amount * wait, period))
        assert level_of(limit) == exact
        take(limit, units)
        exact -= units


@given(figures, st.integers(1, 60_000), st.integers(0, 70_000), waits)
def test_the_delay_is_exact(figures: tuple[int, int, int], taken: int, units: int, wait: int) -> None:
    """A request fits exactly at the instant that was told, and not one µs earlier."""
    node = Node(limits=[bucket(*figures, source=Source.GUESS)])
    take(node.limits[0], taken)
    at = later(START, wait)
    refill(node.limits[0], at)
    costs = (1, units, 0, 0)
    delay = hold_of(node, costs, at).delay
    if delay:
        refill(node.limits[0], later(at, delay - 1))
        assert hold_of(node, costs, later(at, delay - 1)) is not FREE
    refill(node.limits[0], later(at, delay))
    assert hold_of(node, costs, later(at, delay)) is FREE


@given(figures, st.integers(1, 10**9), st.integers(0, 400 * DAY))
def test_every_figure_stays_exact_in_a_double(figures: tuple[int, int, int], taken: int, wait: int) -> None:
    limit = bucket(*figures)
    take(limit, taken)
    assert abs(limit.level) < EXACT
    refill(limit, later(START, wait))
    assert abs(limit.level) < EXACT


def test_no_drift_in_a_thousand_odd_steps() -> None:
    """A rate that no µs divides: many steps of odd length give what one long step gives."""
    limit, exact = bucket(7, 1_000, 11 * SECOND), Fraction(0)
    take(limit, 1_000)
    for step in range(1_000):
        at = later(START, 977 * (step + 1))
        refill(limit, at)
        exact = Fraction(7 * 977 * (step + 1), 11 * SECOND)
    assert level_of(limit) == exact


def test_nothing_is_lost_after_hours_idle_with_a_debt() -> None:
    limit = bucket(60, 10)
    take(limit, 10 + 600)
    refill(limit, later(START, 10 * MINUTE - 1))
    assert limit.level < 0
    refill(limit, later(START, 10 * MINUTE))
    assert level_of(limit) == 0
    refill(limit, later(START, 30 * HOUR))
    assert level_of(limit) == 10


steps = st.lists(
    st.tuples(
        st.one_of(st.sampled_from((0, SECOND, 2 * SECOND)), st.integers(0, 30 * SECOND)),
        st.sampled_from(("take", "take", "take", "settle", "settle", "guard")),
        st.integers(0, 12),
    ),
    max_size=60,
)


MERGED = [(0, "take", 1), (SECOND, "take", 3), (SECOND, "take", 0), (SECOND, "settle", 1), (0, "take", 3)]
"""Two heights of which the later is lower, and a credit to the permit between them."""


@pytest.mark.parametrize("remembered", [1, 2, PEAKS])
@example(3, [(0, "take", 0), *MERGED])
@given(st.integers(1, 12), steps)
def test_law_2_with_credits_no_interval_sees_more_than_burst_and_rate(
    remembered: int, burst: int, steps: list[tuple[int, str, int]]
) -> None:
    """Charges are corrected downwards in any order, the guard moves: what was really used, dated at its charge, is
    never more than `burst + rate * T`, however few heights a bucket remembers."""
    with patch("cross_instance.rules.limits.PEAKS", remembered):
        hold_law_2(burst, steps)


def hold_law_2(burst: int, steps: list[tuple[int, str, int]]) -> None:
    node, at = Node(limits=[bucket(60, burst)]), START
    (limit,) = node.limits
    history = History((), limit)
    flying: list[tuple[Charge, int]] = []
    for number, (wait, what, units) in enumerate(steps):
        at = later(at, wait)
        refill(limit, at)
        units = min(units, burst)
        if what == "take" and hold_of(node, (1, units, 0, 0), at) is FREE:
            take(limit, units)
            flying.append((Charge((0, number), at, units), limit.charges))
            history.charges.append(flying[-1][0])
        elif what == "settle" and flying:
            charge, mark = flying.pop(units % len(flying))
            surplus = units % (charge.units + 1)
            charge.units -= surplus
            credit(limit, surplus, mark)
        elif what == "guard":
            set_guard(limit, units * SECOND // 5)
        assert history.excess() <= 0
        assert limit.level <= limit.cap * limit.den


@given(st.integers(2, 12), st.lists(st.integers(0, 11), min_size=1, max_size=5))
def test_a_credit_at_the_same_instant_is_whole(burst: int, sizes: list[int]) -> None:
    """As long as no time has passed, all that was charged comes back, in any order of return."""
    limit = bucket(60, burst * len(sizes))
    marks = []
    for units in sizes:
        take(limit, units)
        marks.append((limit.charges, units))
    for mark, units in sorted(marks, key=lambda one: one[0] * 7 % 5):
        credit(limit, units, mark)
    assert level_of(limit) == limit.burst


def test_a_busy_bucket_returns_all_that_was_charged_too_much() -> None:
    """Estimates ten times the usage, and many charges between: while the bucket is empty, every surplus is whole."""
    limit, marks = bucket(60_000, 60_000), []
    take(limit, 60_000)
    for second in range(1, 31):
        refill(limit, later(START, second * SECOND))
        take(limit, 1_000)
        marks.append(limit.charges)
    for mark in marks:
        credit(limit, 900, mark)
    assert level_of(limit) == 30 * 900


def test_what_time_has_refilled_is_not_returned_again() -> None:
    limit = bucket(60, 10)
    take(limit, 9)
    mark = limit.charges
    at = later(START, 8 * SECOND)
    refill(limit, at)
    take(limit, 8)
    credit(limit, 9, mark)
    assert level_of(limit) == 2, "nine were refilled, eight taken; the first nine were missing one at their best"


def test_a_limit_that_came_later_returns_nothing() -> None:
    limit = bucket(60, 10)
    take(limit, 5)
    credit(limit, 5, 0)
    assert level_of(limit) == 5


@pytest.mark.parametrize(
    ("spread", "guard"),
    [(0, 1), (1, 1), (100_000, 1), (100_001, 2), (SECOND, 10), (HOUR, 10)],
)
def test_the_guard_follows_the_spread(spread: int, guard: int) -> None:
    """600 a minute are ten a second; a second's worth is the most that is kept back."""
    limit = bucket(600, 100)
    set_guard(limit, spread)
    assert limit.burst - limit.cap == guard


@pytest.mark.parametrize("burst", [1, 2, 5])
def test_the_guard_leaves_room_for_one(burst: int) -> None:
    limit = bucket(600, burst)
    set_guard(limit, HOUR)
    assert limit.cap == 1


def test_a_larger_request_than_the_guarded_bucket_waits_for_a_full_one_and_owes_the_rest() -> None:
    node = Node(limits=[bucket(600, 10)])
    (limit,) = node.limits
    set_guard(limit, SECOND)
    assert limit.cap == 1
    assert hold_of(node, (1, 10, 0, 0), START) is FREE
    take(limit, 10)
    assert hold_of(node, (1, 10, 0, 0), START).delay == SECOND


def test_a_guard_that_grows_makes_no_room_for_a_large_request() -> None:
    """Three of five are taken, then a cap of one is left: a request of four is larger than that, and yet must wait."""
    node = Node(limits=[bucket(7, 6, SECOND)])
    (limit,) = node.limits
    set_guard(limit, 0)
    take(limit, 3)
    set_guard(limit, SECOND)
    assert limit.cap == 1
    assert hold_of(node, (1, 4, 0, 0), START) is not FREE


@given(st.lists(st.one_of(st.integers(0, SECOND), st.none()), max_size=20))
def test_a_guard_that_comes_and_goes_gives_nothing(spreads: list[int | None]) -> None:
    limit, still, at = bucket(600, 60), bucket(600, 60), START
    set_guard(limit, 0)
    set_guard(still, 0)
    for spread in spreads:
        if spread is not None:
            set_guard(limit, spread)
            continue
        at = later(at, SECOND // 20)
        for one in (limit, still):
            refill(one, at)
            take(one, 1)
    set_guard(limit, 0)
    assert limit.level <= still.level


@given(figures, figures, st.integers(0, 60_000), waits)
def test_a_change_of_figures_gives_no_units(
    old: tuple[int, int, int], new: tuple[int, int, int], taken: int, wait: int
) -> None:
    before = bucket(*old)
    take(before, taken)
    at = later(START, wait)
    refill(before, at)
    level = level_of(before)
    after = new_limit(LimitSpec(Kind.TOKENS, *new), at)
    carry_over(after, before, at)
    kept = min(level, Fraction(after.burst))
    assert kept - 1 < level_of(after) <= kept


@given(figures, st.integers(0, 60_000), waits)
def test_the_same_figures_again_change_nothing(figures: tuple[int, int, int], taken: int, wait: int) -> None:
    before = bucket(*figures)
    take(before, taken)
    mark, at = before.charges, later(START, wait)
    refill(before, at)
    level = level_of(before)
    after = new_limit(LimitSpec(Kind.TOKENS, *figures), at)
    carry_over(after, before, at)
    assert level_of(after) == level
    credit(after, taken, mark)
    credit(before, taken, mark)
    assert level_of(after) == level_of(before)


def test_a_drained_bucket_stays_drained_through_a_change() -> None:
    """A bucket whose refill starts in the future (after an overload) keeps that future."""
    before = bucket(60, 10)
    take(before, 9)
    before.at = START.mono + MINUTE
    after = new_limit(LimitSpec(Kind.TOKENS, 600, 100), START)
    carry_over(after, before, START)
    assert after.at == START.mono + MINUTE
    refill(after, later(START, MINUTE))
    assert level_of(after) == 1


class TestWindows:
    def window(self, at: Instant = START, burst: int = 5) -> Limit:
        return new_limit(LimitSpec(Kind.REQUESTS_DAY, burst, burst, DAY, anchor=START_OF_2026), at)

    def test_it_refills_at_its_boundary_and_nowhere_else(self) -> None:
        limit = self.window()
        take(limit, 5)
        refill(limit, later(START, DAY - 1))
        assert level_of(limit) == 0
        refill(limit, later(START, DAY))
        assert level_of(limit) == 5

    def test_the_delay_ends_at_the_boundary(self) -> None:
        at = later(START, HOUR)
        node = Node(limits=[self.window()])
        take(node.limits[0], 5)
        assert hold_of(node, (1, 0, 0, 0), at).delay == DAY - HOUR

    def test_a_wall_clock_that_steps_back_gives_no_second_window(self) -> None:
        limit = self.window(later(START, DAY + 1))
        take(limit, 5)
        back = Instant(START.mono + DAY + 2, START.wall + DAY - HOUR)
        refill(limit, back)
        again = self.window(back)
        carry_over(again, limit, back)
        refill(again, later(START, DAY + HOUR))
        assert level_of(again) == 0

    def test_yesterday_s_requests_return_nothing_today(self) -> None:
        limit = self.window()
        take(limit, 5)
        mark = limit.charges
        refill(limit, later(START, DAY))
        take(limit, 5)
        credit(limit, 5, mark)
        assert level_of(limit) == 0

    def test_its_guard_is_time_not_units(self) -> None:
        limit = self.window()
        set_guard(limit, HOUR)
        assert limit.cap == 5
        refill(limit, later(START, DAY - SECOND - 1))
        assert level_of(limit) == 5, "the guard is a second at most"
        refill(limit, later(START, DAY - SECOND))
        assert level_of(limit) == 0
        assert hold_of(Node(limits=[limit]), (1, 0, 0, 0), later(START, DAY - SECOND)).delay == SECOND

    def test_a_short_window_stays_open_for_half_of_its_time(self) -> None:
        limit = new_limit(LimitSpec(Kind.REQUESTS, 5, 5, 100, anchor=START_OF_2026), START)
        set_guard(limit, SECOND)
        refill(limit, later(START, 49))
        assert level_of(limit) == 5
        refill(limit, later(START, 50))
        assert level_of(limit) == 0

    @given(
        st.integers(1, 5),
        st.integers(0, 2 * SECOND),
        st.lists(st.tuples(st.integers(0, SECOND), st.integers(0, SECOND)), max_size=60),
    )
    def test_what_arrives_late_fits_into_the_window_in_which_it_arrives(
        self, burst: int, spread: int, steps: list[tuple[int, int]]
    ) -> None:
        """Law 2 at the provider's: each request arrives up to the spread after its grant."""
        period, at = 5 * SECOND, START
        limit = new_limit(LimitSpec(Kind.REQUESTS, burst, burst, period, anchor=START_OF_2026), START)
        set_guard(limit, spread)
        arrived: Counter[int] = Counter()
        for wait, delay in steps:
            at = later(at, wait)
            refill(limit, at)
            if hold_of(Node(limits=[limit]), (1, 0, 0, 0), at) is FREE:
                take(limit, 1)
                arrived[(at.wall + min(delay, spread) - START_OF_2026) // period] += 1
        assert max(arrived.values(), default=0) <= burst


@pytest.mark.parametrize(
    "spec",
    [
        LimitSpec(Kind.TOKENS, 0, 1),
        LimitSpec(Kind.TOKENS, 1, 0),
        LimitSpec(Kind.TOKENS, 1, 1, 0),
        LimitSpec(Kind.TOKENS, -5, 1),
        LimitSpec(Kind.CONCURRENCY, 0),
        LimitSpec(Kind.TOKENS, 999_999_999, 999_999_999, MINUTE),
        LimitSpec(Kind.TOKENS, 10**10, 1, 1),
    ],
)
def test_figures_that_are_not_exact_are_refused(spec: LimitSpec) -> None:
    with pytest.raises(ValueError, match=r"must be positive|not exact"):
        new_limit(spec, START)


@pytest.mark.parametrize("amount", [1, 500, 4_000_000, 150_000_000])
def test_real_figures_are_accepted(amount: int) -> None:
    limit = new_limit(LimitSpec(Kind.TOKENS, amount, amount, MINUTE), START)
    assert level_of(limit) == amount


@given(
    st.lists(st.tuples(st.sampled_from((Kind.REQUESTS, Kind.TOKENS)), st.integers(1, 10**6)), unique_by=lambda x: x[0]),
    st.integers(0, 10**6),
)
def test_the_dominant_share_is_the_largest_fraction(kinds: list[tuple[Kind, int]], units: int) -> None:
    node = Node(limits=[new_limit(LimitSpec(kind, amount, amount), START) for kind, amount in kinds])
    costs = {Kind.REQUESTS: 1, Kind.TOKENS: units}
    exact = max((min(Fraction(costs[kind], amount), Fraction(1)) for kind, amount in kinds), default=Fraction(0))
    share = Fraction(dominant_share(node, (1, units, 0, 0)), 1_000_000)
    assert exact - Fraction(1, 1_000_000) < share <= exact


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        (Source.CONFIGURED, True),
        (Source.TOLD, True),
        (Source.LEARNED, False),
        (Source.PRESET, False),
        (Source.GUESS, False),
    ],
)
def test_only_a_known_limit_refuses_a_request_that_exceeds_it(source: Source, refused: bool) -> None:
    node = Node(limits=[bucket(60, 10, source=source)])
    assert (hold_of(node, (1, 11, 0, 0), START).excess is not None) == refused
    assert hold_of(node, (1, 10, 0, 0), START).excess is None


def test_a_limit_as_it_is_shown() -> None:
    node = Node(limits=[bucket(60, 10), new_limit(LimitSpec(Kind.CONCURRENCY, 3), START)], held=5)
    take(node.limits[0], 12)
    tokens, slots = (shown("account", node, limit) for limit in node.limits)
    assert (tokens.available, tokens.burst, tokens.guard) == (-2, 10, 0)
    assert slots.available == -2


def test_costs_of_each_kind() -> None:
    costs = Costs(requests=2, tokens=30, input_tokens=20, output_tokens=10)
    assert [costs.of(kind) for kind in Kind] == [2, 2, 30, 20, 10, 1]
