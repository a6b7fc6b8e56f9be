"""Law 6: who lives, who is dead, who is only silent, and what becomes of what they held."""

from __future__ import annotations

import pytest
from tests.rules.support import NO_LIMITS, Case, limits, requests, slots

from cross_instance.rules.operations import (
    MINUTE,
    SECOND,
    Beaten,
    Configure,
    Duplicate,
    Entry,
    Fenced,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Removing,
    Snapshot,
    Wake,
    Workload,
)
from cross_instance.rules.records import State
from cross_instance.rules.registry import GRACE
from cross_instance.rules.tables import INCARNATIONS, NODE, TOLD

ONE_SLOT = limits(slots(1))


def join(case: Case, name: str, nonce: str, machine: str = "machine", **rest: object) -> Joined | Duplicate | Removing:
    return case.run(Join(name, nonce, 7, machine, "host", **rest))  # type: ignore[arg-type]


class TestJoining:
    def test_the_same_join_twice_is_one(self) -> None:
        case = Case()
        assert join(case, "one", "n") == join(case, "one", "n")
        assert len(case.run(Snapshot()).instances) == 1

    def test_incarnations_rise_for_ever(self) -> None:
        case = Case()
        last = 0
        for number in range(5):
            joined = join(case, f"i{number % 2}", f"n{number}")
            assert isinstance(joined, Joined)
            assert joined.incarnation > last
            last = joined.incarnation
            case.run(Leave(last))

    def test_another_live_process_elsewhere_keeps_its_id(self) -> None:
        case = Case()
        join(case, "one", "a", "here")
        answer = join(case, "one", "b", "there")
        assert isinstance(answer, Duplicate)
        assert (answer.pid, answer.machine) == (7, "host")

    def test_the_kernel_s_lock_on_this_machine_proves_the_former_one_dead(self) -> None:
        case = Case()
        former = join(case, "one", "a")
        assert isinstance(former, Joined)
        case.configure(former.incarnation, ONE_SLOT)
        case.granted(former.incarnation, 1)
        assert isinstance(join(case, "one", "b", holds_lock=False), Duplicate)
        assert isinstance(join(case, "one", "b"), Joined)
        assert case.node().held == 0, "its sockets are gone: the slot is back at once"

    def test_an_id_whose_owner_elsewhere_fell_silent_is_free_and_leaves_ghosts(self) -> None:
        case = Case()
        former = join(case, "one", "a", "there", timeout=SECOND)
        assert isinstance(former, Joined)
        case.configure(former.incarnation, ONE_SLOT)
        case.granted(former.incarnation, 1)
        case.wait(SECOND)
        assert isinstance(join(case, "one", "b", "here"), Joined)
        assert (case.node().held, case.node().ghosts) == (1, 1)

    @pytest.mark.parametrize("name", ["", "a\0b", "x" * 201, "é" * 101])
    def test_names_that_fit_no_key_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="instance id"):
            join(Case(), name, "n")


class TestHeartbeats:
    def test_they_keep_alive(self) -> None:
        case = Case()
        one = case.join("one", timeout=MINUTE)
        for _ in range(10):
            case.wait(MINUTE - 1)
            assert isinstance(case.run(Heartbeat(one)), Beaten)
            assert case.sweep().removed == ()
        case.wait(MINUTE - 1)
        assert case.sweep().removed == ()
        case.wait(1)
        assert case.sweep().removed == ("one",)
        assert isinstance(case.run(Heartbeat(one)), Fenced)

    def test_they_carry_the_workload_and_keep_it_when_they_carry_none(self) -> None:
        case = Case()
        one = case.join("one")
        workload = Workload(pending=3, active_models=(("openai", "gpt-4o", 5),), stealable=(Entry("x"),))
        case.run(Heartbeat(one, workload))
        case.wait(SECOND)
        case.run(Heartbeat(one))
        (state,) = case.run(Snapshot()).instances
        assert state.workload == workload
        assert state.beat_at - state.joined_at == SECOND

    def test_only_who_is_silent_is_removed(self) -> None:
        case = Case()
        one, two = case.join("one", timeout=MINUTE), case.join("two", timeout=2 * MINUTE)
        case.wait(MINUTE)
        assert case.sweep().removed == ("one",)
        assert isinstance(case.run(Heartbeat(one)), Fenced)
        assert isinstance(case.run(Heartbeat(two)), Beaten)


class TestLaw6:
    def three(self) -> tuple[Case, int, int]:
        """One instance that holds a slot, has an offer and a waiter; another that waits behind it."""
        case = Case()
        one = case.join("one", limits(slots(2)), timeout=MINUTE)
        other = case.join("other", limits(slots(2)), timeout=3 * MINUTE)
        case.granted(one, 1)
        case.granted(one, 2)
        case.waiting(one, 3)
        case.settle(one, 2)
        case.waiting(one, 4)
        case.waiting(other, 1)
        case.waiting(other, 2)
        assert case.offered() == [(one, 3)]
        return case, one, other

    def test_the_slots_of_a_dead_process_return_at_once(self) -> None:
        case, one, other = self.three()
        swept = case.sweep(one)
        assert swept.removed == ("one",)
        assert set(swept.wakes) == {Wake(other, 1, case.now), Wake(other, 2, case.now)}
        assert {name for name in case.permits() if name[0] == one} == set()

    def test_the_slots_of_a_silent_one_are_ghosts_for_a_grace(self) -> None:
        case, one, other = self.three()
        case.wait(MINUTE)
        case.run(Heartbeat(other))
        case.sweep()
        assert {name: permit.state for name, permit in case.permits().items() if name[0] == one} == {
            (one, 1): State.GHOST
        }
        node = case.node()
        assert (node.held, node.ghosts, node.waiting) == (2, 1, 1), "the offer's slot went to the next, at once"
        case.wait(GRACE - 1)
        case.granted(other, 1)
        assert case.node().ghosts == 1
        case.wait(1)
        case.granted(other, 2)
        assert case.node().ghosts == 0

    def test_a_ghost_is_no_permit_any_more(self) -> None:
        case, one, other = self.three()
        case.wait(MINUTE)
        case.run(Heartbeat(other))
        case.sweep()
        assert isinstance(case.acquire(one, 1), Fenced)
        assert not case.settle(one, 1).known
        assert case.cancel(one, 1).was == "unknown"
        assert case.node().ghosts == 1

    def test_charges_of_the_dead_stay_charged(self) -> None:
        case = Case()
        one = case.join("one", limits(requests(60, 10)))
        case.join("other", limits(requests(60, 10)))
        assert case.count_granted(one) == 9
        case.sweep(one)
        assert case.node().limits[0].available == 0

    def test_sweeping_what_is_gone_already_is_nothing(self) -> None:
        case, one, _ = self.three()
        case.sweep(one)
        before = dict(case.tables.values)
        assert case.sweep(one, 999).removed == ()
        assert case.tables.values == before

    def test_law_7_nothing_leaks(self) -> None:
        case, _, other = self.three()
        case.run(Configure(other, "", limits(slots(9))))
        case.wait(MINUTE)
        case.run(Heartbeat(other))
        case.sweep()
        case.run(Leave(other))
        assert not case.run(Leave(other)).known
        case.wait(GRACE)
        case.sweep()
        assert {key[:1] for key in case.tables.values} <= {NODE, TOLD, INCARNATIONS}
        assert all((node.held, node.waiting, node.ghosts) == (0, 0, 0) for node in case.run(Snapshot()).nodes)


def test_a_machine_that_slept_is_not_dead_by_the_wall_clock() -> None:
    """The store's monotonic clock stands still while the machine sleeps; the wall clock jumps."""
    case = Case()
    one = case.join("one", NO_LIMITS, timeout=MINUTE)
    case.store.clock.wall += 8 * 3_600 * SECOND
    assert case.sweep().removed == ()
    case.granted(one, 1)
