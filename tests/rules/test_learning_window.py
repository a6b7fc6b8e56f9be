"""Fixed windows: recognised from the ends of blocks, followed, dropped; what a full one tells."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from cross_instance.rules.learning_estimate import SHORTEST_PAUSE, pause, rejected
from cross_instance.rules.learning_rate import STEP, Phase, Rate, granted, start, watched_from
from cross_instance.rules.learning_values import UNIT, Mark, Stamp
from cross_instance.rules.learning_window import DRIFT, UNKNOWN, Window, end_of, ended, rolled
from cross_instance.rules.values import MINUTE, SECOND

DRAWS = 1 << 32
TEN = 10 * SECOND


def seen(*ends: int, lasted: int = 0, proven: int = 1, doubt: int = SECOND) -> Window:
    """What is known after blocks that ended in the second before these instants."""
    window = Window()
    for end in ends:
        window = ended(window, end, end - doubt, end, lasted, proven)
    return window


class TestRecognition:
    def test_three_ends_whole_spans_apart_are_a_window(self) -> None:
        window = seen(20 * SECOND, 60 * SECOND, 130 * SECOND)
        assert window.span == TEN
        assert window.low <= 130 * SECOND <= window.high

    def test_two_are_not_enough(self) -> None:
        assert seen(20 * SECOND, 130 * SECOND).span == 0

    def test_ends_that_fit_two_spans_decide_nothing(self) -> None:
        assert seen(MINUTE, 2 * MINUTE, 4 * MINUTE).span == 0

    def test_a_block_that_lasted_longer_rules_a_span_out(self) -> None:
        assert seen(MINUTE, 2 * MINUTE, 4 * MINUTE, lasted=11 * SECOND).span == MINUTE

    def test_ends_at_any_time_are_no_window(self) -> None:
        assert seen(21 * SECOND, 64 * SECOND, 138 * SECOND, 255 * SECOND).span == 0

    def test_blocks_that_a_bucket_explains_are_no_window(self) -> None:
        assert seen(20 * SECOND, 60 * SECOND, 130 * SECOND, proven=0).span == 0

    def test_ends_that_are_not_sure_are_no_window(self) -> None:
        assert seen(20 * SECOND, 60 * SECOND, 130 * SECOND, doubt=4 * SECOND).span == 0

    @given(
        st.sampled_from((TEN, MINUTE)),
        st.integers(0, MINUTE - 1),
        st.lists(st.tuples(st.integers(1, 6), st.integers(0, SECOND), st.integers(0, SECOND)), min_size=3, max_size=8),
    )
    def test_what_is_recognised_is_never_wrong(self, span: int, phase: int, blocks: list[tuple[int, int, int]]) -> None:
        """Whatever ends of windows were seen: the true beginning is within what is known."""
        window, number = Window(), 10
        for later, before, after in blocks:
            number += later
            true = number * span + phase
            window = ended(window, true + after, true - before, true + after, span // 2, 1)
            if window.span == span:
                low, high = end_of(window, true - span // 2)
                assert low <= true <= high


class TestFollowing:
    def test_each_end_narrows_it_down(self) -> None:
        window = seen(20 * SECOND, 60 * SECOND, 130 * SECOND)
        narrower = ended(window, 151 * SECOND, 150 * SECOND - SECOND // 4, 151 * SECOND, 0, 0)
        assert narrower.span == TEN
        assert narrower.high - narrower.low < SECOND // 3

    def test_a_beginning_that_turns_out_to_be_earlier_was_missed(self) -> None:
        """The first request for sure was taken to be later than it was, so nobody has counted from it on."""
        wide = Window(TEN, 120 * SECOND, 124 * SECOND, Mark(122 * SECOND, 1_000, 2 * SECOND))
        narrowed = ended(wide, 133 * SECOND, 129 * SECOND, 131 * SECOND, 0, 0)
        assert (narrowed.began.count, narrowed.span) == (UNKNOWN, TEN)
        _, high = end_of(narrowed, 133 * SECOND)
        assert rolled(narrowed, high - 1, 1_080, climbs=False) is narrowed
        assert rolled(narrowed, high, 1_080, climbs=False).began.count == 1_080

    def test_one_that_ends_otherwise_drops_it(self) -> None:
        dropped = ended(seen(20 * SECOND, 60 * SECOND, 130 * SECOND), 156 * SECOND, 154 * SECOND, 156 * SECOND, 0, 1)
        assert (dropped.span, dropped.ends) == (0, ((154 * SECOND, 156 * SECOND),))

    def test_one_that_outlasts_it_drops_it(self) -> None:
        window = seen(20 * SECOND, 60 * SECOND, 130 * SECOND)
        assert ended(window, 160 * SECOND, 159 * SECOND, 160 * SECOND, 11 * SECOND, 1).span == 0

    def test_an_instant_is_less_sure_with_time(self) -> None:
        window = seen(20 * SECOND, 60 * SECOND, 130 * SECOND)
        low, high = end_of(window, 130 * SECOND + 1_000 * TEN)
        assert high - low == window.high - window.low + 2 * (1_001 * TEN // DRIFT)

    def test_a_window_begins_with_the_first_request_that_is_in_it_for_sure(self) -> None:
        window = seen(20 * SECOND, 60 * SECOND, 130 * SECOND)
        _, high = end_of(window, 131 * SECOND)
        assert rolled(window, high - 1, 70, climbs=True).began.count == UNKNOWN
        first = rolled(window, high, 70, climbs=True)
        assert (first.began.count, first.passed) == (70, 0)
        assert rolled(first, high + 1, 71, climbs=True) is first
        _, later = end_of(first, high + 1)
        assert rolled(first, later, 125, climbs=True).passed == 55
        assert rolled(first, later, 125, climbs=False).passed == 0


def windowed(estimate: int = 300, held: int = 0, **rest: object) -> Rate:
    """Cruising in a window of ten seconds that began at 130 s with no doubt; `held` were accepted in it."""
    here = Mark(130 * SECOND, 1_000)
    window = Window(TEN, 130 * SECOND, 130 * SECOND, here)
    fields = {"phase": Phase.CRUISE, "estimate": estimate * UNIT, "end": Mark(0, 0), "step": here, "learning": 0}
    record = msgspec.structs.replace(start(estimate * 990, 0), **fields | {"window": window} | rest)
    return msgspec.structs.replace(record, due=Mark(1_000 * SECOND, 0)) if held == 0 else record


def stamp(held: int, at: int) -> Stamp:
    return Stamp(1_000 + held, at)


class TestFull:
    def test_a_full_window_is_waited_for_to_its_end(self) -> None:
        assert pause(windowed(), 138 * SECOND, stamp(50, 138 * SECOND), 0, DRAWS) == 2 * SECOND + 1_000

    def test_one_that_is_not_full_may_have_met_something_else(self) -> None:
        assert pause(windowed(), 134 * SECOND, stamp(20, 134 * SECOND), DRAWS // 2, DRAWS) == SECOND

    def test_a_trial_that_was_rejected_too_shows_it_full(self) -> None:
        record = rejected(windowed(), 134 * SECOND, stamp(20, 134 * SECOND), 135 * SECOND, told=False)
        assert record.estimate > 290 * UNIT
        trial = stamp(21, 135 * SECOND)
        assert pause(record, 135 * SECOND, trial, DRAWS // 2, DRAWS) == 5 * SECOND + 1_000
        assert rejected(record, 135 * SECOND, trial, 140 * SECOND, told=False).estimate == 120 * UNIT

    def test_a_retry_after_that_names_its_end_shows_it_full(self) -> None:
        record = rejected(windowed(), 134 * SECOND, stamp(20, 134 * SECOND), 140 * SECOND, told=True)
        assert record.estimate == 120 * UNIT

    def test_one_that_names_another_instant_does_not(self) -> None:
        record = rejected(windowed(), 134 * SECOND, stamp(20, 134 * SECOND), 137 * SECOND, told=True)
        assert record.estimate > 290 * UNIT

    def test_a_slow_429_speaks_of_the_window_before(self) -> None:
        """It was sent at 139.5 s and heard at 140.5 s, when the next window had begun."""
        window = Window(TEN, 130 * SECOND, 130 * SECOND, Mark(140_001_000, 1_049), previous=Mark(130 * SECOND, 1_000))
        record = windowed(window=window)
        sent = stamp(49, 139_500_000)
        assert pause(record, 140_500_000, sent, 0, DRAWS) == SHORTEST_PAUSE
        assert rejected(record, 140_500_000, sent, 140_520_000, told=False).estimate == 294 * UNIT

    def test_one_that_may_hold_enough_is_full(self) -> None:
        window = Window(TEN, 130 * SECOND, 131 * SECOND, Mark(130_500_000, 1_000, 500_000))
        assert pause(windowed(window=window), 139 * SECOND, stamp(44, 139 * SECOND), 0, DRAWS) > SECOND
        assert pause(windowed(window=window), 139 * SECOND, stamp(42, 139 * SECOND), 0, DRAWS) < SECOND

    def test_a_doubtful_end_is_tried_in_the_middle_first(self) -> None:
        window = Window(TEN, 130 * SECOND, 131 * SECOND, Mark(130_500_000, 1_000, 500_000))
        record = windowed(window=window)
        first = pause(record, 138 * SECOND, stamp(50, 138 * SECOND), 0, DRAWS)
        assert first == 2 * SECOND + SECOND // 2
        record = rejected(record, 138 * SECOND, stamp(50, 138 * SECOND), 138 * SECOND + first, told=False)
        at = 138 * SECOND + first
        assert pause(record, at, stamp(51, at), 0, DRAWS) == SECOND // 2 + 1_000

    def test_what_a_climb_met_is_at_least_the_middle_of_the_doubt(self) -> None:
        window = Window(TEN, 130 * SECOND, 131 * SECOND, Mark(130_500_000, 1_000, 500_000))
        record = windowed(280, window=window, phase=Phase.PROBE, rate=330 * UNIT, survived=300 * UNIT)
        assert rejected(record, 139 * SECOND, stamp(49, 139 * SECOND), 140 * SECOND, told=False).estimate == 310_500

    def test_more_in_one_window_than_the_estimate_frees_a_climb(self) -> None:
        climbing = {"phase": Phase.PROBE, "gain": 320_000, "rate": 360 * UNIT, "survived": 324 * UNIT}
        step = Mark(133 * SECOND, 1_013)
        record = windowed(held=1, step=step, climb=step, **climbing)
        at = step.at + STEP
        assert granted(record, at, 1_051).rate == 360 * UNIT
        assert granted(record, at, 1_053).rate == 540 * UNIT

    def test_the_next_window_is_the_learners_business(self) -> None:
        record = windowed(step=Mark(139 * SECOND, 1_045))
        assert watched_from(record, 139 * SECOND) == 140 * SECOND + 1_000

    @pytest.mark.parametrize("told", [False, True])
    def test_the_first_request_after_a_block_is(self, told: bool) -> None:
        record = rejected(windowed(), 138 * SECOND, stamp(50, 138 * SECOND), 140 * SECOND, told=told)
        assert watched_from(record, 138 * SECOND) == 138 * SECOND
        assert watched_from(granted(record, 141 * SECOND, 1_051), 141 * SECOND) > 141 * SECOND
