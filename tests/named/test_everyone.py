"""What everyone tells: heard by whoever asks for it, sync and async, on a real store; long waits, locks, steals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.runtime.doubles import Timeline, one_at_a_time, settings_in

from cross_instance import AsyncRuntime, Event, RateLimitExceeded, Runtime, events as kinds
from cross_instance.coordinator import Coordinator, StealableQueueEntry
from cross_instance.events import Events
from cross_instance.membership.accounts import account_key
from cross_instance.rules.operations import SECOND, Instant, Kind, LimitState, Source, Waiting, World
from cross_instance.waiting import LONG_WAIT, LongWaits
from cross_instance.watching.shared_sights import EVERY, SharedSights

pytestmark = pytest.mark.usefixtures("looks_that_last")
PATIENCE = 30.0
PROVIDERS = {"acme": {"requestsPerMinute": 600, "burst": 10}}


def heard_of(heard: SimpleQueue[Event], *, kind: str, instance_id: str) -> Event:
    """The next event of a kind and an instance."""
    while True:
        event = heard.get(timeout=PATIENCE)
        if (event.kind, event.instance_id) == (kind, instance_id):
            return event


def until(heard: SimpleQueue[Event], *told: tuple[str, str]) -> None:
    """Hear until each of these was told: a kind, and one of its fields."""
    awaited = set(told)
    while awaited:
        event = heard.get(timeout=PATIENCE)
        awaited -= {(event.kind, str(value)) for value in event.fields.values()}


@pytest.mark.usefixtures("looks_often")
def test_a_runtime_hears_of_the_others_if_it_wants_to(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers=PROVIDERS)
    heard, own = SimpleQueue[Event](), SimpleQueue[Event]()
    with Runtime("one", settings=settings) as one, Runtime("two", settings=settings) as two:
        activity = one._membership.activity
        subscription = one.subscribe(heard.put, everyone=True)
        one.subscribe(own.put)
        with two.permit("acme", "m-1"):
            pass
        granted = heard_of(heard, kind=kinds.REQUESTS_GRANTED, instance_id="two")
        assert (granted.fields["account"], granted.fields["requests"]) == ("acme/default", 1)
        two._membership.events.tell("odd", "two is odd")
        assert heard_of(heard, kind="odd", instance_id="two").message == "two is odd"
        one._membership.events.tell("odd", "one is odd")
        assert heard_of(heard, kind="odd", instance_id="one").seq > 0
        watched = [activity.is_watched]
        subscription.close()
        assert [*watched, activity.is_watched] == [True, False]
        two._membership.events.tell("odd", "nobody hears")
        two._membership.activity._safely()
        one.subscribe(heard.put, everyone=True)
        two._membership.events.tell("odd", "somebody hears")
        assert heard_of(heard, kind="odd", instance_id="two").message == "somebody hears"
    assert [own.get().message for _ in range(own.qsize())] == ["one is odd"]


@pytest.mark.usefixtures("looks_often")
def test_an_async_runtime_hears_of_them_in_its_loop(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers=PROVIDERS)

    async def scenario() -> Event:
        arrived: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        async def hear(event: Event) -> None:
            if event.kind == "odd":
                arrived.set_result(event)

        async with AsyncRuntime("one", settings=settings) as one, AsyncRuntime("two", settings=settings) as two:
            one.subscribe(hear, everyone=True)
            two._membership.events.tell("odd", "told")
            return await asyncio.wait_for(arrived, PATIENCE)

    assert asyncio.run(scenario()).instance_id == "two"


@pytest.mark.usefixtures("looks_often")
def test_who_comes_and_goes_is_heard_of_once_through_whoever_looked(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers=PROVIDERS)
    heard: dict[str, SimpleQueue[str]] = {"one": SimpleQueue(), "two": SimpleQueue()}
    with Runtime("one", settings=settings) as one, Runtime("two", settings=settings) as two:
        for runtime in (one, two):
            put = heard[runtime.instance_id].put
            runtime.subscribe_coordinator_events(
                on_instance_connected=lambda name, put=put: put(f"+{name}"),  # type: ignore[misc]
                on_instance_disconnected=lambda name, put=put: put(f"-{name}"),  # type: ignore[misc]
            )
            with runtime.permit("acme", "m-1"):  # somebody looks: that is where it begins
                runtime._membership.activity._safely()
        with Runtime("three", settings=settings):
            assert [queue.get(timeout=PATIENCE) for queue in heard.values()] == ["+three"] * 2
        assert [queue.get(timeout=PATIENCE) for queue in heard.values()] == ["-three"] * 2


@pytest.mark.usefixtures("looks_often")
def test_who_tells_the_others_nothing_takes_no_news_from_them(tmp_path: Path) -> None:
    settings, silent = (settings_in(tmp_path, providers=PROVIDERS, logging=logs) for logs in (True, False))
    heard: dict[str, SimpleQueue[str]] = {"one": SimpleQueue(), "two": SimpleQueue()}
    with Runtime("one", settings=settings) as one, Runtime("two", settings=silent) as two:
        for runtime in (one, two):
            put = heard[runtime.instance_id].put
            runtime.subscribe_coordinator_events(on_instance_connected=put, on_instance_disconnected=put)
            with runtime.permit("acme", "m-1"):
                runtime._membership.activity._safely()
        with one._membership.activity._ticking, Runtime("three", settings=settings):  # meanwhile the other one looks
            assert heard["two"].get(timeout=PATIENCE) == "three"
        assert heard["two"].get(timeout=PATIENCE) == "three"
        with Runtime("four", settings=settings):
            assert heard["one"].get(timeout=PATIENCE) == "four"
            assert heard["two"].get(timeout=PATIENCE) == "four"


CHILD = """
import sys
from cross_instance import Runtime
with Runtime("child", store=sys.argv[1], project_dir=sys.argv[2], runtime_dir=sys.argv[1], providers={}) as runtime:
    with runtime.permit("acme", "m-1"):
        pass
    print("joined", flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("looks_often")
def test_another_process_is_heard_of_until_it_is_killed(tmp_path: Path) -> None:
    settings, heard = settings_in(tmp_path, providers=PROVIDERS), SimpleQueue[Event]()
    with Runtime("one", settings=settings) as one:
        one.subscribe(heard.put, everyone=True)
        one._membership.activity._safely()  # it looks: that is where it begins
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(settings.runtime_dir), str(tmp_path)],
            env={"HOME": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with child:
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == b"joined\n"
                until(heard, ("instance-connected", "child"), ("requests-granted", "acme/default"))
            finally:
                child.kill()
        until(heard, ("instance-removed", "child"), ("instance-disconnected", "child"))


def test_however_many_have_something_to_tell_one_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, looks = settings_in(tmp_path, providers=PROVIDERS), list[str]()
    look_now = SharedSights._look_now

    def counted(sights: SharedSights) -> tuple[World | None, float]:
        looks.append("looked")
        return look_now(sights)

    with ExitStack() as stack:
        runtimes = [stack.enter_context(Runtime(f"r-{place}", settings=settings)) for place in range(20)]
        for runtime in runtimes:
            with runtime.permit("acme", "m-1"):
                pass
            runtime._membership.activity._safely()
        monkeypatch.setattr(SharedSights, "_look_now", counted)
        begun = time.monotonic()
        for runtime in runtimes:
            with runtime.permit("acme", "m-1"):
                pass
            runtime._membership.activity._safely()
        count, took = len(looks), time.monotonic() - begun  # who leaves looks, too, and leaving takes its time
    assert count <= 2 + took / EVERY


# --- waiting long --------------------------------------------------------------------------------------------------


def waits(model: str = "m-1") -> Any:
    return SimpleNamespace(provider="acme", account="default", model=model)


def test_a_long_wait_is_told_once_in_a_while_for_each_account() -> None:
    told, now = Events("one"), [0.0]
    collected = told.collect(lambda: None)
    long_waits = LongWaits(told, clock=lambda: now[0])
    slots = LimitState("acme/default", Kind.CONCURRENCY, 1, 0, 0, Source.CONFIGURED, 0)
    answer = Waiting(at=Instant(0, 0), not_before=0, check_at=0, limit=slots)
    for seconds in (1.0, LONG_WAIT - 0.1, LONG_WAIT, LONG_WAIT + 1):
        long_waits.note(waits(), answer, round(seconds * SECOND))
    now[0] = LONG_WAIT
    long_waits.note(waits("m-2"), Waiting(at=Instant(0, 0), not_before=0, check_at=0), round(25 * SECOND))
    first, second = collected.take()
    assert (first.kind, first.fields["seconds"], first.fields["limit"]) == (kinds.WAITING_LONG, 10.0, "concurrency")
    assert first.message == "a request for acme m-1 waits for 10 s by now, held back by concurrency"
    assert (second.fields["model"], second.fields["limit"]) == ("m-2", None)
    assert account_key("acme", "default") == first.fields["account"]


def test_a_permit_that_waits_long_tells_of_it(tmp_path: Path) -> None:
    with Runtime("one", store=Timeline(), settings=one_at_a_time(tmp_path)) as runtime:
        collected = runtime._membership.events.collect(lambda: None)
        with (
            runtime.permit("acme", "m-1"),
            pytest.raises(RateLimitExceeded),
            runtime.permit("acme", "m-2", timeout=LONG_WAIT + 5),
        ):
            pass
        told = [event for event in collected.take() if event.kind == kinds.WAITING_LONG]
    assert [(event.fields["model"], event.fields["limit"]) for event in told] == [("m-2", "concurrency")]


# --- locks and steals ----------------------------------------------------------------------------------------------


def test_a_lock_that_is_taken_over_is_told_by_both(tmp_path: Path) -> None:
    timeline = Timeline()
    settings = settings_in(tmp_path, logging=False)
    with (
        Runtime("one", store=timeline, settings=settings) as one,
        Runtime("two", store=timeline, settings=settings) as two,
    ):
        heard = [runtime._membership.events.collect(lambda: None) for runtime in (one, two)]
        lost = one.lock("deploy", ttl=5).acquire()
        timeline.clock.advance(6 * SECOND)
        with two.lock("deploy", ttl=5):
            assert not lost.release()
    mine, theirs = ([(event.kind, event.message) for event in collected.take()] for collected in heard)
    assert [kind for kind, _ in mine] == [kinds.LOCK_LOST]
    assert [kind for kind, _ in theirs] == [kinds.LOCK_TAKEN_OVER]
    assert "deploy" in mine[0][1]
    assert "deploy" in theirs[0][1]


def test_work_that_is_taken_over_is_told_by_the_thief(tmp_path: Path) -> None:
    timeline, settings = Timeline(), settings_in(tmp_path, logging=False)
    victim, thief = (Coordinator(name, store=timeline, settings=settings) for name in ("victim", "thief"))
    try:
        for one in (victim, thief):
            one.register_instance("session", tmp_path)
        victim.broadcast_queue_state(
            1, 0, [StealableQueueEntry("x", "tool", "normal", "victim", "2026-01-01T00:00:00Z")]
        )
        assert thief.runtime is not None
        collected = thief.runtime._membership.events.collect(lambda: None)
        assert thief.steal_work() is not None
        assert thief.steal_work() is None
        told = [(event.kind, event.fields["victim"], event.fields["entries"]) for event in collected.take()]
    finally:
        victim.unregister_instance()
        thief.unregister_instance()
    assert told == [(kinds.WORK_STOLEN, "victim", 1)]


def test_tasks_that_are_taken_over_are_told_of_too(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, logging=False)
    with Runtime("victim", settings=settings) as victim, Runtime("thief", settings=settings) as thief:
        for runtime in (victim, thief):
            runtime.task("double")(lambda figure: 2 * cast("int", figure))
        victim.submit_many("double", [(place,) for place in range(20)])
        collected = thief._membership.events.collect(lambda: None)
        thief.work(concurrency=4, until_idle=True)
        told = [event for event in collected.take() if event.kind == kinds.WORK_STOLEN]
    assert sum(event.fields["entries"] for event in told) > 0
    assert {event.fields["victim"] for event in told} == {"victim"}


def test_a_child_forked_while_the_feed_is_read_can_end_what_it_has_of_its_parent(tmp_path: Path) -> None:
    with Runtime("one", store=str(tmp_path / "store"), settings=settings_in(tmp_path)) as runtime:
        runtime.subscribe(lambda event: None, everyone=True)
        activity = runtime._membership.activity
        with activity._reading, activity._lock:
            child = os.fork()
            if not child:
                signal.alarm(10)
                runtime.close()
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_fails_in_passing_on_an_event_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings, heard = settings_in(tmp_path, providers=PROVIDERS), SimpleQueue[Event]()

    def fail(event: Event) -> None:
        heard.put(event)
        raise RuntimeError("odd")

    with Runtime("one", settings=settings) as one, Runtime("two", settings=settings) as two:
        one.subscribe(heard.put, everyone=True)
        with monkeypatch.context() as patch:
            patch.setattr(one._membership.events, "relay", fail)
            two._membership.events.tell("first", "")
            heard_of(heard, kind="first", instance_id="two")
        two._membership.events.tell("second", "")
        heard_of(heard, kind="second", instance_id="two")
    assert "unexpected error" in caplog.text


def test_a_subscription_that_was_ended_is_not_kept(tmp_path: Path) -> None:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path)) as runtime:
        for _ in range(10):
            runtime.subscribe(lambda event: None).close()
            runtime.subscribe(lambda event: None, everyone=True).close()
            runtime.subscribe_coordinator_events().close()
        runtime.subscribe(lambda event: None)
        assert len(runtime._subscriptions) == 1
