"""Long runs of many instances in virtual time. Whatever fails says its seed; the provider's side is judged apart."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.rules.brute import World
from tests.rules.support import limits, requests, slots, token_costs, tokens
from tests.rules.test_cost_per_operation import CountingTables

from cross_instance.rules.admission import OFFER
from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    SECOND,
    AccountSpec,
    Costs,
    Kind,
    LimitSpec,
    Priority,
    Snapshot,
    Sweep,
)
from cross_instance.rules.permits import CHECK, CHECK_EACH
from cross_instance.rules.registry import GRACE
from cross_instance.testing import ModelStore
from cross_instance.testing.simulated_account import SimulatedAccount
from cross_instance.testing.simulation import Load, Member, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "account"
HOUR = 60 * MINUTE
LIMITS = limits(requests(600, 20), tokens(60_000), slots(12))
SEEDS = (1, 2, 3)


def world(seed: int, spec: AccountSpec = LIMITS, **rest: object) -> tuple[Simulation, SimulatedAccount]:
    provider = SimulatedAccount(spec.limits)
    return Simulation(seed, {ACCOUNT: provider}, **rest), provider  # type: ignore[arg-type]


def crowd(simulation: Simulation, number: int, load: Load, spec: AccountSpec = LIMITS) -> list[Member]:
    """Instances that start a little apart."""
    return [simulation.add(Member(f"i{i}", {ACCOUNT: spec}, load), after=i * 7_000) for i in range(number)]


def work_conserving(simulation: Simulation) -> None:
    """Laws 4 and 5, after every instant: nobody who fits waits, and who waits for time has a timer in time."""
    at = simulation.store.clock()
    for claim in World(simulation.store.tables, at).claims([ACCOUNT]):
        assert claim.ready is None or claim.ready > at.mono, claim
        if claim.ready is not None:
            assert min(simulation.timers[name] for name in claim.below) <= claim.ready, claim


def test_the_same_seed_gives_the_same_run() -> None:
    reports = []
    for _ in range(2):
        simulation, _ = world(5, lost=0.1, wake_latency=(0, 5_000))
        crowd(simulation, 10, Load(parallel=3, duration=(SECOND, 3 * SECOND), delay=(0, 900)))
        reports.append((simulation.run(MINUTE), dict(simulation.store.tables.values)))
    assert reports[0] == reports[1]


def test_a_failure_says_the_seed_and_the_time() -> None:
    def fail(simulation: Simulation) -> None:
        assert simulation.now < 31 * SECOND

    simulation, _ = world(4711, check=fail)
    crowd(simulation, 2, Load())
    with pytest.raises(AssertionError) as caught:
        simulation.run(MINUTE)
    assert any("seed 4711" in note and "31000000 µs" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("seed", SEEDS)
def test_laws_4_and_5_nobody_waits_longer_than_necessary(seed: int) -> None:
    simulation, provider = world(seed, check=work_conserving)
    crowd(
        simulation,
        8,
        Load(parallel=2, duration=(200_000, 2 * SECOND), pause=(0, SECOND), priorities=tuple(Priority)),
        AccountSpec(limits(requests(240, 6), slots(4)).limits),
    )
    report = simulation.run(20 * SECOND)
    assert report.granted > 40
    assert not provider.rejected


def test_laws_4_and_5_hold_among_three_hundred_instances() -> None:
    """The referee reads everything that is stored, so it looks at one instant of ten: whoever is overlooked in
    between stays so until then, for nobody asks again without a timer or a wake."""
    looks = 0

    def now_and_then(simulation: Simulation) -> None:
        nonlocal looks
        looks += 1
        if looks % 10 == 0:
            work_conserving(simulation)

    simulation, provider = world(7, check=now_and_then)
    load = Load(parallel=2, duration=(200_000, 2 * SECOND), pause=(0, SECOND), priorities=tuple(Priority))
    spec = AccountSpec(limits(requests(240, 6), slots(4)).limits)
    members = crowd(simulation, 300, load, spec)
    report = simulation.run(10 * SECOND)
    assert report.granted > 20
    assert sum(len(member.waiting) for member in members) > 400
    assert looks > 500
    assert not provider.rejected


@pytest.mark.parametrize("seed", SEEDS)
def test_law_2_nothing_is_over_admitted_whatever_happens(seed: int) -> None:
    """Kills, stops, machines cut off, new ones, limits lowered and raised, weights, reserves, lost wakes."""
    simulation, provider = world(seed, lost=0.05, wake_latency=(0, 20_000), silence=20 * SECOND, beat=5 * SECOND)
    load = Load(
        parallel=3,
        duration=(100_000, 6 * SECOND),
        costs=Costs(tokens=200),
        usage=Costs(tokens=150),
        priorities=(Priority.HIGH, Priority.NORMAL, Priority.LOW),
    )
    narrow = limits(requests(120, 5), tokens(12_000), slots(3))
    members = crowd(simulation, 12, load)
    for number in range(30):
        victim = members[simulation.random.randrange(len(members))]
        what = simulation.random.choice(("kill", "cut off", "stop", "configure", "weigh", "leave"))
        when = simulation.now + number * 3 * SECOND
        simulation.at(when, lambda victim=victim, what=what: befall(victim, what))  # type: ignore[misc]
        newcomer = Member(f"n{number}", {ACCOUNT: LIMITS}, load, weight=1 + number % 3, reserve=number % 2 * 30)
        simulation.add(newcomer, after=number * 3 * SECOND)
        members.append(newcomer)

    def befall(victim: Member, what: str) -> None:
        if not victim.alive or not victim.incarnation or victim.stopped:
            return
        if what == "kill":
            simulation.kill(victim)
        elif what == "cut off":
            simulation.cut_off(victim)
        elif what == "leave":
            simulation.leave(victim)
        elif what == "stop":
            simulation.stop(victim)
            pause = simulation.random.randint(0, 60 * SECOND)
            simulation.at(simulation.now + pause, lambda: simulation.resume(victim))
        else:
            simulation.configure(victim, {ACCOUNT: narrow if what == "configure" else LIMITS})

    report = simulation.run(2 * MINUTE)
    assert report.granted > 100
    assert report.fenced > 0
    assert not provider.rejected, provider.rejected
    assert provider.most_running <= 12


def test_law_2_a_guard_absorbs_the_jitter_between_grant_and_send() -> None:
    """Requests leave up to 300 ms after their grant; once that is measured, they are never too many."""
    simulation, provider = world(9, limits(requests(1_200, 40)))
    crowd(simulation, 10, Load(parallel=20, duration=(SECOND, SECOND), delay=(0, 300_000)), limits(requests(1_200, 40)))
    simulation.run(MINUTE)
    assert provider.accepted >= 0.98 * 1_200
    assert not provider.rejected


class TestHandOver:
    """One slot, calls of one second: every hand-over counts."""

    ONE = limits(slots(1))

    def run(self, seed: int, number: int = 10, duration: int = MINUTE, **rest: object) -> tuple[Simulation, int]:
        simulation, provider = world(seed, self.ONE, **rest)
        crowd(simulation, number, Load(parallel=2), self.ONE)
        simulation.run(duration)
        assert not provider.rejected
        return simulation, provider.accepted

    def test_it_takes_no_time_where_wakes_arrive(self) -> None:
        assert self.run(1)[1] == 60 + 1

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_lost_wake_costs_the_offer_and_nothing_more(self, seed: int) -> None:
        """Every third wake is lost: each costs at most the 250 ms of its offer and one look of somebody."""
        _, accepted = self.run(seed, lost=0.33)
        worst = SECOND + 0.33 / 0.67 * (OFFER + CHECK + 20 * CHECK_EACH)
        assert accepted >= MINUTE / worst

    def test_without_any_wake_at_all_it_still_goes_on(self) -> None:
        simulation, accepted = self.run(1, lost=1.0)
        assert accepted >= MINUTE / (SECOND + OFFER + CHECK + 20 * CHECK_EACH)
        assert min(member.granted for member in simulation.members) >= 1, "and everybody gets a turn"

    def test_processes_that_stop_for_ever_delay_the_others_once_each(self) -> None:
        simulation, provider = world(1, self.ONE, silence=10 * MINUTE)
        members = crowd(simulation, 10, Load(parallel=4), self.ONE)
        simulation.run(3 * SECOND)
        (holder,) = (member for member in members if member.calls)
        for member in [member for member in members if member is not holder][:4]:
            simulation.stop(member)
        before = provider.accepted
        simulation.run(30 * SECOND)
        assert provider.accepted - before >= 30 - 4 * OFFER // SECOND - 2

    def test_the_slot_of_a_killed_process_is_back_within_a_second(self) -> None:
        simulation, provider = world(1, self.ONE)
        members = crowd(simulation, 40, Load(parallel=2, duration=(HOUR, HOUR)), self.ONE)
        for _ in range(39):
            simulation.run(2 * SECOND)
            (holder,) = (member for member in members if member.calls)
            simulation.kill(holder)
        assert provider.accepted == 39
        assert not provider.rejected

    def test_the_slot_of_a_machine_cut_off_is_back_after_silence_and_grace(self) -> None:
        simulation, provider = world(1, self.ONE, silence=MINUTE, beat=15 * SECOND)
        members = crowd(simulation, 3, Load(duration=(20 * SECOND, 20 * SECOND)), self.ONE)
        simulation.run(SECOND)
        (holder,) = (member for member in members if member.calls)
        simulation.cut_off(holder)
        simulation.run(MINUTE + 15 * SECOND + GRACE)
        assert provider.accepted == 2
        assert not provider.rejected


def test_two_hundred_instances_join_and_share_alike() -> None:
    simulation, provider = world(1, LIMITS, beat=30 * SECOND)
    members = crowd(simulation, 200, Load(parallel=2, duration=(SECOND, SECOND)))
    simulation.run(40 * SECOND)
    assert not provider.rejected
    assert provider.accepted >= 0.99 * (40 * 10), "ten a second are allowed"
    granted = [member.granted for member in members]
    assert max(granted) - min(granted) <= 2
    for member in members[:150]:
        simulation.kill(member)
    before = provider.accepted
    simulation.run(10 * SECOND)
    assert provider.accepted - before >= 95
    assert len(simulation.store.run(Snapshot()).instances) == 50


def test_weights_and_reserves_over_time() -> None:
    spec = limits(requests(600, 10))
    simulation, provider = world(3, spec)
    load = Load(parallel=20, duration=(100_000, 100_000))
    heavy, light = (
        simulation.add(Member(name, {ACCOUNT: spec}, load, weight=weight)) for name, weight in (("h", 3), ("l", 1))
    )
    simulation.run(MINUTE)
    assert heavy.granted / light.granted == pytest.approx(3, rel=0.05)
    sure = simulation.add(Member("sure", {ACCOUNT: spec}, Load(duration=(0, 0), pause=(SECOND, SECOND)), reserve=60))
    simulation.run(MINUTE)
    assert sure.granted >= 50, "about one a second, though forty others wait"
    assert not provider.rejected


def test_every_limit_of_two_accounts_two_models_and_the_cluster_holds_on_its_own() -> None:
    first = AccountSpec((slots(6),), (("large", (slots(2), requests(60, 3))), ("small", (slots(5),))))
    second, cluster = limits(requests(120, 4)), limits(slots(7))
    accounts = {
        ACCOUNT: SimulatedAccount(first.limits),
        f"{ACCOUNT}#large": SimulatedAccount(first.groups[0][1]),
        f"{ACCOUNT}#small": SimulatedAccount(first.groups[1][1]),
        "second": SimulatedAccount(second.limits),
        "": SimulatedAccount(cluster.limits),
    }
    simulation = Simulation(2, accounts)
    specs = {ACCOUNT: first, "second": second, "": cluster}
    for number, (account, model) in enumerate([(ACCOUNT, "large"), (ACCOUNT, "small"), ("second", "any")] * 4):
        load = Load(parallel=3, duration=(SECOND, 2 * SECOND), account=account, model=model)
        simulation.add(Member(f"i{number}", specs, load))
    simulation.run(2 * MINUTE)
    assert not any(account.rejected for account in accounts.values())
    assert accounts[""].most_running == 7
    assert accounts[f"{ACCOUNT}#large"].most_running == 2
    assert all(account.accepted >= 80 for account in accounts.values())


def test_days_of_idleness_lose_nothing_and_give_nothing() -> None:
    day = LimitSpec(Kind.REQUESTS_DAY, 500, 500, DAY, anchor=0)
    spec = limits(requests(600, 20), day)
    simulation, provider = world(6, spec, beat=DAY, silence=100 * DAY)
    (member,) = crowd(simulation, 1, Load(parallel=30, total=90, duration=(0, 0)), spec)
    for count in (90, 180, 270):
        simulation.run(20 * SECOND)
        assert provider.accepted == count
        simulation.run(9 * DAY)
        member.started = 0
        for _ in range(30):
            simulation._next_request(member)
    assert not provider.rejected


def measured(simulation: Simulation) -> Counter[str]:
    """Table calls per operation since the last time, and what is stored."""
    tables = simulation.store.tables
    assert isinstance(tables, CountingTables)
    per_operation = Counter({name: calls / simulation.report.operations for name, calls in tables.calls.items()})
    tables.calls.clear()
    simulation.report.operations = 0
    rows = Counter({"rows": len(tables.values), "stored": sum(map(len, tables.values.values()))})
    return per_operation + rows


def test_24_hours_cost_memory_and_units_stay_exact() -> None:
    """A saturated account of 10 requests a minute: what was granted is burst and rate, to the request; an hour costs
    and stores on the second day what it did on the first."""
    spec = limits(requests(10, 3), tokens(10_000, 10_000))
    store = ModelStore()
    store.tables = CountingTables()
    simulation, provider = world(1, spec, store=store, beat=5 * MINUTE, silence=30 * MINUTE)
    load = Load(duration=(5_100_000, 5_900_000), costs=token_costs(100), usage=token_costs(90))
    crowd(simulation, 1, load, spec)
    simulation.add(Member("now and then", {ACCOUNT: spec}, Load(pause=(10 * MINUTE, 20 * MINUTE))))
    simulation.run(HOUR)
    first = measured(simulation)
    simulation.run(22 * HOUR)
    measured(simulation)
    simulation.run(HOUR)
    last = measured(simulation)
    for name, figure in first.items():
        assert last[name] <= 1.1 * figure, (name, first, last)
    assert provider.accepted == 2 + 24 * 60 * 10, "the burst less its guard, and ten a minute"
    assert not provider.rejected


def test_nothing_is_left_when_all_have_gone() -> None:
    simulation, _ = world(8, silence=20 * SECOND, beat=5 * SECOND)
    members = crowd(simulation, 12, Load(parallel=3, duration=(SECOND, 5 * SECOND)))
    endings: list[Callable[[Member], None]] = [simulation.kill, simulation.leave, simulation.cut_off]
    simulation.run(20 * SECOND)
    for number, member in enumerate(members):
        endings[number % 3](member)
        simulation.run(SECOND)
    simulation.run(MINUTE)
    for _ in range(2):
        simulation.store.run(Sweep())
        simulation.store.clock.advance(2 * MINUTE)
    simulation.store.run(Sweep())
    assert {key[:1] for key in simulation.store.tables.values} <= {b"n", b"\x81"}
    assert {(node.held, node.waiting) for node in simulation.store.run(Snapshot()).nodes} == {(0, 0)}
