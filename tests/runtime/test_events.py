"""Events: told in order, elsewhere, and without harm to what they tell of."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from tests.runtime.doubles import Timeline, one_at_a_time, settings_in

from cross_instance import AsyncRuntime, Runtime, events as kinds
from cross_instance.events import KEPT, MOST_PENDING, Event, Events
from cross_instance.rules.operations import SECOND, Join

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0
"""Seconds: longer than anything takes that is not broken."""


def test_a_subscriber_is_called_in_order_in_a_thread_of_its_own() -> None:
    events, heard = Events("one"), SimpleQueue[tuple[Event, str]]()
    with events.subscribe(lambda event: heard.put((event, threading.current_thread().name))) as subscription:
        for place in range(3):
            events.tell("something", f"number {place}", figure=place)
    events.tell("something", "nobody hears")
    subscription.close()
    got = [heard.get(timeout=PATIENCE) for _ in range(3)]
    assert [event.message for event, _ in got] == ["number 0", "number 1", "number 2"]
    assert {thread for _, thread in got} == {"cross-instance-events"}
    event = got[2][0]
    assert (event.kind, event.instance_id, event.fields["figure"]) == ("something", "one", 2)
    assert event.to_dict()["fields"] == {"figure": 2}
    assert heard.empty()


def test_a_subscriber_that_fails_is_logged_and_gets_the_next(caplog: pytest.LogCaptureFixture) -> None:
    events, heard = Events("one"), SimpleQueue[str]()

    def fail_once(event: Event) -> None:
        if event.kind == "first":
            raise ZeroDivisionError
        heard.put(event.kind)

    with events.subscribe(fail_once):
        events.tell("first", "")
        events.tell("second", "")
        assert heard.get(timeout=PATIENCE) == "second"
    assert "a subscriber failed on the event first" in caplog.text


def test_who_does_not_keep_up_loses_the_newest_and_delays_nobody() -> None:
    events, begun, go_on = Events("one"), threading.Event(), threading.Event()
    heard = SimpleQueue[str]()

    def slow(event: Event) -> None:
        begun.set()
        go_on.wait(PATIENCE)
        heard.put(event.message)

    with events.subscribe(slow) as subscription:
        events.tell("x", "first")
        assert begun.wait(PATIENCE)
        for place in range(MOST_PENDING + 7):
            events.tell("x", str(place), level=None)
        assert subscription.dropped == 7
        go_on.set()
        assert heard.get(timeout=PATIENCE) == "first"
    assert len(events.recent) == KEPT


def test_each_event_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    events = Events("one")
    events.tell("quiet", "was logged before", level=None)
    events.tell("loud", "the house burns", logging.ERROR)
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.ERROR, "loud: the house burns")]


def test_an_event_loop_gets_them_too_and_awaits_coroutines() -> None:
    heard: list[str] = []

    async def hear(event: Event) -> None:
        await asyncio.sleep(0)
        heard.append(event.kind)
        if event.kind == "bad":
            raise ZeroDivisionError

    async def scenario() -> None:
        events, gone = Events("one"), asyncio.Event()
        subscription = events.subscribe_here(hear)
        events.subscribe_here(lambda event: gone.set() if event.kind == "last" else None)
        await asyncio.to_thread(events.tell, "bad", "")
        events.tell("good", "")
        subscription.close()
        subscription.close()
        events.tell("last", "")
        await gone.wait()

    asyncio.run(scenario())
    assert heard == ["bad", "good"]


def test_a_loop_that_is_closed_is_told_no_more() -> None:
    events = Events("one")

    async def subscribe() -> None:
        events.subscribe_here(lambda event: None)

    asyncio.run(subscribe())
    events.tell("something", "")
    events.tell("something", "")
    assert not events._subscriptions


def test_a_forked_child_has_no_subscribers(tmp_path: Path) -> None:
    runtime = Runtime("one", store=Timeline(), settings=one_at_a_time(tmp_path))
    runtime.subscribe(lambda event: None)
    child = os.fork()
    if not child:
        events = runtime._membership.events
        os._exit(0 if not events._subscriptions and events.instance_id == f"one.{os.getpid()}" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    runtime.close()


# --- what is told --------------------------------------------------------------------------------------------------


def test_guessed_limits_are_told_once_for_each_account(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timeline = Timeline()
    with Runtime("one", store=timeline, settings=settings_in(tmp_path)) as runtime:
        for provider in ("openai", "acme", "acme"):
            with runtime.permit(provider, "m-1"):
                pass
            timeline.clock.advance(10 * SECOND)
        guessed = [event for event in runtime.status().events if event.kind == kinds.LIMITS_GUESSED]
        assert [event.fields["account"] for event in guessed] == ["acme/default"]
        assert runtime.status().guessed == ("acme/default",)
    assert caplog.text.count("limits of acme/default: they are guessed") == 1


def test_settings_that_have_no_effect_are_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, coordinator_port=9_000)
    names = [entry.key for entry in settings.reserved()]
    with Runtime("one", store=Timeline(), settings=settings) as runtime:
        told = [event for event in runtime.status().events if event.kind == kinds.SETTINGS_IGNORED]
        assert runtime.status().ignored == tuple(names)
    assert [event.kind for event in told] == [kinds.SETTINGS_IGNORED] * bool(names)


def test_who_is_gone_is_told_to_the_subscribers_of_the_others(tmp_path: Path) -> None:
    timeline, heard = Timeline(), SimpleQueue[Event]()
    timeline.run(Join(instance_id="quiet", nonce="x", pid=77, machine="elsewhere", host="elsewhere"))
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        runtime.subscribe(heard.put)
        timeline.clock.advance(61 * SECOND)
        runtime._membership._pulse.beat()  # type: ignore[union-attr]  # it has joined
        told = heard.get(timeout=PATIENCE)
        while told.kind != kinds.INSTANCE_REMOVED:
            told = heard.get(timeout=PATIENCE)
    assert told.fields["removed"] == "quiet"


def test_a_runtime_that_closes_ends_its_subscriptions(tmp_path: Path) -> None:
    runtime = Runtime("one", store=Timeline(), settings=one_at_a_time(tmp_path))
    runtime.subscribe(lambda event: None)
    runtime.close()
    assert not runtime._membership.events._subscriptions

    async def scenario() -> None:
        async with AsyncRuntime("two", settings=one_at_a_time(tmp_path, enabled=False)) as other:
            other.subscribe(lambda event: None)
        assert not other._membership.events._subscriptions

    asyncio.run(scenario())


def test_a_callback_that_was_cancelled_inside_gets_the_next_event(caplog: pytest.LogCaptureFixture) -> None:
    async def listen() -> list[str]:
        events, heard, done = Events("one"), [], asyncio.Event()

        async def hear(event: Event) -> None:
            heard.append(event.kind)
            if event.kind == "a":
                raise asyncio.CancelledError
            done.set()

        with events.subscribe_here(hear):
            events.tell("a", "", None)
            events.tell("b", "", None)
            async with asyncio.timeout(10):
                await done.wait()
        return heard

    assert asyncio.run(listen()) == ["a", "b"]
    assert "a subscriber failed on the event a" in caplog.text


def test_a_callback_in_a_thread_that_was_cancelled_inside_gets_the_next_event() -> None:
    events, heard = Events("one"), SimpleQueue[str]()

    def hear(event: Event) -> None:
        heard.put(event.kind)
        if event.kind == "a":
            raise asyncio.CancelledError

    with events.subscribe(hear):
        events.tell("a", "", None)
        events.tell("b", "", None)
        assert [heard.get(timeout=10), heard.get(timeout=10)] == ["a", "b"]
