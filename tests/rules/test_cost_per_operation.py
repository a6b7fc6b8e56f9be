"""Law 5: what an operation costs does not grow with the queue. Counted in calls of the tables, not in time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.rules.support import ACCOUNT, limits, requests, slots, tokens

from cross_instance.rules.apply import apply
from cross_instance.rules.operations import (
    CLUSTER,
    AccountSpec,
    Acquire,
    Cancel,
    Configure,
    Configured,
    Costs,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Left,
    Operation,
    Priority,
    Removing,
    Result,
    Settle,
    Snapshot,
    Sweep,
    Swept,
    Waiting,
)
from cross_instance.rules.registry import STEP
from cross_instance.testing import DictTables, FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class CountingTables(DictTables):
    """Counts every call, and every step of a scan."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def get(self, key: bytes, /) -> bytes | None:
        self.calls["get"] += 1
        return super().get(key)

    def first(self, prefix: bytes, /) -> tuple[bytes, bytes] | None:
        self.calls["first"] += 1
        return super().first(prefix)

    def put(self, key: bytes, value: bytes, /) -> None:
        self.calls["put"] += 1
        self.calls["bytes"] += len(value)
        super().put(key, value)

    def delete(self, key: bytes, /) -> None:
        self.calls["delete"] += 1
        super().delete(key)

    def scan(self, prefix: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        for pair in super().scan(prefix):
            self.calls["scan"] += 1
            yield pair


class Queue:
    """One account, some instances, and as many waiters as wanted behind one slot."""

    def __init__(self, instances: int, waiters: int, spec: AccountSpec, reserve: int = 0) -> None:
        self.tables = CountingTables()
        self.clock = FakeClock()
        self.instances = [self.join(f"i{number}", spec, reserve) for number in range(instances)]
        self.seq = 0
        self.first = self.acquire(self.instances[0])
        for number in range(waiters):
            self.acquire(self.instances[number % instances], priority=Priority(number // instances % 5))

    def run(self, op: Operation[Any]) -> Any:
        self.tables.begin()
        return apply(self.tables, op, self.clock())

    def join(self, name: str, spec: AccountSpec, reserve: int = 0) -> int:
        joined = self.run(Join(name, name, 1, name, name))
        assert isinstance(joined, Joined)
        assert isinstance(self.run(Configure(joined.incarnation, ACCOUNT, spec, reserve=reserve)), Configured)
        return joined.incarnation

    def acquire(self, incarnation: int, **rest: Any) -> tuple[int, int]:
        self.seq += 1
        self.run(Acquire(incarnation, self.seq, ACCOUNT, revision=1, costs=Costs(tokens=10), **rest))
        return incarnation, self.seq

    def cost(self, op: Operation[Any]) -> tuple[Counter[str], Result]:
        self.tables.calls.clear()
        answer: Result = self.run(op)
        return Counter(self.tables.calls), answer

    def costs(self) -> dict[str, Counter[str]]:
        """What each operation costs in the middle of the queue's life."""
        found: dict[str, Counter[str]] = {}
        one, holder = self.instances[-1], self.first
        found["acquire"], answer = self.cost(Acquire(one, 10**9, ACCOUNT, revision=1, costs=Costs(tokens=10)))
        assert isinstance(answer, Waiting)
        found["look"], _ = self.cost(Acquire(one, 10**9, ACCOUNT, revision=1, costs=Costs(tokens=10)))
        found["settle"], answer = self.cost(Settle(*holder))
        (offered, *_) = answer.wakes
        found["take the offer"], answer = self.cost(Acquire(offered.incarnation, offered.seq, ACCOUNT, revision=1))
        assert isinstance(answer, Granted)
        found["cancel a waiter"], _ = self.cost(Cancel(one, 10**9))
        found["cancel a grant"], answer = self.cost(Cancel(offered.incarnation, offered.seq))
        (offered, *_) = answer.wakes
        self.clock.advance(250_000)
        found["an offer passes on"], _ = self.cost(Sweep())
        found["heartbeat"], _ = self.cost(Heartbeat(offered.incarnation))
        return found


@pytest.mark.parametrize(
    "spec",
    [limits(slots(1)), limits(slots(1), requests(6_000, 100), tokens(600_000)), limits(slots(1), ageing=10**9)],
    ids=["slots", "all kinds", "ageing"],
)
def test_law_5_ten_thousand_waiters_cost_no_more_than_ten(spec: AccountSpec) -> None:
    short, long = Queue(2, 10, spec).costs(), Queue(2, 10_000, spec).costs()
    for name, calls in long.items():
        for kind in calls:
            assert calls[kind] <= 2 * short[name][kind] + 2, (name, kind, calls, short[name])


def test_law_5_ten_thousand_waiters_of_two_hundred_instances() -> None:
    spec = limits(slots(1), requests(6_000, 100))
    short, long = Queue(2, 10, spec).costs(), Queue(200, 10_000, spec).costs()
    for name, calls in long.items():
        for kind in ("get", "put", "delete", "scan"):
            assert calls[kind] <= 2 * short[name][kind] + 2, (name, kind, calls, short[name])


@pytest.mark.parametrize(
    "ending",
    [Leave, lambda incarnation: Sweep((incarnation,)), lambda _: Join("i0", "successor", 2, "i0", "i0")],
    ids=["leave", "sweep", "join"],
)
def test_who_goes_with_ten_thousand_waiters_costs_no_more_at_once_than_with_a_thousand(
    ending: Callable[[int], Operation[Any]],
) -> None:
    spec = limits(slots(1), requests(6_000, 100))
    costs = []
    for waiters in (1_000, 10_000):
        queue = Queue(1, waiters, spec)
        queue.join("other", spec)
        more, steps = True, []
        while more:
            calls, answer = queue.cost(ending(queue.instances[0]))
            assert isinstance(answer, Left | Swept | Joined | Removing)
            more = isinstance(answer, Removing) or (isinstance(answer, Left | Swept) and answer.more)
            steps.append(calls.total() - calls["bytes"])
        costs.append(max(steps))
        assert len(steps) == waiters // STEP + 1
    assert costs[1] <= 1.1 * costs[0]


def test_a_look_without_counts_costs_the_same_whatever_waits() -> None:
    spec = limits(slots(1), requests(6_000, 100))
    looks = [Queue(2, waiters, spec).cost(Snapshot(counts=False))[0].total() for waiters in (10, 2_000)]
    assert looks[1] == looks[0]


def test_the_first_limit_of_the_cluster_and_its_end_change_no_waiter() -> None:
    """They look at how each stands; what is read whole and written are the accounts and the permits held."""
    costs = []
    for waiters in (10, 2_000):
        queue = Queue(2, waiters, limits(slots(1)))
        for spec in (limits(slots(5)), AccountSpec()):
            calls, answer = queue.cost(Configure(queue.instances[0], CLUSTER, spec))
            assert isinstance(answer, Configured)
            assert calls["scan"] <= waiters + 30
            costs.append(calls["get"] + calls["put"] + calls["delete"])
    assert costs[2:] == costs[:2]


def test_an_uncontended_pair_is_one_operation_each_and_few_calls() -> None:
    queue = Queue(1, 0, limits(requests(6_000, 100), tokens(600_000), slots(50)))
    acquire, answer = queue.cost(Acquire(queue.instances[0], 7, ACCOUNT, revision=1))
    assert isinstance(answer, Granted)
    settle, _ = queue.cost(Settle(queue.instances[0], 7))
    assert acquire.total() - acquire["bytes"] <= 6
    assert settle.total() - settle["bytes"] <= 5


@pytest.mark.parametrize("reserve", [0, 1])
def test_to_publish_costs_the_thousandth_instance_what_it_costs_the_third(reserve: int) -> None:
    """Equal specs are one record, and reserves that all fit are looked at by nobody; likewise when it goes."""
    spec = limits(requests(6_000, 100), slots(50))
    costs = []
    for instances in (2, 1_000):
        queue = Queue(instances, 0, spec, reserve=reserve)
        first, _ = queue.cost(Configure(queue.instances[0], ACCOUNT, limits(requests(3_000, 50)), reserve=reserve))
        join, joined = queue.cost(Join("late", "late", 1, "late", "late"))
        assert isinstance(joined, Joined)
        configure, _ = queue.cost(Configure(joined.incarnation, ACCOUNT, spec, reserve=reserve))
        leave, _ = queue.cost(Leave(joined.incarnation))
        costs.append([calls.total() - calls["bytes"] for calls in (first, join, configure, leave)])
    assert costs[1] == costs[0]
    assert max(costs[0]) <= 40
