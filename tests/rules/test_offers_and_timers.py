"""Laws 4 and 5: who frees capacity grants it in the same operation, and who waits for time to pass has a timer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.rules.support import ACCOUNT, Case, limits, requests, slots, token_costs, tokens

from cross_instance.rules import uncontended
from cross_instance.rules.admission import BACKUP, OFFER
from cross_instance.rules.apply import decide
from cross_instance.rules.operations import (
    DAY,
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Configure,
    Granted,
    Heartbeat,
    Kind,
    Leave,
    LimitSpec,
    Outcome,
    Priority,
    Refused,
    Wake,
)
from cross_instance.rules.permits import CHECK, CHECK_EACH
from cross_instance.testing.clock import START_OF_2026

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Result

ONE_SLOT = limits(slots(1))


class TestOffers:
    def test_whoever_gives_back_grants_the_next_and_wakes_it(self) -> None:
        case = Case()
        one, other = case.join("one", ONE_SLOT), case.join("other", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(other, 1)
        assert case.settle(one, 1).wakes == (Wake(other, 1, case.now),)
        assert case.granted(other, 1).waited == 0

    @pytest.mark.parametrize("how", ["settle", "ignored", "cancel", "leave", "dead", "limit raised"])
    def test_every_way_of_freeing_a_slot_grants_it(self, how: str) -> None:
        case = Case()
        one, other = case.join("one", ONE_SLOT), case.join("other", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(other, 1)
        ways: dict[str, Callable[[], Result]] = {
            "settle": lambda: case.settle(one, 1),
            "ignored": lambda: case.settle(one, 1, Outcome.IGNORED),
            "cancel": lambda: case.cancel(one, 1),
            "leave": lambda: case.run(Leave(one)),
            "dead": lambda: case.sweep(one),
            "limit raised": lambda: (case.configure(one, limits(slots(2))), case.configure(other, limits(slots(2))))[1],
        }
        assert ways[how]().wakes == (Wake(other, 1, case.now),)
        case.granted(other, 1)

    def test_one_operation_grants_all_that_fits(self) -> None:
        case = Case()
        one = case.join("one", limits(tokens(600, 600)))
        case.granted(one, 1, costs=token_costs(599))
        for seq in range(2, 8):
            case.waiting(one, seq, costs=token_costs(100))
        case.settle(one, 1, Outcome.IGNORED)
        assert case.offered() == [(one, seq) for seq in range(2, 7)], "the guard's unit stays unspent"

    def test_an_offer_not_taken_passes_on_exactly_after_250_ms(self) -> None:
        case = Case()
        one, slow, other = (case.join(name, ONE_SLOT) for name in ("one", "slow", "other"))
        case.granted(one, 1)
        case.waiting(slow, 1)
        case.waiting(other, 1)
        wakes = case.settle(one, 1).wakes
        assert wakes == (Wake(slow, 1, case.now), Wake(other, 1, case.now + OFFER)), "the next holds the timer"
        case.wait(OFFER - 1)
        case.waiting(other, 1)
        case.wait(1)
        case.granted(other, 1)

    def test_a_stopped_process_delays_the_others_once_not_once_a_waiter(self) -> None:
        case = Case()
        one, stopped, other = (case.join(name, ONE_SLOT) for name in ("one", "stopped", "other"))
        case.granted(one, 1)
        for seq in range(1, 9):
            case.waiting(stopped, seq)
        case.waiting(other, 1)
        case.waiting(other, 2)
        case.settle(one, 1)
        assert case.offered() == [(stopped, 1)]
        case.wait(OFFER)
        case.granted(other, 1)
        case.settle(other, 1)
        assert case.take_offer() == (other, 2), "the stopped one is passed over"

    @pytest.mark.parametrize("how", ["look", "heartbeat", "new request"])
    def test_a_sleeper_counts_again_when_it_is_heard_of(self, how: str) -> None:
        case = Case()
        one, stopped = case.join("one", ONE_SLOT), case.join("stopped", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(stopped, 1)
        case.waiting(stopped, 2)
        case.settle(one, 1)
        case.wait(OFFER)
        case.sweep()
        assert case.offered() == []
        if how == "heartbeat":
            case.run(Heartbeat(stopped))
            assert case.take_offer() == (stopped, 1), "and keeps its place"
        elif how == "look":
            case.granted(stopped, 1)
        else:
            case.waiting(stopped, 3)
            assert case.take_offer() == (stopped, 1)

    def test_an_offer_that_was_late_but_not_passed_on_can_still_be_taken(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(one, 2)
        case.settle(one, 1)
        case.wait(OFFER + SECOND)
        assert case.granted(one, 2).waited == OFFER + SECOND

    def test_a_lapsed_offer_of_units_gives_them_back(self) -> None:
        case = Case()
        one, other = case.join("one", limits(tokens(600, 600))), case.join("other", limits(tokens(600, 600)))
        case.granted(one, 1, costs=token_costs(599))
        case.waiting(other, 1, costs=token_costs(500))
        case.settle(one, 1, Outcome.IGNORED)
        assert case.node().limits[0].available == 99
        case.wait(OFFER)
        case.sweep()
        assert case.node().limits[0].available == 599

    def test_a_lapsed_offer_gives_its_reserve_back_once(self) -> None:
        """It came from the reserve; when it is made again, from the common part, it must not return the reserve."""
        case = Case()
        sure, other = case.join("sure", ONE_SLOT, reserve=6), case.join("other", ONE_SLOT)
        case.granted(other, 1)
        case.waiting(sure, 1)
        case.settle(other, 1)
        case.wait(OFFER)
        case.granted(sure, 2, priority=Priority.CRITICAL)
        case.settle(sure, 2)
        assert case.offered() == [(sure, 1)]
        case.cancel(sure, 1)
        case.granted(other, 2)
        case.waiting(sure, 3, priority=Priority.LOW)
        case.waiting(other, 3, priority=Priority.CRITICAL)
        case.settle(other, 2)
        assert case.offered() == [(other, 3)], "the reserve is used up"

    def test_an_offer_that_may_lapse_wakes_one_other_and_no_backup(self) -> None:
        case = Case()
        one, two, three = (case.join(name, ONE_SLOT) for name in ("one", "two", "three"))
        case.granted(one, 1)
        for waiter in (two, three, one):
            case.wait(1)
            case.waiting(waiter, 2)
        assert [wake.incarnation for wake in case.settle(one, 1).wakes] == [two, three]

    def test_taking_an_offer_at_a_glance_is_taking_it(self) -> None:
        glance, general = Case(), Case()
        for case in (glance, general):
            one, other = case.join("one", ONE_SLOT), case.join("other", ONE_SLOT)
            case.granted(one, 1)
            case.waiting(other, 1)
            case.settle(one, 1)
            case.wait(OFFER // 2)
        (name,) = glance.offered()
        op = Acquire(*name, ACCOUNT, revision=1)
        taken = uncontended.acquire(glance.tables, op, glance.store.clock())
        assert taken == decide(general.tables, op, general.store.clock())
        assert glance.tables.values == general.tables.values
        assert uncontended.acquire(glance.tables, op, glance.store.clock()) is None, "it is held already"


class TestTimers:
    def test_the_first_holds_a_timer_at_the_exact_instant(self) -> None:
        case = Case()
        one = case.join("one", limits(tokens(600, 60)))
        case.granted(one, 1, costs=token_costs(59))
        assert case.waiting(one, 2, costs=token_costs(5)).check_at == case.now + SECOND // 2
        case.wait(SECOND // 2 - 1)
        assert case.waiting(one, 2).check_at == case.now + 1
        case.wait(1)
        case.granted(one, 2)

    def test_the_next_flow_holds_the_backup(self) -> None:
        case = Case()
        one, other = (case.join(name, limits(tokens(600, 60))) for name in ("one", "other"))
        case.granted(one, 1, costs=token_costs(59))
        case.waiting(one, 2, costs=token_costs(5))
        case.waiting(other, 1, costs=token_costs(5))
        case.waiting(one, 3, priority=Priority.CRITICAL, costs=token_costs(3))
        case.wait(300_000)
        wakes = case.granted(one, 3).wakes
        assert [(wake.incarnation, wake.at - case.now) for wake in wakes] == [(other, 500_000), (one, 500_000 + BACKUP)]

    @pytest.mark.parametrize("how", ["cancel", "leave", "dead"])
    def test_the_timer_passes_on_when_its_holder_leaves_the_queue(self, how: str) -> None:
        case = Case()
        one, other = (case.join(name, limits(tokens(600, 60))) for name in ("one", "other"))
        case.granted(other, 9, costs=token_costs(59))
        case.waiting(one, 1, costs=token_costs(50))
        case.waiting(other, 1, costs=token_costs(5))
        ways: dict[str, Callable[[], Result]] = {
            "cancel": lambda: case.cancel(one, 1),
            "leave": lambda: case.run(Leave(one)),
            "dead": lambda: case.sweep(one),
        }
        assert Wake(other, 1, case.now + SECOND // 2) in ways[how]().wakes

    def test_who_waits_for_a_slot_has_no_timer_but_the_slow_safety_look(self) -> None:
        case = Case()
        one, other = case.join("one", ONE_SLOT), case.join("other", ONE_SLOT)
        case.granted(one, 1)
        assert case.waiting(other, 1).check_at == case.now + CHECK + CHECK_EACH
        assert case.waiting(other, 2).check_at == case.now + CHECK + 2 * CHECK_EACH

    def test_no_timer_is_left_where_time_alone_does_not_help(self) -> None:
        """An armed waiter finds the slot taken by another: it must not look again at once, and again."""
        case = Case()
        one, two, three = (case.join(name, ONE_SLOT) for name in ("one", "two", "three"))
        case.granted(one, 1)
        case.waiting(two, 1)
        case.waiting(three, 1)
        case.settle(one, 1)
        case.granted(two, 1)
        case.wait(OFFER)
        assert case.waiting(three, 1).check_at > case.now + CHECK

    def test_an_armed_waiter_keeps_its_safety_look(self) -> None:
        """Armed for a minute ahead, it may be granted by a correction whose wake is lost."""
        case = Case()
        one = case.join("one", limits(tokens(60, 60)))
        case.granted(one, 1, costs=token_costs(59))
        assert case.waiting(one, 2, costs=token_costs(59)).check_at <= case.now + CHECK + CHECK_EACH

    def test_all_waiters_together_stay_below_a_hundred_looks_a_second(self) -> None:
        case = Case()
        holder = case.join("holder", ONE_SLOT)
        case.granted(holder, 1)
        crowd = [case.join(f"i{number}", ONE_SLOT) for number in range(50)]
        answers = [case.waiting(incarnation) for incarnation in crowd * 4]
        assert answers[-1].check_at - case.now >= 200 * CHECK_EACH

    def test_a_pause_is_waited_out_exactly(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        case.reject(one, 1, retry_after=700_000)
        waiting = case.waiting(one, 2)
        assert (waiting.not_before, waiting.check_at) == (case.now + 700_000, case.now + 700_000)
        case.wait(700_000)
        case.granted(one, 2)

    def test_the_end_of_a_ghost_is_a_timer_too(self) -> None:
        case = Case()
        lost, other = case.join("lost", ONE_SLOT, timeout=SECOND), case.join("other", ONE_SLOT)
        case.granted(lost, 1)
        case.wait(SECOND)
        case.sweep()
        case.waiting(other, 1)
        case.wait(30 * SECOND - 1)
        assert case.waiting(other, 1).check_at == case.now + 1
        case.wait(1)
        assert case.granted(other, 1).waited == 30 * SECOND

    def test_cluster_account_and_group_each_hold_back_their_own_first(self) -> None:
        """Three waiters, blocked in three places by time: each place has its timer."""
        case = Case()
        one = case.join("one", AccountSpec((tokens(600, 60),), (("group", (requests(60, 2),)),)))
        two = case.join("two", limits(), account="second")
        case.run(Configure(one, "", limits(requests(120, 3))))
        case.granted(one, 1, group="group")
        case.granted(one, 2, costs=token_costs(59))
        group = case.waiting(one, 3, group="group")
        account = case.waiting(one, 4, costs=token_costs(6))
        cluster = case.waiting(two, 1, account="second")
        assert group.check_at == case.now + SECOND
        assert account.check_at == case.now + 600_000
        assert cluster.check_at == case.now + SECOND // 2


class TestTimeouts:
    def test_a_wait_that_cannot_end_in_time_is_refused_at_once_with_its_figures(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 2)))
        case.granted(one, 1)
        refused = case.acquire(one, 2, timeout=SECOND - 1)
        assert isinstance(refused, Refused)
        assert (refused.reason, refused.retry_after) == ("timeout", SECOND)
        assert refused.limit is not None
        assert (refused.limit.amount, refused.limit.available) == (60, 0)
        case.waiting(one, 2, timeout=SECOND)

    def test_a_full_slot_does_not_hide_the_bucket_s_bound(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(1), requests(1, 1)))
        case.granted(one, 1)
        refused = case.acquire(one, 2, timeout=MINUTE - 1)
        assert isinstance(refused, Refused)
        assert refused.retry_after == MINUTE
        assert case.waiting(one, 3).not_before == case.now + MINUTE

    def test_a_pause_is_a_bound_too(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        case.reject(one, 1, retry_after=5 * SECOND)
        refused = case.acquire(one, 2, timeout=4 * SECOND)
        assert isinstance(refused, Refused)
        assert refused.retry_after == 5 * SECOND

    def test_a_waiter_whose_time_is_over_is_refused_and_gone(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        waiting = case.waiting(one, 2, timeout=300_000)
        assert waiting.check_at == case.now + 300_000
        case.wait(300_000)
        assert isinstance(case.acquire(one, 2, timeout=300_000), Refused)
        assert case.permit(one, 2) is None
        assert case.node().waiting == 0

    def test_the_timeout_counts_from_the_first_time_it_was_sent(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(one, 2, timeout=SECOND)
        case.wait(600_000)
        case.waiting(one, 2, timeout=SECOND)
        case.wait(400_000)
        assert isinstance(case.acquire(one, 2, timeout=SECOND), Refused)

    def test_a_wait_for_a_slot_has_no_bound(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        assert case.waiting(one, 2, timeout=1).not_before == case.now


def test_a_day_limit_is_waited_for_without_overflow() -> None:
    case = Case()
    spec = limits(LimitSpec(Kind.REQUESTS_DAY, 2, 2, DAY, anchor=START_OF_2026 - 7 * 3_600 * SECOND))
    one = case.join("one", spec)
    assert case.count_granted(one) == 2
    waiting = case.waiting(one, 99, timeout=FOREVER)
    assert waiting.not_before == case.now + 17 * 3_600 * SECOND
    case.wait(17 * 3_600 * SECOND)
    assert isinstance(case.acquire(one, 99), Granted)
