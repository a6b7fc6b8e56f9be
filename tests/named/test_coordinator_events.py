"""`subscribe_coordinator_events`: who comes and goes, what nears its limit; sync, async, for a module's process."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest
from tests.runtime.doubles import AsyncTimeline, Timeline, settings_in

from cross_instance import AsyncRuntime, Runtime, coordinator, subscribe_coordinator_events
from cross_instance.config import Settings

pytestmark = pytest.mark.usefixtures("looks_often")
PATIENCE = 20.0


def ten_a_minute(folder: Path) -> Settings:
    limits = {"requestsPerMinute": 10, "burst": 10}
    return settings_in(folder, providers={"acme": limits}, logging=False)


def look(runtime: Runtime) -> None:
    """Look now, as its thread does each second; that is told to go on, for what was there for it is taken."""
    activity = runtime._membership.activity
    activity._safely()
    activity._stir()


def use(runtime: Runtime, times: int) -> None:
    for _ in range(times):
        with runtime.permit("acme", "m-1"):
            pass


def test_another_instance_that_comes_and_goes_is_told_of(tmp_path: Path) -> None:
    timeline, heard = Timeline(), SimpleQueue[str]()
    settings = settings_in(tmp_path, logging=False)
    with Runtime("one", store=timeline, settings=settings) as runtime:
        runtime.subscribe_coordinator_events(
            on_instance_connected=lambda name: heard.put(f"+{name}"),
            on_instance_disconnected=lambda name: heard.put(f"-{name}"),
        )
        look(runtime)
        with Runtime("two", store=timeline, settings=settings):
            assert heard.get(timeout=PATIENCE) == "+two"
        assert heard.get(timeout=PATIENCE) == "-two"


def test_use_that_crosses_four_fifths_is_told_once(tmp_path: Path) -> None:
    heard = SimpleQueue[tuple[str, float]]()
    with Runtime("one", store=Timeline(), settings=ten_a_minute(tmp_path)) as runtime:
        with runtime.subscribe_coordinator_events(
            on_rate_limit_warning=lambda provider, usage: heard.put((provider, usage))
        ):
            use(runtime, 7)
            look(runtime)
            assert heard.empty()
            use(runtime, 1)
            assert heard.get(timeout=PATIENCE) == ("acme", 0.8)
            use(runtime, 1)
            look(runtime)
            look(runtime)
        assert heard.empty()


def test_coroutine_functions_run_in_the_thread_of_a_runtime(tmp_path: Path) -> None:
    heard = SimpleQueue[tuple[str, str]]()

    async def hear(provider: str, usage: float) -> None:
        await asyncio.sleep(0)
        heard.put((provider, threading.current_thread().name))

    with Runtime("one", store=Timeline(), settings=ten_a_minute(tmp_path)) as runtime:
        runtime.subscribe_coordinator_events(on_rate_limit_warning=hear)
        use(runtime, 9)
        assert heard.get(timeout=PATIENCE) == ("acme", "cross-instance-events")


def test_an_async_runtime_awaits_them_in_its_loop(tmp_path: Path) -> None:
    async def scenario() -> tuple[str, float]:
        timeline, heard = Timeline(), asyncio.Queue[tuple[str, float]]()

        async def hear(provider: str, usage: float) -> None:
            await heard.put((provider, usage))

        store = AsyncTimeline(timeline)
        async with AsyncRuntime("one", store=timeline, async_store=store, settings=ten_a_minute(tmp_path)) as runtime:
            subscription = await runtime.subscribe_coordinator_events(on_rate_limit_warning=hear)
            for _ in range(8):
                async with runtime.permit("acme", "m-1"):
                    pass
            told = await asyncio.wait_for(heard.get(), PATIENCE)
            subscription.close()
            subscription.close()
            assert (subscription.dropped, runtime._membership.activity._watchers) == (0, 0)
            return told

    assert asyncio.run(scenario()) == ("acme", 0.8)


def test_it_may_begin_before_joining_and_ends_with_its_runtime(tmp_path: Path) -> None:
    heard = SimpleQueue[str]()
    runtime = Runtime("one", store=Timeline(), settings=ten_a_minute(tmp_path))
    runtime.subscribe_coordinator_events(on_rate_limit_warning=lambda provider, usage: heard.put(provider))
    use(runtime, 8)
    assert heard.get(timeout=PATIENCE) == "acme"
    activity = runtime._membership.activity
    runtime.close()
    assert (activity._watchers, activity._thread, runtime._membership.events._subscriptions) == (0, None, ())


def test_the_function_is_the_registered_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_RUNTIME_DIR", str(tmp_path / "runtime"))
    heard = SimpleQueue[str]()
    with pytest.raises(RuntimeError, match="register_instance"):
        subscribe_coordinator_events(on_instance_connected=heard.put)
    coordinator.register_instance("session", tmp_path)
    try:
        subscribe_coordinator_events(on_instance_connected=heard.put)
        runtime = coordinator.this_process.runtime
        assert runtime is not None
        look(runtime)
        with Runtime("two", settings=settings_in(tmp_path)):
            assert heard.get(timeout=PATIENCE) == "two"
    finally:
        coordinator.unregister_instance()
