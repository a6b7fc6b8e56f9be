"""Law 8: one cut per overload; pauses for everyone; what is and is not learned from a response."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.rules.support import Case, limits, requests, slots, token_costs, tokens

from cross_instance.rules.operations import (
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Kind,
    LimitSpec,
    Outcome,
    Signals,
)

HALF = 1 << 31
"""The draw in the middle: no jitter."""


def pause_after(case: Case, seq: int, incarnation: int, **rest: Any) -> int:
    """The pause in force, from now, after one more request was rejected."""
    if not case.permit(incarnation, seq):
        case.granted(incarnation, seq)
    return case.reject(incarnation, seq, draw=HALF, **rest).paused_until - case.now


class TestLaw8:
    def test_the_first_rejection_moves_the_epoch_and_its_echoes_do_not(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        for seq in range(1, 21):
            case.granted(one, seq)
        case.reject(one, 1)
        assert case.node().epochs == (1, 0, 0)
        for seq in range(2, 21):
            case.reject(one, seq)
        assert case.node().epochs == (1, 0, 0)

    def test_a_permit_of_the_new_epoch_may_move_it_again(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        case.granted(one, 1)
        case.reject(one, 1)
        case.wait(MINUTE)
        assert case.granted(one, 2).epochs == (1, 0, 0)
        case.reject(one, 2)
        assert case.node().epochs == (2, 0, 0)

    @pytest.mark.parametrize(
        ("kind", "epochs"),
        [
            (Kind.REQUESTS, (1, 0, 0)),
            (Kind.REQUESTS_DAY, (1, 0, 0)),
            (Kind.TOKENS, (0, 1, 0)),
            (Kind.INPUT_TOKENS, (0, 1, 0)),
            (Kind.OUTPUT_TOKENS, (0, 1, 0)),
            (Kind.CONCURRENCY, (0, 0, 1)),
            (None, (1, 1, 1)),
        ],
    )
    def test_each_kind_has_its_own(self, kind: Kind | None, epochs: tuple[int, int, int]) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        case.granted(one, 1)
        case.reject(one, 1, kind)
        assert case.node().epochs == epochs

    def test_a_rejection_of_unknown_kind_is_an_echo_if_any_epoch_has_moved(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        case.granted(one, 1)
        case.granted(one, 2)
        case.reject(one, 1, Kind.TOKENS)
        case.reject(one, 2, None)
        assert case.node().epochs == (0, 1, 0)

    def test_each_model_group_has_its_own(self) -> None:
        case = Case()
        one = case.join("one", AccountSpec((requests(600, 100),), (("group", (requests(60, 9),)),)))
        case.granted(one, 1, group="group")
        case.granted(one, 2)
        case.reject(one, 1)
        assert case.node("account#group").epochs == (1, 0, 0)
        assert case.node().epochs == (0, 0, 0)
        case.reject(one, 2)
        assert case.node().epochs == (1, 0, 0), "no echo: it went to another model"

    @pytest.mark.parametrize("outcome", [Outcome.OVERLOADED, Outcome.ERROR, Outcome.TIMEOUT, Outcome.SUCCESS])
    def test_nothing_but_a_rejection_moves_one(self, outcome: Outcome) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        case.granted(one, 1)
        case.settle(one, 1, outcome, signals=Signals(Kind.REQUESTS))
        assert case.node().epochs == (0, 0, 0)


class TestPauses:
    def test_a_retry_after_pauses_the_whole_account_for_everyone(self) -> None:
        case = Case()
        spec = AccountSpec((requests(600, 100),), (("group", ()),))
        one, other = case.join("one", spec), case.join("other", spec)
        case.granted(one, 1)
        case.reject(one, 1, retry_after=3 * SECOND)
        for incarnation, group in ((one, ""), (other, ""), (other, "group")):
            assert case.waiting(incarnation, group=group).not_before >= case.now + 3 * SECOND
        elsewhere = case.join("elsewhere", limits(), account="second")
        case.granted(elsewhere, 1, account="second")

    def test_the_longest_of_several_holds(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        for seq in (1, 2, 3):
            case.granted(one, seq)
        assert pause_after(case, 1, one, retry_after=3 * SECOND) == 3 * SECOND
        assert pause_after(case, 2, one, retry_after=9 * SECOND) == 9 * SECOND, "an echo's pause counts too"
        assert pause_after(case, 3, one, retry_after=SECOND) == 9 * SECOND

    def test_an_overloaded_provider_pauses_only_where_it_says_so(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(600, 100)))
        for seq, retry_after in ((1, None), (2, 2 * SECOND)):
            case.granted(one, seq)
            settled = case.settle(one, seq, Outcome.OVERLOADED, signals=Signals(retry_after=retry_after))
            assert settled.paused_until == (0 if retry_after is None else case.now + retry_after)

    def test_without_a_word_pauses_double_up_to_32_seconds(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(5)))
        pauses = []
        for seq in range(1, 9):
            pauses.append(pause_after(case, seq, one))
            case.wait(pauses[-1])
        assert pauses == [seconds * SECOND for seconds in (1, 2, 4, 8, 16, 32, 32, 32)]

    def test_three_accepted_requests_end_the_row(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(5)))
        for seq in range(1, 4):
            case.wait(pause_after(case, seq, one))
        for seq in range(4, 7):
            case.granted(one, seq)
            case.settle(one, seq)
        assert pause_after(case, 7, one) == SECOND

    @given(st.integers(0, (1 << 32) - 1))
    def test_the_draw_moves_a_pause_by_a_fifth_at_most(self, draw: int) -> None:
        case = Case()
        one = case.join("one", limits(slots(5)))
        case.granted(one, 1)
        pause = case.reject(one, 1, draw=draw).paused_until - case.now
        assert 800_000 <= pause < 1_200_000
        assert abs(pause - (800_000 + 400_000 * draw / (1 << 32))) < 2

    def test_echoes_without_a_word_do_not_lengthen_the_pause(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(5)))
        for seq in (1, 2, 3):
            case.granted(one, seq)
        assert [pause_after(case, seq, one) for seq in (1, 2, 3)] == [SECOND] * 3

    def test_an_absurd_retry_after_stays_an_instant(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(5)))
        case.granted(one, 1)
        assert case.reject(one, 1, retry_after=(1 << 53) - 1).paused_until <= FOREVER


class TestDrain:
    def test_one_request_goes_first_and_the_rest_when_it_is_refilled(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 20)))
        case.granted(one, 1)
        case.reject(one, 1, retry_after=5 * SECOND)
        case.wait(5 * SECOND)
        assert case.count_granted(one) == 1
        case.wait(SECOND)
        assert case.count_granted(one) == 1

    def test_refunded_echoes_do_not_fill_it_again(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 20, refund=True)))
        for seq in range(1, 20):
            case.granted(one, seq)
        for seq in range(1, 20):
            case.reject(one, seq, retry_after=SECOND)
        case.wait(SECOND)
        assert case.count_granted(one) <= 1

    def test_only_the_kind_that_was_hit_is_drained(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 20), tokens(600)))
        case.granted(one, 1, costs=token_costs(10))
        case.reject(one, 1, Kind.TOKENS)
        available = {limit.kind: limit.available for limit in case.node().limits}
        assert available == {Kind.REQUESTS: 19, Kind.TOKENS: 0}

    def test_a_debt_is_not_forgiven(self) -> None:
        case = Case()
        one = case.join("one", limits(tokens(600)))
        case.granted(one, 1)
        case.granted(one, 2)
        case.settle(one, 1, usage=token_costs(900))
        case.reject(one, 2, Kind.TOKENS)
        assert case.node().limits[0].available == -301

    def test_a_fixed_window_is_left_as_it_is(self) -> None:
        case = Case()
        one = case.join("one", limits(LimitSpec(Kind.REQUESTS_DAY, 9, 9, 86_400 * SECOND, anchor=0)))
        case.granted(one, 1)
        case.reject(one, 1, Kind.REQUESTS_DAY)
        assert case.node().limits[0].available == 9


def test_nothing_is_learned_from_an_exhausted_quota() -> None:
    case = Case()
    one = case.join("one", limits(requests(60, 20)))
    case.granted(one, 1)
    signals = Signals(Kind.REQUESTS, 600 * SECOND, exhausted="insufficient_quota")
    settled = case.settle(one, 1, Outcome.REJECTED, signals=signals)
    assert settled.paused_until == 0
    assert case.node().epochs == (0, 0, 0)
    assert case.node().limits[0].available == 19


def test_waiters_go_on_by_themselves_after_a_pause() -> None:
    case = Case()
    one, other = (case.join(name, limits(slots(2), requests(600, 10))) for name in ("one", "other"))
    case.granted(one, 1)
    case.granted(one, 2)
    case.waiting(other, 1)
    wakes = case.reject(one, 1, retry_after=4 * SECOND).wakes
    (wake,) = (wake for wake in wakes if wake.incarnation == other)
    assert wake.at == case.now + 4 * SECOND
    case.wait(4 * SECOND)
    case.granted(other, 1)
