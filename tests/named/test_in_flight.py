"""What is capped after an overload: never a healthy account, once for each overload, for all, and not for ever."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import Permit, RateLimitExceeded, Runtime, events
from cross_instance.errors import StoreUnavailable
from cross_instance.in_flight import InFlight
from cross_instance.rules.operations import Kind, Signals, Source
from cross_instance.watching.shared_sights import LATELY

MINUTE = 60.0
PROVIDERS: dict[str, Any] = {"acme": {"requestsPerMinute": 60_000, "burst": 1_000}}
BUSY = {"outcome": "overloaded"}


class Account:
    """An instance, what it has in flight, and a clock that is set by hand."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.seconds = 0.0
        health = runtime._membership.activity.health
        health.in_flight = InFlight(runtime._membership, lambda: self.seconds)
        self._collected = runtime._membership.events.collect(lambda: None)

    def take(self, count: int, model: str = "m-1") -> list[Permit]:
        return [self.runtime.permit("acme", model, timeout=0).acquire() for _ in range(count)]

    def end(self, permits: list[Permit], **how: Any) -> None:
        with self.runtime._membership.activity._ticking:  # they end together, as far as the activity hears of it
            for permit in permits:
                permit.settle(**how)
                permit.close()
        self.heard()

    def heard(self) -> None:
        """Let the activity take what was noted, as it does each second."""
        self.runtime._membership.activity._safely()

    def wait(self, minutes: int) -> None:
        for _ in range(minutes):
            self.seconds += MINUTE
            self.heard()

    def cap(self, model: str = "") -> int | None:
        """The calls at once that are in force."""
        limits = [one for one in self.runtime.limits() if one.kind == "concurrency" and one.model == model]
        return limits[0].amount if limits else None

    def changes(self) -> list[tuple[int | None, int | None]]:
        told = [event for event in self._collected.take() if event.kind == events.PARALLELISM_CHANGED]
        return [(event.fields["old"], event.fields["new"]) for event in told]


@pytest.fixture
def stack() -> Any:
    with ExitStack() as opened:
        yield opened


def joined(stack: ExitStack, folder: Path, store: Timeline, name: str = "one", **settings: Any) -> Account:
    made = settings_in(folder, **{"providers": PROVIDERS, "logging": False, **settings})
    return Account(stack.enter_context(Runtime(name, store=store, settings=made)))


def test_a_healthy_account_is_never_capped(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline(), adaptive_rate_control={"enabled": False})
    one.end(one.take(50))
    one.end(one.take(50), outcome="error")
    one.end(one.take(50), outcome="timeout")
    one.end(one.take(1), status=429, headers={"retry-after": "0"})
    assert (one.cap(), one.changes()) == (None, [])


def test_the_first_overload_caps_what_was_in_flight_and_its_echoes_change_nothing(
    stack: ExitStack, tmp_path: Path
) -> None:
    one = joined(stack, tmp_path, Timeline())
    permits = one.take(20)
    one.end(permits[:8], **BUSY)
    assert (one.cap(), one.changes()) == (14, [(None, 14)])  # 20 less 30 %
    one.end(permits[8:], **BUSY)
    assert one.cap() == 14
    one.end(one.take(14), **BUSY)
    assert (one.cap(), one.changes()) == (9, [(14, 9)])


def test_a_few_calls_overload_nobody(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    one.end(one.take(3), **BUSY)
    assert one.cap() is None


def test_it_is_for_all_instances_and_held_by_the_store(stack: ExitStack, tmp_path: Path) -> None:
    timeline = Timeline()
    one, other = joined(stack, tmp_path, timeline), joined(stack, tmp_path, timeline, "other")
    theirs, mine = other.take(6), one.take(4)
    one.end(mine, **BUSY)
    assert (one.cap(), other.cap()) == (7, 7)  # ten were in flight
    (slots,) = [limit for limit in other.runtime.limits() if limit.kind == "concurrency"]
    assert slots.source == Source.LEARNED.value
    held = [*theirs, *other.take(1)]
    refused = other.runtime.permit("acme", "m-1", timeout=0)
    with pytest.raises(RateLimitExceeded, match=r"7 at a time \(learned\)"):
        refused.acquire()
    other.end(held)


def test_what_ended_elsewhere_just_before_counts_as_it_was_seen(stack: ExitStack, tmp_path: Path) -> None:
    """The calls of others ended with the same overload: one that looks for them afterwards finds none."""
    timeline = Timeline()
    one, other = joined(stack, tmp_path, timeline), joined(stack, tmp_path, timeline, "other")
    one.runtime.subscribe(lambda _: None, everyone=True)  # somebody looks
    activity = one.runtime._membership.activity
    with activity._ticking:
        theirs, mine = other.take(8), one.take(4)
        activity.tick()
        for permit in (*theirs, *mine):
            permit.settle(outcome="overloaded" if permit in mine else "success")
            permit.close()
        activity.tick()
    assert one.changes() == [(None, 8)]  # twelve were in flight


def test_what_was_in_flight_long_ago_counts_no_more(stack: ExitStack, tmp_path: Path) -> None:
    timeline = Timeline()
    one, other = joined(stack, tmp_path, timeline), joined(stack, tmp_path, timeline, "other")
    one.runtime.subscribe(lambda _: None, everyone=True)
    activity = one.runtime._membership.activity
    with activity._ticking:
        theirs, mine = other.take(8), one.take(4)
        activity.tick()
        for permit in theirs:
            permit.close()
        timeline.clock.advance(LATELY + 1)
        for permit in mine:
            permit.settle(outcome="overloaded")
            permit.close()
        activity.tick()
    assert one.changes() == [(None, 2)]


def test_it_rises_again_and_is_lifted(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    one.end(one.take(10), **BUSY)
    one.wait(4)
    assert one.changes() == [(None, 7)]
    one.wait(10)
    assert one.changes() == [(7, 8), (8, 9), (9, None)]
    assert one.cap() is None


def test_it_never_falls_below_a_quarter(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    one.end(one.take(20), **BUSY)
    for _ in range(12):
        one.end(one.take(1), **BUSY)
    assert one.cap() == 5


def test_it_is_a_model_group_s_own(stack: ExitStack, tmp_path: Path) -> None:
    providers = {"acme": {**PROVIDERS["acme"], "concurrency": 50, "models": {"big-*": {"requestsPerMinute": 6_000}}}}
    one = joined(stack, tmp_path, Timeline(), providers=providers)
    one.end(one.take(10, "big-1"), **BUSY)
    assert (one.cap("big-*"), one.cap()) == (7, 50)
    one.end(one.take(40), **BUSY)
    assert (one.cap("big-*"), one.cap()) == (7, 28)


@pytest.mark.parametrize(("enabled", "changes"), [(True, []), (False, [(None, 7), (7, 6)])])
def test_a_named_limit_and_timeouts_are_the_learner_s_where_there_is_one(
    stack: ExitStack, tmp_path: Path, enabled: bool, changes: list[tuple[int | None, int]]
) -> None:
    one = joined(stack, tmp_path, Timeline(), adaptive_rate_control={"enabled": enabled})
    one.end(one.take(10), outcome="rejected", signals=Signals(kind=Kind.CONCURRENCY, retry_after=0))
    one.end(one.take(1), outcome="timeout")
    assert one.changes() == changes


def test_exhausted_quota_is_no_overload(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    one.end(one.take(10), outcome="overloaded", signals=Signals(exhausted="no credit"))
    assert one.cap() is None


def test_it_outlives_that_an_instance_joins_anew(stack: ExitStack, tmp_path: Path) -> None:
    timeline = Timeline()
    one = joined(stack, tmp_path, timeline)
    one.end(one.take(10), **BUSY)
    membership = one.runtime._membership
    membership.rejoin(membership.incarnation)
    one.end(one.take(1))
    assert one.cap() == 7


def test_what_was_over_before_the_overload_was_not_in_flight_at_it(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    with one.runtime._membership.activity._ticking:  # within one second
        for _ in range(40):
            for permit in one.take(5):
                permit.close()
        permits = one.take(5)
        for permit in permits:
            permit.settle(outcome="overloaded")
            permit.close()
        for _ in range(40):
            for permit in one.take(5):
                permit.close()
    one.heard()
    assert one.changes() == [(None, 3)]  # five less 30 %


def test_a_forked_child_caps_nothing_for_its_parent(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    one.end(one.take(10), **BUSY)
    child = os.fork()
    if not child:
        accounts = one.runtime._membership.accounts
        os._exit(len(accounts.caps))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one.cap() == 7


def test_a_store_out_of_reach_is_asked_once_for_what_is_in_flight(stack: ExitStack, tmp_path: Path) -> None:
    store = Timeline()
    one = joined(stack, tmp_path, store)
    asked: list[str] = []

    def cut(name: str) -> None:
        if name == "Snapshot":
            asked.append(name)
            raise StoreUnavailable("cut off")

    permits = one.take(50)
    store.before = cut
    one.end(permits, **BUSY)
    store.before = lambda name: None
    assert len(asked) == 1


def test_it_holds_for_a_group_that_only_another_instance_configures(stack: ExitStack, tmp_path: Path) -> None:
    timeline = Timeline()
    grouped = {"acme": {**PROVIDERS["acme"], "models": {"big-*": {"requestsPerMinute": 6_000}}}}
    joined(stack, tmp_path, timeline, "other", providers=grouped).take(1, "big-1")[0].close()
    one = joined(stack, tmp_path, timeline)
    one.end(one.take(10, "big-1"), **BUSY)
    assert (one.changes(), one.cap("big-*")) == ([(None, 7)], 7)


def test_a_cap_that_the_store_did_not_hear_of_is_told_again(stack: ExitStack, tmp_path: Path) -> None:
    store = Timeline()
    one = joined(stack, tmp_path, store)
    one.end(one.take(10), **BUSY)
    one.wait(4)

    def cut(name: str) -> None:
        if name == "Configure":
            raise StoreUnavailable("cut off")

    store.before = cut
    one.wait(10)
    assert one.changes() == [(None, 7), (7, 8), (8, 9), (9, None)]
    with one.runtime._membership.activity._ticking:
        store.before = lambda name: None
        one.runtime._membership.fallback.recover()
        assert one.cap() == 7
    one.heard()
    assert one.cap() is None


def test_what_is_published_by_two_threads_arrives_in_the_order_it_was_written(stack: ExitStack, tmp_path: Path) -> None:
    one = joined(stack, tmp_path, Timeline())
    one.end(one.take(10))
    membership = one.runtime._membership
    accounts, write = membership.accounts, membership.accounts.publication
    others: list[threading.Thread] = []

    def publication(incarnation: int, account: str) -> Any:
        written = write(incarnation, account)
        if not others:
            accounts.cap(account, "", 7)
            others.append(threading.Thread(target=membership.publish, args=(account,)))
            others[0].start()
            others[0].join(0.2)
        return written

    accounts.publication = publication  # type: ignore[method-assign]
    membership.publish("acme/default")
    others[0].join()
    assert one.cap() == 7
