"""The learner as a whole: who answers an overload, what headers may change, slots, the guide's rule, the risk."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from cross_instance.rules import learning_simple as simple
from cross_instance.rules.learning import (
    Learner,
    granted,
    header_told,
    new_learner,
    pause_of,
    rejected,
    succeeded,
    timed_out,
)
from cross_instance.rules.learning_concurrency import AT_CAP, Concurrency
from cross_instance.rules.learning_risk import SLOT, Risk, counted, proactive_cut, risk, shares
from cross_instance.rules.learning_values import HIGHEST, LOWEST, UNIT, WHOLE, Mark, Stamp
from cross_instance.rules.overload import DRAWS
from cross_instance.rules.values import MINUTE, SECOND, Kind


def learner(rate: int = 300) -> Learner:
    return new_learner(rate * UNIT, 0)


def hit(record: Learner, serial: int, at: int, held: int = 0, **rest: Any) -> Learner:
    options = {"moved": True, "told": False} | rest
    return rejected(record, at, Stamp(serial, at, held), at + SECOND, **options)


class TestWhoAnswers:
    def test_an_unnamed_overload_is_the_rates(self) -> None:
        record = hit(learner(), 50, 20 * SECOND, held=30)
        assert record.requests.rate < 300 * UNIT
        assert (record.slots.cap, record.slots.samples) == (0, (30,))

    def test_a_named_one_is_its_kinds(self) -> None:
        record = hit(learner(), 50, 20 * SECOND, held=30, kind=Kind.CONCURRENCY)
        assert (record.requests.rate, record.slots.cap) == (300 * UNIT, 30)

    def test_tokens_get_a_rate_of_their_own(self) -> None:
        tokens = Stamp(90_000, 20 * SECOND, size=1_000)
        record = hit(learner(), 90, 20 * SECOND, kind=Kind.TOKENS, tokens=tokens)
        assert record.requests.rate == 300 * UNIT
        assert record.tokens is not None
        assert 30_000 * UNIT <= record.tokens.rate <= 300_000 * UNIT

    def test_an_echo_moves_nothing(self) -> None:
        record = hit(learner(), 50, 20 * SECOND)
        after = hit(record, 51, 20 * SECOND, moved=False)
        assert (after.epoch, after.requests.rate, after.slots) == (1, record.requests.rate, record.slots)


class TestSlots:
    def capped(self, cap: int = 40, **rest: Any) -> Learner:
        return msgspec.structs.replace(learner(6_000), slots=Concurrency(cap=cap, **rest))

    def test_a_rejection_at_the_cap_leaves_the_rate_alone(self) -> None:
        record = hit(self.capped(), 50, 20 * SECOND, held=38)
        assert (record.slots.cap, record.requests.rate) == (38, 6_000 * UNIT)

    def test_one_far_below_the_cap_is_the_rates(self) -> None:
        record = hit(self.capped(highest=38, proven=38), 50, 20 * SECOND, held=40 * AT_CAP // WHOLE - 1)
        assert record.slots.cap == 40
        assert record.requests.rate < 6_000 * UNIT

    def test_trials_after_a_rejection_at_the_cap_change_nothing_up_to_four(self) -> None:
        record = hit(self.capped(highest=39, proven=39), 50, 20 * SECOND, held=39)
        for number, held in enumerate((35, 31, 28, 26), 1):
            assert pause_of(record, 0, Stamp(50 + number, 0), None, DRAWS // 2, DRAWS) == min(8, 1 << number) * SECOND
            record = hit(record, 50 + number, 20 * SECOND + number * SECOND, held=held)
            assert (record.slots.cap, record.requests.rate) == (39, 6_000 * UNIT)
        assert pause_of(record, 0, Stamp(55, 0), None, DRAWS // 2, DRAWS) == SECOND
        assert hit(record, 55, 30 * SECOND, held=24).requests.rate < 6_000 * UNIT

    def test_until_something_succeeds_a_rejection_cuts_the_cap_again(self) -> None:
        """Half of the slots are gone: after a pause as many are let in as there are now."""
        record = hit(self.capped(highest=39, proven=39), 50, 20 * SECOND, held=39)
        record = hit(record, 70, 28 * SECOND, held=20)
        assert (record.slots.cap, record.requests.rate) == (20, 6_000 * UNIT)
        record = succeeded(record, Stamp(80, MINUTE, held=18))
        assert hit(record, 90, 2 * MINUTE, held=17).requests.rate < 6_000 * UNIT

    def test_a_success_at_the_cap_lifts_it(self) -> None:
        assert succeeded(self.capped(), Stamp(9, SECOND, held=44)).slots.cap == 45

    def test_a_cap_that_is_overrun_without_having_grown_was_none(self) -> None:
        record = self.capped(highest=39, proven=39, step=Mark(0, 0))
        for number in range(1, 4):
            assert record.slots.cap == 40
            record = hit(record, 100 * number, MINUTE * number, held=40)
        assert (record.slots.cap, record.slots.samples) == (0, (40,))
        assert record.requests.rate < 6_000 * UNIT

    def test_overloads_again_and_again_below_a_cap_that_has_not_grown_are_a_rates(self) -> None:
        """A rate that is met while a cap binds: each time a little less is in flight, and a few were accepted."""
        record = self.capped(highest=39, proven=39, step=Mark(0, 0))
        for number in range(1, 4):
            assert record.requests.rate == 6_000 * UNIT
            record = hit(record, 14 * number, MINUTE * number, held=40 - number)
        assert (record.slots.cap, record.requests.rate < 6_000 * UNIT) == (0, True)

    def test_what_went_before_a_rejection_was_heard_proves_nothing(self) -> None:
        record = rejected(self.capped(), 3 * SECOND, Stamp(9, SECOND, 40), 4 * SECOND, moved=True, told=False)
        assert succeeded(record, Stamp(11, 2 * SECOND, held=44)).slots.cap == 40
        assert succeeded(record, Stamp(8, 0, held=44)).slots.cap == 40, "nor what went before it"
        assert succeeded(record, Stamp(99, 9 * SECOND, held=44)).slots.cap == 45

    def test_it_grows_by_one_and_then_by_steps_that_are_four_times_as_large(self) -> None:
        record, caps = self.capped(100), []
        for step in range(1, 5):
            record = granted(record, step * 2 * SECOND, Stamp(1_000 * step, 0, held=record.slots.cap - 1))
            caps.append(record.slots.cap)
        assert caps == [101, 113, 167, 250]

    def test_it_does_not_grow_unused_nor_above_what_is_configured(self) -> None:
        assert granted(self.capped(), MINUTE, Stamp(1_000, 0, held=5)).slots.cap == 40
        assert granted(self.capped(), MINUTE, Stamp(1_000, 0, held=39), most_slots=40).slots.cap == 40

    def test_a_timeout_cuts_a_tenth_once_per_epoch(self) -> None:
        once = timed_out(self.capped(), SECOND, Stamp(9, 0, held=39))
        assert once.slots.cap == 36
        assert timed_out(once, SECOND, Stamp(10, 0, held=35)) == once

    @given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, MINUTE), st.integers(0, 3)), max_size=40))
    def test_no_overload_no_cap_and_never_none_at_all(self, moves: list[tuple[int, int, int]]) -> None:
        record, now, overloaded = learner(6_000), 0, False
        for serial, (held, wait, what) in enumerate(moves):
            now += wait
            stamp = Stamp(serial, now, held)
            if what == 0:
                record = granted(record, now, stamp)
            elif what == 1:
                record = succeeded(record, stamp)
            else:
                overloaded = True
                record = timed_out(record, now, stamp) if what == 2 else hit(record, serial, now, held)
            assert record.slots.cap >= 0
            assert overloaded or record.slots.cap == 0


class TestHeaders:
    def test_a_told_limit_is_used_at_once(self) -> None:
        assert header_told(learner(60), SECOND, 1, 500 * UNIT).requests.rate == 495 * UNIT

    def test_one_that_the_counts_contradict_is_not(self) -> None:
        record = header_told(learner(60), 30 * SECOND, 100, 20 * UNIT)
        assert (record.requests.rate, record.requests.doubted) == (60 * UNIT, 1)

    def test_one_far_from_what_is_known_is_not(self) -> None:
        known = msgspec.structs.replace(learner().requests, estimate=300 * UNIT, learning=0)
        record = msgspec.structs.replace(learner(), requests=known)
        assert header_told(record, SECOND, 1, 900 * UNIT).requests.rate == 300 * UNIT
        assert header_told(record, SECOND, 1, 320 * UNIT).requests.rate == 316_800

    def test_rejections_far_below_it_make_it_doubted(self) -> None:
        record = hit(header_told(learner(60), 0, 0, 500 * UNIT), 10, SECOND)
        record = hit(record, 160, 61 * SECOND)
        assert record.requests.doubted == 1
        assert record.requests.rate < 200 * UNIT

    def test_a_believed_limit_is_not_probed(self) -> None:
        record = header_told(learner(60), 0, 0, 500 * UNIT)
        for step in range(1, 100):
            record = granted(record, step * 5 * SECOND, Stamp(42 * step, 0))
            assert record.requests.rate <= 500 * UNIT

    @pytest.mark.parametrize("limit", [-1, 0, HIGHEST + 1])
    def test_absurd_figures_change_nothing(self, limit: int) -> None:
        assert header_told(learner(), SECOND, 1, limit) == learner()


class TestSimple:
    def test_the_guides_example(self) -> None:
        assert simple.rejected(simple.Simple(500 * UNIT), 0).rate == 450 * UNIT

    def test_it_recovers_by_a_twentieth_once_a_second(self) -> None:
        record = simple.accepted(simple.Simple(400 * UNIT), SECOND)
        assert record.rate == 420 * UNIT
        assert simple.accepted(record, 2 * SECOND - 1) is record

    def test_the_bounds_hold_only_where_they_are_set(self) -> None:
        bounds = simple.Factors(lowest=100 * UNIT, highest=1_000 * UNIT)
        assert simple.rejected(simple.Simple(105 * UNIT), 0, bounds).rate == 100 * UNIT
        assert simple.accepted(simple.Simple(990 * UNIT), SECOND, bounds).rate == 1_000 * UNIT
        assert simple.rejected(simple.Simple(LOWEST), 0).rate == LOWEST
        assert simple.accepted(simple.Simple(5_000 * UNIT), SECOND).rate == 5_250 * UNIT

    @pytest.mark.parametrize(
        "wrong", [{"reduction": WHOLE}, {"reduction": 0}, {"recovery": WHOLE}, {"lowest": 2 * UNIT, "highest": UNIT}]
    )
    def test_factors_on_the_wrong_side_are_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be"):
            simple.Factors(**wrong)


class TestRisk:
    def test_shares_of_ten_thirty_and_sixty_minutes(self) -> None:
        record = counted(Risk(), 0, 100, 10)
        record = counted(record, 5 * SLOT, 100, 0)
        assert shares(record, 5 * SLOT) == (0, 50_000, 50_000)

    def test_an_hour_later_nothing_is_left(self) -> None:
        assert shares(counted(Risk(), 0, 100, 10), 12 * SLOT) == (0, 0, 0)

    def test_the_risk_and_its_cut_are_bounded(self) -> None:
        record = counted(Risk(), 0, 100, 100)
        assert (risk(record, 0), proactive_cut(record, 0)) == (WHOLE, WHOLE // 5)
        assert proactive_cut(Risk(), 0) == 0

    @given(st.lists(st.tuples(st.integers(0, 90 * MINUTE), st.integers(0, 100), st.integers(0, 100)), max_size=40))
    def test_it_never_grows(self, moves: list[tuple[int, int, int]]) -> None:
        record, now = Risk(), 0
        for wait, sent, met in moves:
            now += wait
            record = counted(record, now, sent, met)
            assert len(record.sent) == len(record.rejected) == 12
            assert all(0 <= share <= WHOLE for share in shares(record, now))


def test_a_record_fits_in_a_few_hundred_bytes() -> None:
    full = msgspec.structs.replace(
        hit(hit(learner(), 50, 20 * SECOND, held=40), 150, 50 * SECOND), tokens=learner().requests
    )
    assert len(msgspec.msgpack.encode(full)) < 400
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(full), type=Learner) == full
    assert Mark(1, 2) == Mark(1, 2, 0)
