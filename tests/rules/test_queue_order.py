"""Law 3: reserve, class, weighted fair queueing, first come first served; and who may claim what frees."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st
from tests.rules.support import ACCOUNT, NO_LIMITS, Case, limits, requests, slots, token_costs, tokens

from cross_instance.rules.operations import (
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Configure,
    Costs,
    Granted,
    Priority,
    Refused,
    Stale,
    Waiting,
)
from cross_instance.rules.queue import COST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONE_SLOT = limits(slots(1))


class NaiveQueue:
    """Strict classes and start-time fair queueing over a plain list, as the paper has it (Goyal, Vin, Cheng 1996)."""

    def __init__(self, weights: dict[int, int]) -> None:
        self.weights = weights
        self.waiting: list[tuple[int, int, int, int]] = []
        self.virtual = 0
        self.finish: dict[int, int] = {}
        self.starts: dict[tuple[int, int], int] = {}

    def arrive(self, rank: int, arrival: int, incarnation: int, seq: int) -> None:
        if not self.waiting:
            self.virtual, self.finish = 0, {}
        if not any((one[0], one[2]) == (rank, incarnation) for one in self.waiting):
            self.starts[rank, incarnation] = self.next_start(incarnation)
        self.waiting.append((rank, arrival, incarnation, seq))

    def next_start(self, incarnation: int) -> int:
        return max(self.virtual, self.finish.get(incarnation, 0))

    def next(self) -> tuple[int, int]:
        def order(one: tuple[int, int, int, int]) -> tuple[int, ...]:
            rank, arrival, incarnation, seq = one
            return rank, self.starts[rank, incarnation], arrival, incarnation, seq

        heads = [one for one in self.waiting if not any(_before(other, one) for other in self.waiting)]
        first = min(heads, key=order)
        self.waiting.remove(first)
        _, _, incarnation, seq = first
        self.virtual = self.next_start(incarnation)
        self.finish[incarnation] = self.virtual + 1_000_000 * COST // self.weights[incarnation]
        for rank in Priority:
            self.starts[rank, incarnation] = self.next_start(incarnation)
        return incarnation, seq


def _before(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return (one[0], one[2]) == (other[0], other[2]) and (one[1], one[3]) < (other[1], other[3])


arrivals = st.tuples(st.integers(0, 2), st.sampled_from((Priority.NORMAL, Priority.LOW)))
queue_steps = st.lists(st.one_of(arrivals, arrivals, st.none(), st.integers(1, 3)), min_size=20, max_size=60)


@given(queue_steps, st.sampled_from(((1, 1, 1), (1, 2, 5))))
def test_law_3_the_order_is_that_of_a_naive_queue(
    steps: list[tuple[int, Priority] | int | None], weights: tuple[int, ...]
) -> None:
    """Arrivals, releases of the one slot, and time, at random: whoever is offered the slot is whom the list names."""
    case = Case()
    instances = [case.join(f"i{number}", ONE_SLOT, weight=weight) for number, weight in enumerate(weights)]
    naive = NaiveQueue(dict(zip(instances, weights, strict=True)))
    holder = (instances[0], 1)
    case.granted(*holder)
    seq = 1
    for step in steps:
        if isinstance(step, int):
            case.wait(step)
        elif step is not None:
            seq += 1
            number, priority = step
            case.waiting(instances[number], seq, priority=priority)
            naive.arrive(priority, case.now, instances[number], seq)
        elif naive.waiting:
            case.settle(*holder)
            holder = case.take_offer()
            assert holder == naive.next()


@settings(max_examples=20)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.lists(st.integers(1, 60), min_size=20, max_size=20),
    st.integers(0, 9),
)
def test_law_3_the_fairness_bound(weights: list[int], sizes: list[int], shift: int) -> None:
    """Between two instances that always wait, what they got, divided by their weights, differs over any interval by
    at most one largest request of each."""
    case = Case()
    instances = [
        case.join(f"i{number}", limits(tokens(600, 60)), weight=weight) for number, weight in enumerate(weights)
    ]
    crowd = Crowd(case, lambda seq, incarnation: sizes[(seq * 7 + incarnation * shift) % len(sizes)])
    case.granted(instances[0], 10**6, costs=token_costs(59))
    for incarnation in instances * 3:
        crowd.ask(incarnation)
    largest, got = max(sizes), {incarnation: [0] for incarnation in instances}
    for winner, units in crowd.grants(40):
        for incarnation in instances:
            got[incarnation].append(got[incarnation][-1] + units * (incarnation == winner))
        crowd.ask(winner)
    for one, other in combinations(range(len(weights)), 2):
        apart = [
            a / weights[one] - b / weights[other]
            for a, b in zip(got[instances[one]], got[instances[other]], strict=True)
        ]
        assert max(apart) - min(apart) <= largest / weights[one] + largest / weights[other] + 0.01


class Crowd:
    """Waiters that look when they are told to, by their last answer or by a wake."""

    def __init__(self, case: Case, size: Callable[[int, int], int]) -> None:
        self.case = case
        self.size = size
        self.seq = 0
        self.timers: dict[tuple[int, int], int] = {}

    def ask(self, incarnation: int) -> None:
        """One more waiter; the bucket is empty, so it has to wait."""
        self.seq += 1
        costs = token_costs(self.size(self.seq, incarnation))
        self.timers[incarnation, self.seq] = FOREVER
        assert not self.look((incarnation, self.seq), costs)

    def look(self, name: tuple[int, int], costs: Costs | None = None) -> bool:
        answer = self.case.acquire(*name, costs=costs or Costs())
        if isinstance(answer, Waiting):
            self.timers[name] = answer.check_at
        for wake in answer.wakes:
            place = (wake.incarnation, wake.seq)
            self.timers[place] = min(wake.at, self.timers.get(place, FOREVER))
        return isinstance(answer, Granted)

    def grants(self, number: int) -> Iterator[tuple[int, int]]:
        """The next grants in their order: the instance and the units."""
        while number:
            name = min(self.timers, key=lambda name: (self.timers[name], name))
            self.case.wait(max(0, self.timers[name] - self.case.now))
            if self.look(name):
                number -= 1
                del self.timers[name]
                permit = self.case.permit(*name)
                assert permit is not None
                self.case.settle(*name)
                yield name[0], permit.costs[1]


def test_law_3_a_heavy_instance_does_not_delay_a_light_one() -> None:
    case = Case()
    heavy, light = case.join("heavy", ONE_SLOT), case.join("light", ONE_SLOT)
    case.granted(heavy, 1)
    for seq in range(2, 42):
        case.waiting(heavy, seq)
    case.waiting(light, 1)
    order = []
    holder = (heavy, 1)
    for _ in range(4):
        case.settle(*holder)
        holder = case.take_offer()
        order.append(holder)
    assert (light, 1) in order[:2]


def test_law_3_classes_are_strict() -> None:
    case = Case()
    one, other = case.join("one", ONE_SLOT), case.join("other", ONE_SLOT)
    case.granted(one, 1)
    for seq, priority in enumerate(reversed(Priority), 10):
        case.waiting(one if seq % 2 else other, seq, priority=priority)
    order, holder = [], (one, 1)
    for _ in Priority:
        case.settle(*holder)
        holder = case.take_offer()
        order.append(holder[1])
    assert order == [14, 13, 12, 11, 10]


def test_law_3_ageing_raises_a_waiter_by_one_class_each_time() -> None:
    spec = limits(slots(1), ageing=SECOND)
    case = Case()
    one, other = case.join("one", spec), case.join("other", spec)
    case.granted(one, 1)
    case.waiting(one, 2, priority=Priority.LOW)
    case.wait(2 * SECOND - 1)
    case.waiting(other, 3, priority=Priority.HIGH)
    case.settle(one, 1)
    assert case.take_offer() == (other, 3)
    case.wait(1)
    case.waiting(other, 4, priority=Priority.HIGH)
    case.settle(other, 3)
    assert case.take_offer() == (one, 2)


class TestReserve:
    def test_it_comes_first_before_any_class(self) -> None:
        case = Case()
        owner, other = case.join("owner", ONE_SLOT, reserve=6), case.join("other", ONE_SLOT)
        case.granted(other, 1)
        case.waiting(other, 2, priority=Priority.CRITICAL)
        case.waiting(owner, 1, priority=Priority.BACKGROUND)
        case.settle(other, 1)
        assert case.take_offer() == (owner, 1)

    def test_when_it_is_used_up_its_owner_queues_like_the_others(self) -> None:
        case = Case()
        owner, other = case.join("owner", ONE_SLOT, reserve=6), case.join("other", ONE_SLOT)
        case.granted(owner, 1)
        case.waiting(owner, 2)
        case.waiting(other, 1, priority=Priority.HIGH)
        case.settle(owner, 1)
        assert case.take_offer() == (other, 1)

    def test_it_refills_at_its_rate(self) -> None:
        case = Case()
        owner, other = case.join("owner", ONE_SLOT, reserve=6), case.join("other", ONE_SLOT)
        case.granted(owner, 1)
        case.wait(10 * SECOND)
        case.waiting(other, 1, priority=Priority.CRITICAL)
        case.waiting(owner, 2)
        case.settle(owner, 1)
        assert case.take_offer() == (owner, 2)

    def test_it_is_lent_while_its_owner_wants_nothing(self) -> None:
        spec = limits(requests(60, 10))
        case = Case()
        case.join("owner", spec, reserve=60)
        other = case.join("other", spec)
        assert case.count_granted(other) == 9

    def test_its_grants_do_not_count_against_the_owner_s_fair_share(self) -> None:
        case = Case()
        owner, other = case.join("owner", ONE_SLOT, reserve=6), case.join("other", ONE_SLOT)
        case.granted(other, 1)
        for seq in (2, 3):
            case.waiting(owner, seq)
        for seq in (2, 3):
            case.waiting(other, seq)
        order, holder = [], (other, 1)
        for _ in range(3):
            case.settle(*holder)
            holder = case.take_offer()
            order.append(holder)
        assert order == [(owner, 2), (owner, 3), (other, 2)], "the second by its fair turn: it came first"

    def test_an_offer_that_lapses_gives_it_back(self) -> None:
        case = Case()
        owner, other = case.join("owner", ONE_SLOT, reserve=6), case.join("other", ONE_SLOT)
        case.granted(other, 1)
        case.waiting(owner, 1)
        case.settle(other, 1)
        assert case.offered() == [(owner, 1)]
        case.wait(250_000)
        case.sweep()
        case.granted(other, 2)
        case.acquire(owner, 1)
        case.waiting(other, 3, priority=Priority.CRITICAL)
        case.settle(other, 2)
        assert case.take_offer() == (owner, 1)


class TestClaims:
    GROUPS = AccountSpec(
        limits=(slots(3), tokens(60, 60)), groups=(("blocked", (slots(1),)), ("free", ())), origin="test"
    )

    def test_a_group_blocked_by_its_own_limit_blocks_nobody_else(self) -> None:
        case = Case()
        one = case.join("one", self.GROUPS)
        case.granted(one, 1, group="blocked")
        case.waiting(one, 2, group="blocked", priority=Priority.CRITICAL)
        assert case.granted(one, 3, group="free", priority=Priority.BACKGROUND).waited == 0

    def test_nobody_barges_past_the_first_however_large(self) -> None:
        case = Case()
        one, other = case.join("one", self.GROUPS), case.join("other", self.GROUPS)
        case.granted(one, 1, costs=token_costs(40))
        case.waiting(one, 2, costs=token_costs(50))
        answer = case.waiting(other, 1, costs=token_costs(1))
        assert answer.not_before == case.now, "it would fit by itself"
        case.wait(31 * SECOND)
        case.granted(one, 2)
        assert case.offered() == []
        case.wait(SECOND)
        case.granted(other, 1)

    def test_the_claim_passes_on_when_the_first_gives_up(self) -> None:
        case = Case()
        one, other = case.join("one", self.GROUPS), case.join("other", self.GROUPS)
        case.granted(one, 1, costs=token_costs(40))
        case.waiting(one, 2, costs=token_costs(50))
        case.waiting(other, 1, costs=token_costs(1))
        case.cancel(one, 2)
        assert case.offered() == [(other, 1)]

    def test_a_deadline_in_the_middle_of_the_queue_is_passed_over(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(one, 2)
        case.waiting(one, 3, timeout=SECOND)
        case.waiting(one, 4)
        case.wait(2 * SECOND)
        case.settle(one, 1)
        assert case.take_offer() == (one, 2)
        case.settle(one, 2)
        assert case.take_offer() == (one, 4)
        assert case.permit(one, 3) is None

    def test_a_limit_of_the_whole_cluster_is_shared_by_the_accounts(self) -> None:
        case = Case()
        one, other = case.join("one"), case.join("other")
        case.configure(one, NO_LIMITS, "second")
        case.configure(other, NO_LIMITS, "second")
        case.run(Configure(one, "", limits(slots(1))))
        case.granted(one, 1)
        case.waiting(one, 2)
        case.waiting(other, 1, account="second")
        case.settle(one, 1)
        (first,) = case.offered()
        case.granted(*first, account=ACCOUNT if first == (one, 2) else "second")
        case.settle(*first)
        assert {first, *case.offered()} == {(one, 2), (other, 1)}

    def test_waiters_that_were_there_before_the_cluster_are_counted_by_it(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(2)))
        for seq in (1, 2):
            case.granted(one, seq)
        case.waiting(one, 3)
        case.run(Configure(one, "", limits(slots(1))))
        assert (case.node("").held, case.node("").waiting) == (2, 1)
        case.settle(one, 1)
        assert case.offered() == [], "one is still held, and one is the limit"
        case.settle(one, 2)
        assert case.offered() == [(one, 3)]

    def test_a_limit_lowered_below_what_is_held_admits_nobody_until_it_drains(self) -> None:
        case = Case()
        one = case.join("one", limits(slots(3)))
        for seq in (1, 2, 3):
            case.granted(one, seq)
        case.configure(one, ONE_SLOT)
        case.waiting(one, 4)
        for seq in (1, 2):
            case.settle(one, seq)
            assert case.offered() == []
        case.settle(one, 3)
        assert case.take_offer() == (one, 4)


class TestGroupsThatChange:
    def test_a_waiter_moves_when_it_learns_of_a_new_pattern(self) -> None:
        case = Case()
        one = case.join("one", ONE_SLOT)
        case.granted(one, 1)
        case.waiting(one, 2, model="new-model")
        case.waiting(one, 3, model="new-model")
        case.configure(one, AccountSpec((slots(1),), (("new-model", (slots(1),)),)))
        stale = case.acquire(one, 2, revision=1)
        assert isinstance(stale, Stale)
        assert stale.patterns == ("new-model",)
        case.waiting(one, 2, group="new-model")
        case.settle(one, 1)
        case.waiting(one, 3, group="new-model")
        assert (case.node(f"{ACCOUNT}#new-model").held, case.node(f"{ACCOUNT}#new-model").waiting) == (1, 1)

    def test_a_pattern_that_vanishes_leaves_its_waiters_in_the_account(self) -> None:
        case = Case()
        spec = AccountSpec((), (("pattern", (slots(1),)),))
        one = case.join("one", spec)
        case.granted(one, 1, group="pattern")
        case.waiting(one, 2, group="pattern")
        case.configure(one, NO_LIMITS)
        assert case.take_offer() == (one, 2)
        case.settle(one, 1)
        case.settle(one, 2)
        assert case.node(f"{ACCOUNT}#pattern").held == 0


def test_a_timeout_of_zero_never_waits_and_takes_no_turn() -> None:
    case = Case()
    one, other = case.join("one", ONE_SLOT), case.join("other", ONE_SLOT)
    case.granted(one, 1)
    case.waiting(one, 2)
    refused = case.acquire(other, 1, timeout=0, priority=Priority.CRITICAL)
    assert isinstance(refused, Refused)
    assert case.permit(other, 1) is None
    case.settle(one, 1)
    assert case.take_offer() == (one, 2)


def test_a_timeout_of_zero_may_take_what_is_free_and_comes_first() -> None:
    spec = limits(slots(1), requests(60, 2))
    case = Case()
    one, other = case.join("one", spec), case.join("other", spec)
    case.granted(one, 1)
    case.settle(one, 1)
    case.waiting(one, 2)
    case.wait(SECOND)
    assert case.granted(other, 1, timeout=0, priority=Priority.CRITICAL).waited == 0
    assert case.offered() == []


def test_forever_is_an_instant_that_all_stores_can_hold() -> None:
    case = Case()
    case.store.clock.mono = FOREVER - 10 * MINUTE
    one = case.join("one", ONE_SLOT)
    case.granted(one, 1)
    waiting = case.waiting(one, 2, costs=Costs())
    assert case.now < waiting.check_at <= FOREVER
    permit = case.permit(one, 2)
    assert permit is not None
    assert permit.deadline <= FOREVER
