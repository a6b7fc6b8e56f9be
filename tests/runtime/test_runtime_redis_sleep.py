"""A machine that sleeps while its server's clock goes on: a real server, at instants and with clocks set by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.looking import DEADLINE, names, node, until, waiting
from tests.runtime.doubles import settings_in
from tests.runtime.nets import beat_by_hand, pulse_of
from tests.runtime.program_run import PROVIDERS
from tests.stores.redis_server import Server, open_redis

from cross_instance import Runtime, events as kinds
from cross_instance.membership.clocks import ClockWatch
from cross_instance.rules.operations import SECOND, Instant
from cross_instance.stores.redis import shared
from cross_instance.testing import FakeClock

NIGHT = 8 * 3_600
TIMEOUT_MS = 60_000


class Machine:
    """Runtimes on one machine, whose heartbeats come by hand."""

    def __init__(self, server: Server, clock: FakeClock, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        self._slept = 0.0
        self._up = threading.Event()
        self._up.set()
        self._server, self._clock, self._stack = server, clock, stack
        settings: dict[str, Any] = {"heartbeat_interval_ms": TIMEOUT_MS // 4, "heartbeat_timeout_ms": TIMEOUT_MS}
        self._settings = settings_in(folder, providers=PROVIDERS, **settings)

    def join(self, name: str) -> Runtime:
        store = open_redis(self._server.url(), self._now)
        self._stack.callback(store.close)
        runtime = self._stack.enter_context(Runtime(name, store=store, settings=self._settings))
        pulse = beat_by_hand(runtime)
        pulse._clocks = ClockWatch(lambda: self._steady(), lambda: self._steady(), lambda: self._steady() - self._slept)
        return runtime

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """A night passes; nothing of the machine runs until the end of it, its threads neither."""
        self._up.clear()
        self._clock.advance(NIGHT * SECOND)
        self._slept += NIGHT
        try:
            yield
        finally:
            self._up.set()

    def _now(self) -> Instant:
        self._up.wait()
        return self._clock()

    def _steady(self) -> float:
        return self._clock.mono / SECOND


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def beat(*runtimes: Runtime) -> None:
    for runtime in runtimes:
        pulse_of(runtime).beat()


def told(runtime: Runtime) -> list[str]:
    return [event.kind for event in runtime.status().events]


@contextmanager
def in_line(runtime: Runtime) -> Iterator[list[int]]:
    """Somebody waits for a permit in a thread; gives the incarnations under which it was granted."""
    granted: list[int] = []

    def wait() -> None:
        with suppress(RuntimeError), runtime.permit("acme", "m-1") as permit:  # closed, where the test has failed
            granted.append(permit.incarnation)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(lambda: waiting(runtime) == 1)
    yield granted
    thread.join(DEADLINE)


def test_machines_that_sleep_together_lose_nothing(server: Server, stack: ExitStack, tmp_path: Path) -> None:
    """A laptop with its own server, or the only machine at one: nobody was awake, so nobody has missed a beat."""
    clock = FakeClock()
    laptop = Machine(server, clock, tmp_path / "laptop", stack)
    one, two = laptop.join("one"), laptop.join("two")
    before = one.incarnation, two.incarnation
    permit = one.permit("acme", "m-1").acquire()
    with in_line(two) as granted:
        with laptop.asleep():
            pass
        beat(one, two, one)
        assert names(one) == ["one", "two"]
        assert (node(one).held, node(one).ghosts, node(one).waiting) == (1, 0, 1)
        permit.close()
    assert (one.incarnation, two.incarnation) == before
    assert granted == [two.incarnation]
    assert [kind for kind in told(one) if kind.startswith(("machine", "instance"))] == [kinds.MACHINE_SLEPT]


def test_who_stays_silent_is_removed_a_timeout_after_waking(server: Server, stack: ExitStack, tmp_path: Path) -> None:
    clock = FakeClock()
    laptop = Machine(server, clock, tmp_path / "laptop", stack)
    one, _ = laptop.join("one"), laptop.join("gone")
    with laptop.asleep():
        pass
    for _ in range(4):
        beat(one)
        assert names(one) == ["one", "gone"]
        clock.advance(15 * SECOND)
    beat(one)
    assert names(one) == ["one"]


def test_while_one_machine_sleeps_the_others_go_on_and_it_comes_back_under_its_id(
    server: Server, stack: ExitStack, tmp_path: Path
) -> None:
    clock = FakeClock()
    desk, laptop = (Machine(server, clock, tmp_path / name, stack) for name in ("desk", "laptop"))
    awake, holder, waiter = desk.join("awake"), laptop.join("holder"), laptop.join("waiter")
    before = holder.incarnation, waiter.incarnation
    permit = holder.permit("acme", "m-1").acquire()
    with in_line(waiter) as granted:
        with laptop.asleep():
            beat(awake)
            assert names(awake) == ["awake"]
            assert (node(awake).held, node(awake).ghosts, node(awake).waiting) == (1, 1, 0), "its call may still run"
            clock.advance(30 * SECOND)
        with awake.permit("acme", "m-1", timeout=0):
            beat(holder, waiter)
            permit.close()
            assert node(awake).held == 1, "what was fenced gives nothing back"
    assert sorted(names(awake)) == ["awake", "holder", "waiter"]
    assert granted == [waiter.incarnation]
    assert all(new > old for new, old in zip((holder.incarnation, waiter.incarnation), before, strict=True))
    for runtime in (holder, waiter):
        assert {kinds.MACHINE_SLEPT, kinds.INSTANCE_REJOINED} <= {*told(runtime)}


def test_the_stores_instant_goes_on_while_the_machine_sleeps(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken without a network, an instance knows that its share has run out."""
    with Runtime("one", settings=settings_in(tmp_path, store=server.url(), providers=PROVIDERS)) as runtime:
        store = runtime._membership.store
        before, boot = store.now(), time.clock_gettime_ns
        monkeypatch.setattr(
            time,
            "clock_gettime_ns",
            lambda clock: boot(clock) + NIGHT * 1_000_000_000 * (clock == shared._CLOCK),
        )
        assert store.now() - before >= NIGHT * SECOND
