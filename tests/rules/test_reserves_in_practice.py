"""The user guide's example of priorities and reserves, in virtual time: what the critical worker gets beside others
that take all they can, and what becomes of a reserve that nobody wants.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.rules.support import limits, requests, slots

from cross_instance.rules.operations import MINUTE, SECOND
from cross_instance.testing.simulated_account import SimulatedAccount
from cross_instance.testing.simulation import Load, Member, Simulation

if TYPE_CHECKING:
    from cross_instance.rules.operations import AccountSpec, Acquire, Granted

ACCOUNT = "account"
RESERVE = 100
"""Requests per minute, as in the guide."""
RATE = 300
LIMITS = limits(requests(RATE, 10))
REFILL = MINUTE // RATE
"""µs until one more request is allowed: no reserve makes a request come sooner than the account lets it."""
SATURATING = Load(parallel=15, duration=(SECOND // 2, SECOND))


class Timed(Simulation):
    """Notes when each member's requests were granted, and how long they had waited."""

    def __init__(self, seed: int, spec: AccountSpec) -> None:
        self.account = SimulatedAccount(spec.limits)
        super().__init__(seed, {ACCOUNT: self.account})
        self.spec = spec
        self.waits: dict[str, list[int]] = defaultdict(list)

    def _granted(self, member: Member, op: Acquire, answer: Granted) -> None:
        self.waits[member.name].append(answer.waited)
        super()._granted(member, op, answer)

    def background(self, number: int = 2, reserve: int = 50) -> list[Member]:
        """Workers that want more than there is; the first one has the reserve that the guide gives it."""
        return [
            self.add(Member(f"background-{i}", {ACCOUNT: self.spec}, SATURATING, reserve=0 if i else reserve))
            for i in range(number)
        ]

    def critical(self, weight: int = 10, reserve: int = RESERVE) -> Member:
        """The worker that is sure of something; what it wants comes by `ask`."""
        nothing = Load(parallel=0, total=0, duration=(SECOND // 2, SECOND))
        return self.add(Member("critical", {ACCOUNT: self.spec}, nothing, weight=weight, reserve=reserve))

    def ask(self, member: Member, per_minute: int, duration: int) -> None:
        """Let requests come at a steady pace, whether or not earlier ones have been answered."""
        for place in range(per_minute * duration // MINUTE):
            self.at(self.now + place * MINUTE // per_minute, partial(self._request, member))


@pytest.mark.parametrize("weight", [1, 10])
def test_the_critical_worker_keeps_its_100_a_minute_and_waits_for_no_queue(weight: int) -> None:
    """Whatever its weight: among five equals it would get 60."""
    simulation = Timed(weight, LIMITS)
    simulation.background(number=4)
    critical = simulation.critical(weight)
    simulation.run(MINUTE)
    for minute in range(1, 3):
        simulation.ask(critical, RESERVE, MINUTE)
        simulation.run(MINUTE)
        assert critical.granted >= minute * RESERVE - 1, "the last one of a minute may fall into the next"
    assert max(simulation.waits["critical"]) <= 2 * REFILL
    assert min(simulation.waits["background-1"][-50:]) > 5 * SECOND, "the others did wait in a long queue"
    assert not simulation.account.rejected


@pytest.mark.parametrize("wanted", [0, 30, RESERVE, 2 * RESERVE])
def test_what_the_critical_worker_does_not_want_is_used_by_the_others(wanted: int) -> None:
    """At least 99 % of what the account allows, whatever part of the reserve is wanted."""
    simulation = Timed(4, LIMITS)
    simulation.background()
    critical = simulation.critical()
    simulation.run(MINUTE)
    before = simulation.account.accepted
    if wanted:
        simulation.ask(critical, wanted, 2 * MINUTE)
    simulation.run(2 * MINUTE)
    assert simulation.account.accepted - before >= 0.99 * 2 * RATE
    assert critical.granted >= min(wanted, RESERVE) * 2 - 1
    assert not simulation.account.rejected


def test_a_reserve_that_was_lent_is_there_again_with_the_next_capacity_that_frees() -> None:
    """Unused for a minute, then all at once: ten seconds' worth come first, the rest at the pace of the reserve."""
    simulation = Timed(5, LIMITS)
    simulation.background()
    critical = simulation.critical()
    simulation.run(MINUTE)
    for _ in range(RESERVE // 6):
        simulation.at(simulation.now, partial(simulation._request, critical))
    simulation.run(RESERVE // 6 * REFILL + REFILL)
    assert critical.granted == RESERVE // 6
    assert max(simulation.waits["critical"]) <= (RESERVE // 6 + 1) * REFILL


def test_with_slots_the_critical_worker_waits_for_one_call_to_end() -> None:
    spec = limits(requests(600, 10), slots(4))
    simulation = Timed(6, spec)
    simulation.background()
    critical = simulation.critical()
    simulation.run(MINUTE)
    before = simulation.account.accepted
    simulation.ask(critical, RESERVE, 2 * MINUTE)
    simulation.run(2 * MINUTE)
    assert critical.granted >= 2 * RESERVE - 1
    assert max(simulation.waits["critical"]) <= SECOND, "a call of another takes that long at most"
    assert simulation.account.accepted - before >= 0.99 * (2 * MINUTE * 4) / (3 * SECOND // 4)
    assert not simulation.account.rejected


def test_a_reserve_given_while_running_holds_from_then_on_and_can_be_taken_away() -> None:
    simulation = Timed(7, LIMITS)
    simulation.background(number=5, reserve=0)
    critical = simulation.critical(weight=1, reserve=0)
    simulation.run(MINUTE)
    granted = []
    for weight, reserve in ((1, 0), (10, RESERVE), (1, 0)):
        critical.weight, critical.reserve = weight, reserve
        simulation.configure(critical, critical.specs)
        before = critical.granted
        simulation.ask(critical, RESERVE, MINUTE)
        simulation.run(MINUTE)
        granted.append(critical.granted - before)
    alone, sure, again = granted
    assert alone == pytest.approx(RATE / 6, abs=2), "one of six equals"
    assert sure >= RESERVE
    assert again == pytest.approx(RATE / 6, abs=2)


def test_the_weight_alone_shares_what_is_left_and_promises_nothing() -> None:
    """With 10 against 1 the critical worker gets ten times the share, as long as it wants so much."""
    simulation = Timed(8, LIMITS)
    simulation.background(number=1, reserve=0)
    critical = simulation.critical(reserve=0)
    critical.load = SATURATING
    simulation.run(MINUTE // 4)
    other = next(member for member in simulation.members if member is not critical)
    before = critical.granted, other.granted
    simulation.run(MINUTE)
    assert (critical.granted - before[0]) / (other.granted - before[1]) == pytest.approx(10, rel=0.1)
