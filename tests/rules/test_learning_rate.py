"""A hidden rate: growth, boundaries, what they tell, and what must never happen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from cross_instance.rules.learning_estimate import blind_pause, echoed, next_row, rejected
from cross_instance.rules.learning_rate import (
    IDLE,
    LONGEST_REST,
    PRICE,
    REST,
    START_STEP,
    STEP,
    Phase,
    Rate,
    granted,
    resumed,
    start,
)
from cross_instance.rules.learning_values import HIGHEST, LOWEST, UNIT, Mark, Stamp, part, per_minute
from cross_instance.rules.values import DAY, MINUTE, SECOND

DRAWS = 1 << 32


def begun(rate: int = 60) -> Rate:
    return start(rate * UNIT, 0)


def cruising(estimate: int = 300, at: int = 0, **rest: Any) -> Rate:
    """A confirmed estimate, just after a boundary at which nothing had been granted yet."""
    here = Mark(at, 0)
    fields = {"phase": Phase.CRUISE, "estimate": estimate * UNIT, "end": here, "step": here, "learning": 0} | rest
    return msgspec.structs.replace(start(estimate * 990, at), **fields)


def hit(record: Rate, serial: int, at: int, heard: int = 0, retry_after: int | None = None) -> Rate:
    """The first rejection of an epoch, granted at `at`, heard then or later; the pause is a second unless told."""
    now = max(at, heard)
    return rejected(record, now, Stamp(serial, at), now + (retry_after or SECOND), retry_after is not None)


class TestGrowth:
    def test_a_used_step_at_the_start_doubles_the_rate(self) -> None:
        assert granted(begun(), STEP, 5).rate == 120 * UNIT

    def test_a_step_that_was_not_used_grows_nothing(self) -> None:
        assert granted(begun(600), STEP, 5).rate == 600 * UNIT

    def test_no_step_is_made_before_its_time(self) -> None:
        record = begun()
        assert granted(record, START_STEP - 1, 100) is record
        assert granted(record, START_STEP, 100).rate == 120 * UNIT
        record = cruising(due=Mark(0, 0))
        assert granted(record, STEP - 1, 100) is record
        assert granted(record, STEP, 100).phase == Phase.PROBE

    def test_a_slow_429_makes_steps_longer(self) -> None:
        record = msgspec.structs.replace(begun(), lag=4 * SECOND)
        assert granted(record, 12 * SECOND - 1, 50) is record
        assert granted(record, 12 * SECOND, 50).rate == 120 * UNIT

    def test_the_configured_limit_is_a_ceiling(self) -> None:
        assert granted(begun(), STEP, 5, ceiling=70 * UNIT).rate == 70 * UNIT

    def test_a_probe_waits_until_the_last_429_is_paid_for(self) -> None:
        record = cruising(due=Mark(REST, PRICE))
        assert granted(record, REST, PRICE - 1).phase == Phase.CRUISE
        assert granted(record, REST, PRICE).phase == Phase.PROBE

    def test_the_steps_of_a_climb_double(self) -> None:
        record = cruising(due=Mark(0, 0))
        rates = []
        for step in range(1, 4):
            record = granted(record, step * STEP, step * 1_000)
            rates.append(record.rate * 100 // (297 * UNIT))
        assert rates == [104, 112, 130]

    def test_the_more_429s_climbs_did_cost_the_less_high_they_go(self) -> None:
        heights = []
        for cost in (1_000, 4_000, 40_000):
            record = cruising(due=Mark(0, 0), cost=cost)
            for step in range(1, 7):
                record = granted(record, step * STEP, step * 55)
            heights.append(record.rate * 100 // record.estimate)
        assert heights == [220, 130, 108]

    def test_a_minute_above_the_estimate_frees_the_climb(self) -> None:
        record = cruising(due=Mark(0, 0), cost=40_000)
        for step in range(1, 20):
            record = granted(record, step * STEP, step * 200)
        assert record.rate > 2 * record.estimate

    def test_a_climb_further_ahead_than_its_like_is_free(self) -> None:
        rates = []
        for slack in (0, SECOND, 10 * SECOND):
            record = cruising(due=Mark(0, 0), cost=10_000, slack=slack)
            for step in range(1, 6):
                record = granted(record, step * STEP, 25 * step + 3 * step * step)
            rates.append(record.rate * 100 // record.estimate)
        assert rates == [112, 255, 112]

    def test_how_far_ahead_climbs_come_is_remembered_and_fades(self) -> None:
        climb = {"phase": Phase.PROBE, "rate": 340 * UNIT, "survived": 315 * UNIT, "gain": 80_000}
        record = hit(cruising(climb=Mark(44 * SECOND, 220), **climb), 301, 59 * SECOND)
        assert record.slack == 81 * SECOND // 5 - 15 * SECOND
        record = hit(record, 602, 119 * SECOND)
        assert record.slack == 81 * SECOND // 5 - 15 * SECOND, "met while cruising tells nothing of climbs"
        again = msgspec.structs.replace(record, climb=Mark(164 * SECOND, 820), **climb)
        assert hit(again, 902, 179 * SECOND).slack == record.slack - record.slack // 8

    def test_a_quiet_step_forgets_the_boundary_and_ends_a_probe(self) -> None:
        record = granted(cruising(phase=Phase.PROBE), STEP, 3)
        assert (record.end, record.phase) == (None, Phase.CRUISE)

    def test_long_unused_it_starts_with_less(self) -> None:
        assert granted(cruising(), IDLE, 3).rate == 210 * UNIT


class TestBoundaries:
    def test_the_first_overload_cuts_to_what_was_let_in(self) -> None:
        record = hit(msgspec.structs.replace(begun(), rate=960 * UNIT), serial=100, at=29 * SECOND)
        assert (record.phase, record.rate) == (Phase.SEARCH, 200 * UNIT)

    def test_a_rate_that_had_lasted_is_no_limit(self) -> None:
        record = msgspec.structs.replace(begun(), rate=960 * UNIT, survived=480 * UNIT)
        assert hit(record, serial=100, at=29 * SECOND).rate == 360 * UNIT

    def test_between_two_boundaries_lies_the_refill_rate(self) -> None:
        record = hit(cruising(end=None), serial=0, at=0)
        assert hit(record, serial=201, at=60 * SECOND).estimate == 200 * UNIT

    def test_with_retry_after_the_boundary_is_the_windows_end(self) -> None:
        record = hit(cruising(end=None), 0, 0, retry_after=10 * SECOND)
        assert hit(record, 201, 50 * SECOND, retry_after=20 * SECOND).estimate == 200 * UNIT

    @given(st.integers(0, 3 * SECOND))
    def test_a_slow_429_does_not_change_what_was_counted(self, lag: int) -> None:
        record = cruising()
        heard = rejected(record, 59 * SECOND + lag, Stamp(200, 59 * SECOND), 60 * SECOND, True)
        assert heard.estimate == 200 * UNIT

    def test_an_echo_is_counted_and_paid_for_and_changes_nothing_else(self) -> None:
        record = hit(cruising(), 200, 59 * SECOND)
        after = echoed(record, Stamp(201, 59 * SECOND))
        assert (after.rate, after.estimate, after.phase) == (record.rate, record.estimate, record.phase)
        assert after.due.count == record.due.count + PRICE

    def test_too_few_between_are_judged_with_the_next(self) -> None:
        record = hit(cruising(), 9, 59 * SECOND)
        assert record.estimate == 300 * UNIT
        assert hit(record, 10 + 110, 119 * SECOND).estimate == 119 * UNIT // 2

    def test_a_trial_that_is_rejected_makes_the_block_longer(self) -> None:
        record = hit(cruising(), 250, 29 * SECOND)
        assert next_row(record, Stamp(251, 30 * SECOND)) == 1
        longer = hit(record, 251, 58 * SECOND)
        assert longer.estimate < record.estimate

    def test_an_outage_teaches_nothing(self) -> None:
        record, at = hit(cruising(), 280, 59 * SECOND), 60 * SECOND
        for row in range(1, 12):
            at += blind_pause(row, DRAWS // 2, DRAWS)
            record = hit(record, 280 + row, at)
        assert (record.estimate, record.phase) == (300 * UNIT, Phase.CRUISE)

    def test_one_wait_is_learned_whatever_the_units(self) -> None:
        """Tokens: as many requests, each of a thousand units, give a thousand times the rate."""
        record = rejected(cruising(300_000), 59 * SECOND, Stamp(200_000, 59 * SECOND, size=1_000), MINUTE, True)
        assert record.estimate == 200_000 * UNIT


class TestWhatTheyTell:
    def test_met_while_cruising_the_limit_has_fallen(self) -> None:
        record = hit(cruising(), 150, 59 * SECOND)
        assert (record.estimate, record.phase) == (150 * UNIT, Phase.CLIMB)

    def test_clearly_more_means_that_it_has_grown(self) -> None:
        record = cruising(phase=Phase.PROBE, rate=500 * UNIT, survived=450 * UNIT, gain=100_000)
        record = hit(record, 400, 59 * SECOND)
        two_steps = 450 * UNIT * 100 // 105
        assert (record.estimate, record.phase, record.learning) == (two_steps, Phase.CLIMB, 1)

    def test_met_while_cruising_it_is_a_little_lower_where_the_figure_agrees(self) -> None:
        estimates = [hit(cruising(), count, 59 * SECOND).estimate // UNIT for count in (286, 296, 299)]
        assert estimates == [294, 296, 297]

    def test_a_step_shorter_than_a_window_has_sustained_nothing_by_itself(self) -> None:
        known = cruising(phase=Phase.PROBE, rate=340 * UNIT, survived=315 * UNIT, gain=80_000)
        record = hit(known, 301, 59 * SECOND)
        assert record.estimate == 315 * UNIT * 100 // 104

    def test_about_as_much_confirms_it(self) -> None:
        record = cruising(phase=Phase.PROBE, rate=400 * UNIT, survived=330 * UNIT)
        record = hit(record, 297, 59 * SECOND)
        assert (record.phase, record.rate) == (Phase.CRUISE, part(record.estimate, 990_000))
        assert 297 * UNIT <= record.estimate <= 309 * UNIT

    def test_the_next_probe_comes_after_a_bounded_time(self) -> None:
        record = cruising()
        for second in range(40):
            record = echoed(hit(record, 300 * second, MINUTE * second), Stamp(0, 0))
        accepted = record.step.count
        assert record.due.count - accepted <= record.rate // UNIT * LONGEST_REST // MINUTE + PRICE
        assert record.due.at <= record.step.at + REST


def test_pauses_double_to_eight_seconds_and_then_to_half_a_minute() -> None:
    seconds = [blind_pause(row, DRAWS // 2, DRAWS) // SECOND for row in range(12)]
    assert seconds == [1, 2, 4, 8, 8, 8, 8, 8, 16, 32, 32, 32]
    assert [blind_pause(0, draw, DRAWS) for draw in (0, DRAWS - 1)] == [800_000, 1_199_999]


def test_after_a_restart_old_knowledge_counts_for_less() -> None:
    known = cruising()
    assert resumed(known, DAY, 7, age=MINUTE).rate == 297 * UNIT
    assert resumed(known, DAY, 7, age=IDLE).rate == 210 * UNIT


@pytest.mark.parametrize("rate", [0, -1, LOWEST - 1, HIGHEST + 1])
def test_absurd_rates_are_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="absurd"):
        start(rate, 0)


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 52))
def test_rates_are_exact_to_a_thousandth_or_so(units: int, us: int) -> None:
    assert 0 <= per_minute(units, us) <= HIGHEST


moves = st.lists(
    st.tuples(
        st.integers(0, 20 * MINUTE),
        st.integers(0, 5_000),
        st.sampled_from(("grant", "reject", "told", "echo")),
        st.integers(0, 10 * SECOND),
    ),
    max_size=60,
)


@given(st.integers(LOWEST, 100_000 * UNIT), moves)
def test_whatever_happens(rate: int, moves: list[tuple[int, int, str, int]]) -> None:
    """The estimate is never above what was paced, the rate never absurd nor above the ceiling, all fits a double."""
    record, now, serial, highest = start(rate, 0), 0, 0, rate
    for wait, units, what, lag in moves:
        now, serial = now + wait, serial + units
        stamp = Stamp(serial, max(0, now - lag))
        if what == "grant":
            record = granted(record, now, serial, ceiling=500_000 * UNIT)
        elif what == "echo":
            record = echoed(record, stamp)
        else:
            record = rejected(record, now, stamp, now + lag + 1, what == "told")
        highest = max(highest, record.rate)
        assert LOWEST <= record.rate <= 500_000 * UNIT
        assert record.estimate <= highest
        assert all(abs(number) < 1 << 53 for number in numbers_in(msgspec.to_builtins(record)))
        serial += 1


def numbers_in(tree: Any) -> list[int]:
    if isinstance(tree, list | tuple):
        return [number for branch in tree for number in numbers_in(branch)]
    return [] if tree is None else [tree]


@given(st.integers(LOWEST, 10_000 * UNIT))
def test_never_stuck_low(low: int) -> None:
    """Used to the full and never rejected, any estimate is left behind within an hour of a hundred requests' time."""
    record = cruising(due=Mark(REST, PRICE))
    record = msgspec.structs.replace(record, estimate=low, rate=low)
    now = count = 0
    for _ in range(2_000):
        step = max(STEP, 6 * MINUTE * UNIT // record.rate)
        now, count = now + step, count + record.rate * step // MINUTE // UNIT + 1
        record = granted(record, now, count)
    assert record.rate > 100 * low


def test_never_stuck_high() -> None:
    """Ten a window, met every time, and a step between that the pause has left unused."""
    record, now, serial = cruising(73, learning=1), 0, 0
    for _ in range(20):
        for _ in range(2):
            now, serial = now + STEP, serial + 3
            record = granted(record, now, serial)
        now, serial = now + STEP, serial + 4
        record = hit(record, serial, now, retry_after=2 * SECOND)
        serial += 1
    assert record.estimate <= 60 * UNIT


@pytest.mark.parametrize("accepted", [1, 2])
def test_the_first_block_does_not_go_on_for_ever(accepted: int) -> None:
    """A limit far below the start, a second to wait each time, and one or two accepted in between."""
    record, now, serial = msgspec.structs.replace(begun(), rate=960 * UNIT, survived=480 * UNIT), 29 * SECOND, 100
    for _ in range(40):
        record = rejected(record, now, Stamp(serial, now), now + SECOND, told=True)
        now, serial = now + SECOND, serial + 1 + accepted
    assert record.estimate <= 1.2 * accepted * 60 * UNIT
    assert record.rate <= 1.2 * accepted * 60 * UNIT


@pytest.mark.parametrize("accepted", [1, 2])
def test_a_block_is_judged_by_itself_whatever_was_accepted_long_before(accepted: int) -> None:
    """An hour at 960 a minute between two boundaries, then a limit far below, met at once again and again."""
    before = {"start": Mark(0, 0), "end": Mark(60 * MINUTE, 57_600)}
    record, now, serial = cruising(960, at=60 * MINUTE, **before), 60 * MINUTE + SECOND, 57_610
    for _ in range(14):
        record = hit(record, serial, now, retry_after=SECOND)
        now, serial = now + SECOND, serial + 1 + accepted
    assert record.estimate <= 1.2 * accepted * 60 * UNIT
    assert record.rate <= 1.2 * accepted * 60 * UNIT


def test_rejections_of_who_hardly_asks_lower_nothing() -> None:
    """One request in two minutes, and each meets 429: that is another limit's, or somebody else's use of this one."""
    record, now, serial = cruising(300), 0, 0
    for _ in range(10):
        now, serial = now + 2 * MINUTE, serial + 1
        record = hit(granted(record, now, serial), serial, now, retry_after=SECOND)
    assert record.estimate == 300 * UNIT
