"""Named locks: one holder, its token, a time to live, fences that rise."""

from __future__ import annotations

import pytest
from tests.rules.support import Case

from cross_instance.rules.operations import SECOND, Fenced, Leave, Lock, Locked, Snapshot, Unlock


def take(case: Case, incarnation: int, token: str, ttl: int = SECOND, resource: str = "resource") -> Locked:
    answer = case.run(Lock(incarnation, resource, token, ttl))
    assert isinstance(answer, Locked)
    return answer


def test_one_holds_it_and_the_others_are_told_who() -> None:
    case = Case()
    one, two = case.join("one"), case.join("two")
    held = take(case, one, "a")
    refused = take(case, two, "b")
    assert (held.mine, refused.mine) == (True, False)
    assert refused.lock == held.lock


def test_the_same_token_renews_and_keeps_its_fence() -> None:
    case = Case()
    one = case.join("one")
    first = take(case, one, "a")
    case.wait(SECOND - 1)
    again = take(case, one, "a")
    assert (again.lock.fence, again.lock.acquired_at) == (first.lock.fence, first.lock.acquired_at)
    assert again.lock.expires_at == case.now + SECOND


def test_an_expired_one_goes_to_exactly_one_contender_with_a_larger_fence() -> None:
    case = Case()
    one, two = case.join("one"), case.join("two")
    fence = take(case, one, "a").lock.fence
    case.wait(SECOND)
    winner, loser = take(case, two, "b"), take(case, one, "c")
    assert winner.mine
    assert winner.lock.fence > fence
    assert not loser.mine


def test_only_its_own_token_gives_it_back_and_only_once() -> None:
    case = Case()
    one = case.join("one")
    take(case, one, "a")
    assert not case.run(Unlock("resource", "b")).known
    assert case.run(Unlock("resource", "a")).known
    assert not case.run(Unlock("resource", "a")).known
    assert not case.run(Unlock("unheard of", "a")).known


def test_fences_go_on_rising_after_a_release_and_a_reboot() -> None:
    case = Case()
    one = case.join("one")
    fences = []
    for number in range(4):
        fences.append(take(case, one, f"t{number}").lock.fence)
        case.run(Unlock("resource", f"t{number}"))
    assert fences == sorted(set(fences))
    rebooted = Case()
    rebooted.wait(SECOND)
    assert take(rebooted, rebooted.join("one"), "t").lock.fence > fences[-1], "also where the records are gone"


def test_an_expired_token_cannot_release_the_next_holder_s() -> None:
    case = Case()
    one = case.join("one")
    take(case, one, "a")
    case.wait(SECOND)
    take(case, one, "b")
    assert not case.run(Unlock("resource", "a")).known
    assert not take(case, one, "c").mine


@pytest.mark.parametrize("how", ["leave", "dead"])
def test_the_lock_of_an_instance_that_is_gone_is_free(how: str) -> None:
    case = Case()
    one, two = case.join("one"), case.join("two")
    take(case, one, "a", ttl=1_000 * SECOND)
    case.run(Leave(one)) if how == "leave" else case.sweep(one)
    assert case.run(Snapshot()).locks == ()
    assert take(case, two, "b").mine


def test_who_is_fenced_gets_none() -> None:
    case = Case()
    one = case.join("one")
    case.sweep(one)
    assert isinstance(case.run(Lock(one, "resource", "a", SECOND)), Fenced)


def test_they_are_seen_by_name_while_they_are_held() -> None:
    case = Case()
    one = case.join("one")
    for name in ("zeta", "alpha", "a name with spaces and ünïcode"):
        take(case, one, "a", resource=name)
    assert [lock.resource for lock in case.run(Snapshot()).locks] == ["a name with spaces and ünïcode", "alpha", "zeta"]
    case.wait(SECOND)
    assert case.run(Snapshot()).locks == ()


@pytest.mark.parametrize(
    ("resource", "ttl"), [("", SECOND), ("a\0b", SECOND), ("x" * 201, SECOND), ("a", 0), ("a", -1)]
)
def test_what_cannot_be_stored_is_refused(resource: str, ttl: int) -> None:
    case = Case()
    with pytest.raises(ValueError, match=r"resource|ttl"):
        case.run(Lock(case.join("one"), resource, "a", ttl))
