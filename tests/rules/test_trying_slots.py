"""Slots that are guessed from where overloads were met, and tried: confirmed, refuted, given up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from cross_instance.rules.learning import Learner, Stamp, granted, new_learner, rejected, succeeded, timed_out
from cross_instance.rules.learning_concurrency import FEWEST, SAMPLES, TURNED, Concurrency
from cross_instance.rules.learning_rate import Phase
from cross_instance.rules.learning_values import UNIT
from cross_instance.rules.values import MINUTE, SECOND, Kind

STARTED = 6_000 * UNIT


def hit(record: Learner, serial: int, at: int, held: int, kind: Kind | None = None) -> Learner:
    return rejected(record, at, Stamp(serial, at, held), at + SECOND, moved=True, told=False, kind=kind)


def met(*samples: int, highest: int = 0) -> Learner:
    """Overloads with that much in flight, fifty accepted between; a success with `highest` after the first."""
    record = hit(new_learner(STARTED, 0), 100, 20 * SECOND, samples[0])
    record = succeeded(record, Stamp(110, 30 * SECOND, held=highest))
    for number, held in enumerate(samples[1:], 1):
        record = hit(record, 100 + 50 * number, 20 * SECOND * (number + 1), held)
    return record


class Trial:
    """A trial of forty slots, begun 40 s after the start with 150 granted."""

    def __init__(self) -> None:
        self.record = met(40, 40, highest=38)
        self.now, self.serial = 41 * SECOND, 150
        assert self.record.slots.tried == 40

    def grant(self, count: int = 1, held: int | None = None, wait: int = SECOND) -> None:
        """Let some more go, each after a while; where nothing else is said all that may be is in flight."""
        for _ in range(count):
            self.now, self.serial = self.now + wait, self.serial + 1
            stamp = Stamp(self.serial, self.now, self.record.slots.cap - 1 if held is None else held)
            self.record = granted(self.record, self.now, stamp)

    def reject(self, held: int) -> None:
        self.record = hit(self.record, self.serial, self.now, held)


class TestWhatIsTried:
    @pytest.mark.parametrize(("samples", "cap"), [((40, 40), 40), ((41, 40), 40), ((40, 43), 0), ((30, 40), 0)])
    def test_two_samples_that_lie_together(self, samples: tuple[int, ...], cap: int) -> None:
        assert met(*samples).slots.cap == cap

    @pytest.mark.parametrize(("spread", "cap"), [(6, 394), (7, 0)])
    def test_many_in_flight_lie_together_where_a_rate_would_not_keep_them(self, spread: int, cap: int) -> None:
        assert met(400, 400 - spread).slots.cap == cap

    def test_not_where_one_has_succeeded_with_more(self) -> None:
        assert met(40, 40, highest=45).slots.cap == 0

    def test_not_where_nothing_else_was_in_flight(self) -> None:
        assert met(0, 0).slots.cap == 0

    def test_the_rate_goes_back_to_where_the_overload_was_met(self) -> None:
        before = hit(new_learner(STARTED, 0), 100, 20 * SECOND, 40)
        after = hit(before, 150, 40 * SECOND, 40)
        assert (after.requests.rate, after.requests.phase) == (before.requests.rate, Phase.SEARCH)
        assert 0 < after.requests.estimate < after.requests.rate


class TestTrials:
    def test_one_more_goes_when_ten_have_gone_at_the_cap(self) -> None:
        trial = Trial()
        trial.grant(TURNED - 1)
        assert trial.record.slots.cap == 40
        trial.grant()
        assert trial.record.slots.cap == 41

    def test_one_more_that_is_rejected_means_slots_and_the_rate_is_looked_for_anew(self) -> None:
        trial = Trial()
        trial.grant(TURNED + 1)
        trial.reject(held=40)
        assert (trial.record.slots.cap, trial.record.slots.tried) == (40, 0)
        assert (trial.record.requests.estimate, trial.record.requests.end) == (0, None)
        assert trial.record.requests.rate >= Trial().record.requests.rate

    def test_one_more_that_is_not_means_that_they_are_none(self) -> None:
        trial = Trial()
        trial.grant(TURNED + 1, wait=SECOND // 10)
        assert trial.record.slots.cap == 41, "it has just gone"
        trial.grant(wait=3 * SECOND)
        assert (trial.record.slots.cap, trial.record.slots.strikes) == (0, 1)
        assert trial.record.requests.rate <= trial.record.requests.estimate

    def test_time_passes_only_from_when_it_has_gone(self) -> None:
        trial = Trial()
        trial.grant(TURNED)
        trial.grant(held=30, wait=MINUTE)
        trial.grant()
        assert trial.record.slots.cap == 41

    @pytest.mark.parametrize(("granted", "held"), [(TURNED - 3, 39), (TURNED + 1, 35)])
    def test_a_rejection_elsewhere_means_a_rate(self, granted: int, held: int) -> None:
        trial = Trial()
        trial.grant(granted)
        met = trial.record.requests.rate
        trial.reject(held)
        assert (trial.record.slots.cap, trial.record.slots.samples) == (0, (held,))
        assert trial.record.requests.rate < met

    def test_retries_after_the_pause_end_no_trial(self) -> None:
        trial = Trial()
        for held in (39, 38, 37):
            trial.reject(held)
        assert (trial.record.slots.cap, trial.record.slots.tried) == (40, 40)
        assert trial.record.requests.block.row == 3, "but the rate counts them"

    def test_echoes_do_not_put_it_off(self) -> None:
        record = Trial().record
        echo = rejected(record, 42 * SECOND, Stamp(150, 40 * SECOND, 41), 42 * SECOND, moved=False, told=False)
        assert echo.slots.due == record.slots.due

    def test_a_named_kind_decides(self) -> None:
        trial = Trial()
        trial.grant(3)
        slots = hit(trial.record, trial.serial, trial.now, 25, Kind.CONCURRENCY)
        assert (slots.slots.cap, slots.slots.tried, slots.requests.estimate) == (25, 0, 0)

    def test_a_timeout_ends_it(self) -> None:
        record = timed_out(Trial().record, 50 * SECOND, Stamp(150, 49 * SECOND, held=39))
        assert (record.slots.cap, record.slots.tried) == (36, 0)


class TestAfterTrialsInVain:
    @pytest.mark.parametrize("failed", [0, 1, 2, 3])
    def test_each_asks_for_one_sample_more(self, failed: int) -> None:
        wanted = FEWEST + failed
        assert wanted <= SAMPLES
        record = msgspec.structs.replace(new_learner(STARTED, 0), slots=Concurrency(strikes=failed))
        for number in range(1, wanted + 1):
            assert record.slots.cap == 0
            record = hit(record, 100 * number, 20 * SECOND * number, 40)
        assert (record.slots.cap, record.slots.tried) == (40, 40)

    def test_they_are_forgotten_when_slots_are_found(self) -> None:
        trial = Trial()
        slots = msgspec.structs.replace(trial.record.slots, strikes=2)
        trial.record = msgspec.structs.replace(trial.record, slots=slots)
        trial.grant(TURNED + 1)
        trial.reject(held=40)
        assert (trial.record.slots.cap, trial.record.slots.strikes) == (40, 0)


class Provider:
    """Slots, all of which are always wanted."""

    def __init__(self, slots: int, heard_after: int) -> None:
        self.slots, self.heard_after = slots, heard_after
        self.learner, self.now, self.serial = new_learner(STARTED, 0), 0, 0
        self.rejections = 0

    def turn(self) -> None:
        """Five calls are replaced; then one more goes, where no cap forbids it."""
        for _ in range(5):
            self.go(self.slots - 1)
        if self.learner.slots.cap in (0, self.slots + 1):
            self.go(self.slots)

    def go(self, held: int) -> None:
        stamp = Stamp(self.serial, self.now, held)
        self.learner = granted(self.learner, self.now, stamp)
        self.now, self.serial = self.now + SECOND // 4, self.serial + 1
        if held >= self.slots:
            self.rejections += 1
            self.now += self.heard_after
            self.learner = rejected(self.learner, self.now, stamp, self.now + SECOND, moved=True, told=False)


@settings(max_examples=20)
@given(st.integers(1, 500), st.sampled_from((0, SECOND // 10, SECOND)))
def test_slots_are_found_by_three_overloads_and_overrun_once_in_two_hundred_and_fifty(slots: int, lag: int) -> None:
    provider = Provider(slots, lag)
    for _ in range(6):
        provider.turn()
    assert (provider.learner.slots.cap, provider.learner.slots.tried, provider.rejections) == (slots, 0, 3)
    for _ in range(251):
        provider.turn()
        assert slots <= provider.learner.slots.cap <= slots + 1
    assert provider.rejections == 3 + 251 * 5 // 250
