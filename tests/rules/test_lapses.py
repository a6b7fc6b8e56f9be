"""Records that nobody takes away are forgotten, in steps, and nothing that anybody needs goes with them."""

from __future__ import annotations

import pytest
from tests.rules.support import Case

from cross_instance.rules.lapses import LOCK_KEPT, LOCK_LOOKED_AT, THEFT_KEPT, WATCHED
from cross_instance.rules.operations import (
    DAY,
    SECOND,
    CancelTask,
    Claim,
    GetTask,
    Heartbeat,
    Lock,
    Locked,
    NewTask,
    Push,
    Sweep,
    Unlock,
)
from cross_instance.rules.registry import STEP
from cross_instance.rules.tables import LAPSE, LOCK, STEALS, WATCH


def count(case: Case, table: bytes) -> int:
    return len([*case.tables.scan(table)])


def take(case: Case, incarnation: int, resource: str, ttl: int) -> Locked:
    answer = case.run(Lock(incarnation, resource, "token", ttl))
    assert isinstance(answer, Locked)
    return answer


def test_ever_new_locks_leave_nothing_behind_and_go_in_steps() -> None:
    case = Case()
    one = case.join("one", timeout=DAY)
    for number in range(2 * STEP + 10):
        take(case, one, f"lock {number}", SECOND)
        assert case.run(Unlock(f"lock {number}", "token")).known
    case.wait(SECOND + LOCK_KEPT)
    left, more = [], True
    while more:
        more = case.run(Sweep()).more
        left.append(count(case, LOCK))
    assert left == [STEP + 10, 10, 0]
    assert count(case, LAPSE) == 0


def test_a_lock_that_is_used_again_is_one_record_and_stays() -> None:
    case = Case()
    one = case.join("one", timeout=DAY)
    for _ in range(10):
        take(case, one, "lock", SECOND)
        case.wait(LOCK_KEPT // 2)
        case.run(Sweep())
        assert (count(case, LOCK), count(case, LAPSE)) == (1, 1)
    held = take(case, one, "lock", DAY)
    for _ in range(5):
        case.wait(LOCK_LOOKED_AT)
        case.run(Sweep())
    assert take(case, one, "lock", SECOND).lock.fence == held.lock.fence, "a held one is not forgotten"


def test_the_lock_of_who_is_gone_is_forgotten_however_long_it_would_last() -> None:
    case = Case()
    one = case.join("one", timeout=DAY)
    take(case, one, "lock", 300 * DAY)
    case.wait(LOCK_LOOKED_AT)
    case.run(Sweep())
    assert count(case, LOCK) == 1
    case.sweep(one)
    case.wait(LOCK_LOOKED_AT)
    case.run(Sweep())
    assert (count(case, LOCK), count(case, LAPSE)) == (0, 0)


@pytest.mark.parametrize("back", [0, DAY])
def test_fences_rise_whatever_is_forgotten(back: int) -> None:
    case = Case()
    one = case.join("one", timeout=DAY)
    fences = []
    for resource in ("a", "b", "a", "c", "b"):
        fences.append(take(case, one, resource, SECOND).lock.fence)
        case.wait(2 * LOCK_KEPT)
        case.store.clock.wall -= back
        case.run(Sweep())
        assert count(case, LOCK) == 0
    assert fences == sorted(set(fences))


def test_watchers_that_gave_up_are_forgotten() -> None:
    case = Case()
    one = case.join("one", timeout=DAY)
    case.run(Push((NewTask("t", "kind"),)))
    for seq in range(1, 101):
        case.run(GetTask("t", watcher=(one, seq)))
        case.wait(SECOND)
    case.run(Sweep())
    assert count(case, WATCH) == count(case, LAPSE) == WATCHED // SECOND - 1
    case.wait(WATCHED)
    case.run(Sweep())
    assert count(case, WATCH) == count(case, LAPSE) == 0
    assert case.run(CancelTask("t")).wakes == ()


def test_thieves_that_come_once_are_forgotten() -> None:
    case = Case()
    case.run(Push(tuple(NewTask(f"t{number}", "kind", queue="victim") for number in range(20))))
    for number in range(10):
        thief = case.join(f"thief {number}")
        case.run(Claim(thief, 1, steal=True))
        case.sweep(thief)
    assert count(case, STEALS) == 20
    case.wait(THEFT_KEPT)
    case.run(Sweep())
    assert (count(case, STEALS), count(case, LAPSE)) == (0, 0)


def test_at_rest_a_sweep_forgets_nothing_that_lives() -> None:
    case = Case()
    one = case.join("one", timeout=DAY)
    case.run(Push((NewTask("t", "kind"),)))
    for _ in range(20):
        case.run(GetTask("t", watcher=(one, 7)))
        case.wait(WATCHED // 6)
        case.run(Heartbeat(one))
        case.run(Sweep())
        assert (count(case, WATCH), count(case, LAPSE)) == (1, 1)
    (wake,) = case.run(CancelTask("t")).wakes
    assert (wake.incarnation, wake.seq) == (one, 7)
