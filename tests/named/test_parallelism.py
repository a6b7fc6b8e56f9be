"""Dynamic parallelism: the reference's figures, who is told, the timer, and the registry that it follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.runtime.doubles import settings_in

from cross_instance import coordinator, dynamic_parallelism
from cross_instance.coordinator import Coordinator
from cross_instance.dynamic_parallelism import (
    DynamicAdjusterConfig,
    DynamicParallelismAdjuster,
    ParallelismChange,
    adjuster as adjusting,
    machine,
)
from cross_instance.dynamic_parallelism.models import ErrorEvent
from cross_instance.dynamic_parallelism.registry import Registry

NAME = ("Anthropic", "Claude-Sonnet-4")
KEY = "anthropic:claude-sonnet-4"
CONFIG = DynamicAdjusterConfig()
PATIENCE = 20.0


class Hands:
    """A clock that is set by hand, in milliseconds."""

    def __init__(self) -> None:
        self.ms = 1_000_000.0

    def __call__(self) -> float:
        return self.ms


@pytest.fixture
def hands() -> Hands:
    return Hands()


def made(hands: Hands, **fields: Any) -> DynamicParallelismAdjuster:
    return DynamicParallelismAdjuster(clock=hands, timer=False, **fields)


# --- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "error", "left"),
    [
        (4, "429", 2),
        (10, "429", 7),
        (16, "429", 11),
        (10, "timeout", 9),
        (16, "error", 15),
        (4, "error", 3),
        (1, "429", 1),
    ],
)
def test_an_error_cuts_a_fraction_rounded_down(hands: Hands, base: int, error: Any, left: int) -> None:
    adjuster = made(hands, base_parallelism=base)
    adjuster.adjust_for_error(*NAME, error)
    assert adjuster.get_parallelism(*NAME) == left
    config = adjuster.get_config(*NAME)
    assert (config.adjustment_reason, config.last_adjusted_at) == (f"{error} error", hands.ms)


def test_the_defaults_are_the_reference_s(hands: Hands) -> None:
    config = made(hands).get_config(*NAME).to_dict()
    assert (config["minParallelism"], config["baseParallelism"], config["maxParallelism"]) == (1, 4, 16)
    assert made(hands, base_parallelism=99).get_parallelism(*NAME) == 16
    assert (CONFIG.reduction_on_429, CONFIG.reduction_on_timeout, CONFIG.increase_on_recovery) == (0.3, 0.1, 0.1)
    assert (CONFIG.recovery_interval_ms, CONFIG.error_window_ms) == (60_000, 300_000)
    assert (CONFIG.max_error_history, CONFIG.max_response_samples) == (100, 50)
    assert set(CONFIG.to_dict()) >= {"reductionOn429", "maxErrorHistory"}


def test_recovery_waits_for_quiet_and_goes_step_by_step(hands: Hands) -> None:
    adjuster = made(hands, base_parallelism=10)
    adjuster.adjust_for_error(*NAME, "429")
    adjuster.adjust_for_error(*NAME, "429")
    assert adjuster.get_parallelism(*NAME) == 4
    hands.ms += 299_999
    adjuster.attempt_recovery(*NAME)
    assert adjuster.get_parallelism(*NAME) == 4
    hands.ms += 1
    seen = []
    for _ in range(8):
        adjuster.attempt_recovery(*NAME)
        adjuster.attempt_recovery(*NAME)
        seen.append(adjuster.get_parallelism(*NAME))
        hands.ms += 60_000
    assert seen == [5, 6, 7, 8, 9, 10, 10, 10]
    assert adjuster.get_config(*NAME).adjustment_reason == "recovery"


def test_health_tells_of_recent_errors_and_how_long_to_wait(hands: Hands) -> None:
    adjuster = made(hands)
    adjuster.request_started(*NAME)
    adjuster.request_started(*NAME)
    adjuster.record_success(*NAME, 100)
    adjuster.record_success(*NAME, 300)
    adjuster.request_completed(*NAME)
    assert adjuster.get_health(*NAME).to_dict() == {
        "healthy": True,
        "activeRequests": 1,
        "recent429Count": 0,
        "avgResponseMs": 200.0,
        "recommendedBackoffMs": 0.0,
    }
    waits = []
    for _ in range(7):
        adjuster.adjust_for_error(*NAME, "429")
        waits.append(adjuster.get_health(*NAME).recommended_backoff_ms)
    assert waits == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    hands.ms += 45_000
    assert adjuster.get_health(*NAME).recommended_backoff_ms == 15_000
    hands.ms += 300_000
    health = adjuster.get_health(*NAME)
    assert (health.healthy, health.recent429_count, health.recommended_backoff_ms) == (False, 0, 0)


def test_healthy_is_from_four_fifths_of_the_base_on(hands: Hands) -> None:
    adjuster = made(hands, base_parallelism=10, reduction_on_429=0.2, reduction_on_timeout=0.3)
    adjuster.adjust_for_error(*NAME, "429")
    adjuster.adjust_for_error("acme", "m", "timeout")
    assert not adjuster.get_health(*NAME).healthy
    hands.ms += 300_000
    assert adjuster.get_health(*NAME).healthy
    assert not adjuster.get_health("acme", "m").healthy


def test_slow_is_told_apart_from_overloaded(hands: Hands) -> None:
    adjuster = made(hands)
    assert adjuster.get_response_times(*NAME).to_dict() == {
        "samples": 0,
        "p50Ms": 0,
        "p95Ms": 0,
        "status": "normal",
        "streamed": 0,
        "firstTokenP50Ms": 0,
        "firstTokenP95Ms": 0,
    }
    for ms in range(1, 51):
        adjuster.record_success(*NAME, 1_000 + ms % 10)
    assert adjuster.get_response_times(*NAME).status == "normal"
    for _ in range(25):
        adjuster.record_success(*NAME, 1_990)
    assert adjuster.get_response_times(*NAME).status == "normal", "it is not twice as long"
    for ms in range(50):
        adjuster.record_success(*NAME, 1_000 if ms < 25 else 2_500)
    times = adjuster.get_response_times(*NAME)
    assert (times.samples, times.status, times.p95_ms) == (50, "slow", 2_500)
    adjuster.adjust_for_error("acme", "m", "timeout")
    assert adjuster.get_response_times("acme", "m").status == "slow"
    adjuster.adjust_for_error(*NAME, "429")
    assert adjuster.get_response_times(*NAME).status == "overloaded"


def test_percentiles_are_those_of_the_samples(hands: Hands) -> None:
    adjuster = made(hands, max_response_samples=101)
    for ms in range(101):
        adjuster.record_success(*NAME, ms)
    times = adjuster.get_response_times(*NAME)
    assert (times.p50_ms, times.p95_ms) == (50, 95)


def test_what_makes_no_sense_is_refused_and_changes_nothing(hands: Hands) -> None:
    adjuster = made(hands)
    for call in (
        lambda: adjuster.adjust_for_error(*NAME, "500"),  # type: ignore[arg-type]
        lambda: adjuster.record_success(*NAME, float("nan")),
        lambda: adjuster.apply_cross_instance_limits(*NAME, 0),
        lambda: DynamicAdjusterConfig(min_parallelism=0),
        lambda: DynamicAdjusterConfig(min_parallelism=5),
        lambda: DynamicAdjusterConfig(reduction_on_429=1.5),
        lambda: DynamicAdjusterConfig(max_error_history=0),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        made(hands, most=3)
    assert adjuster.get_all_states() == {}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["429", "timeout", "error", "recover", "share"]), st.integers(0, 400_000), st.integers(1, 9)
    ),
    max_size=60,
)


@given(EVENTS, st.integers(1, 4), st.integers(0, 20), st.integers(0, 20))
def test_law_it_stays_within_its_bounds(events: Any, least: int, more: int, most: int) -> None:
    config = DynamicAdjusterConfig(least, least + more, least + most)
    now, state = 0.0, machine.new_state(config, 0.0)
    recoveries: list[float] = []
    for event, later, count in events:
        now += later
        before = state
        if event == "recover":
            state = machine.recovered(state, config, now)
        elif event == "share":
            state = machine.shared(state, count)
        else:
            state = machine.failed(state, config, event, now)
            assert state.current <= before.current
        if state.current > before.current:
            assert not any(now - at < config.error_window_ms for at, _ in state.errors)
            assert not recoveries or now - recoveries[-1] >= config.recovery_interval_ms
            recoveries.append(now)
        assert least <= state.current <= state.base <= least + most
        assert state.parallelism >= 1
        assert len(state.errors) <= config.max_error_history


# --- who is told, and starting over --------------------------------------------------------------------------------


def test_changes_are_told_to_all_until_they_unsubscribe(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    adjuster, heard = made(hands), list[ParallelismChange]()

    def fail(change: ParallelismChange) -> None:
        raise ZeroDivisionError

    adjuster.on_parallelism_change(fail)
    unsubscribe = adjuster.on_parallelism_change(heard.append)
    adjuster.adjust_for_error(*NAME, "429")
    adjuster.apply_cross_instance_limits(*NAME, 2)
    adjuster.apply_cross_instance_limits(*NAME, 2)
    adjuster.reset(*NAME)
    unsubscribe()
    unsubscribe()
    adjuster.adjust_for_error(*NAME, "429")
    assert [(one.old_parallelism, one.new_parallelism, one.reason) for one in heard] == [
        (4, 2, "429 error"),
        (2, 1, "shared by 2 instances"),
        (1, 2, "reset"),
    ]
    assert {one.key for one in heard} == {KEY}
    assert "a subscriber failed on the parallelism of anthropic:claude-sonnet-4" in caplog.text


def test_a_callback_may_ask_the_adjuster(hands: Hands) -> None:
    adjuster, heard = made(hands), list[int]()
    adjuster.on_parallelism_change(lambda change: heard.append(adjuster.get_parallelism(*NAME)))
    adjuster.adjust_for_error(*NAME, "429")
    assert heard == [2]


def test_reset_forgets_errors_and_keeps_what_is_under_way(hands: Hands) -> None:
    adjuster = made(hands)
    for name in (NAME, ("acme", "m")):
        adjuster.request_started(*name)
        adjuster.adjust_for_error(*name, "429")
    adjuster.reset(*NAME)
    assert set(adjuster.get_all_states()) == {KEY, "acme:m"}
    assert adjuster.get_health(*NAME).to_dict()["activeRequests"] == 1
    assert (adjuster.get_parallelism(*NAME), adjuster.get_parallelism("acme", "m")) == (4, 2)
    adjuster.reset_all()
    assert all(state.health.healthy for state in adjuster.get_all_states().values())


def test_names_of_models_without_end_are_forgotten(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjusting, "MOST_MODELS", 3)
    adjuster = made(hands)
    adjuster.request_started("busy", "m")
    for place in range(5):
        adjuster.get_parallelism("acme", f"m-{place}")
    assert set(adjuster.get_all_states()) == {"busy:m", "acme:m-3", "acme:m-4"}


def test_many_threads_lose_no_count(hands: Hands) -> None:
    adjuster = made(hands, max_error_history=10_000)

    def use(_: int) -> None:
        for _ in range(200):
            adjuster.request_started(*NAME)
            adjuster.adjust_for_error(*NAME, "429")
            adjuster.get_parallelism(*NAME)
        for _ in range(199):
            adjuster.request_completed(*NAME)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    health = adjuster.get_health(*NAME)
    assert (health.active_requests, health.recent429_count) == (4, 800)


# --- the timer -----------------------------------------------------------------------------------------------------


def test_the_timer_recovers_by_itself_until_shutdown() -> None:
    adjuster, back = DynamicParallelismAdjuster(recovery_interval_ms=1, error_window_ms=1), threading.Event()
    adjuster.on_parallelism_change(lambda change: back.set() if change.new_parallelism == 4 else None)
    adjuster.adjust_for_error(*NAME, "429")
    assert back.wait(PATIENCE)
    timer = adjuster._timer
    assert timer is not None
    adjuster.shutdown()
    adjuster.shutdown()
    assert not timer.is_alive()
    adjuster.adjust_for_error(*NAME, "429")
    assert (adjuster._timer, adjuster.get_parallelism(*NAME)) == (None, 2)


def test_what_the_timer_does_by_the_clock_it_is_given(hands: Hands) -> None:
    adjuster = made(hands)
    adjuster.adjust_for_error(*NAME, "timeout")
    adjuster.process_automatic_recovery()
    assert adjuster.get_parallelism(*NAME) == 3
    hands.ms += 300_000
    adjuster.process_automatic_recovery()
    assert adjuster.get_parallelism(*NAME) == 4


# --- the process's own, and the registry ---------------------------------------------------------------------------


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    """This process is registered; what is given is another instance of the same store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_RUNTIME_DIR", str(tmp_path / "runtime"))
    other = Coordinator("other", settings=settings_in(tmp_path))
    coordinator.register_instance("session", tmp_path)
    other.register_instance("session", tmp_path)
    yield other
    other.unregister_instance()
    coordinator.unregister_instance()
    dynamic_parallelism.reset_parallelism_adjuster()


def test_it_follows_the_registry_by_itself(registered: Coordinator, hands: Hands) -> None:
    adjuster, heard = dynamic_parallelism.create_parallelism_adjuster(clock=hands, timer=False), list[str]()
    adjuster.on_parallelism_change(lambda change: heard.append(change.reason))
    coordinator.set_active_model(*NAME)
    assert adjuster.get_parallelism(*NAME) == 4
    registered.set_active_model(*NAME)
    assert adjuster.get_parallelism(*NAME) == 4
    hands.ms += 1_000
    assert adjuster.get_parallelism(*NAME) == 2
    adjuster.apply_cross_instance_limits(*NAME, 4)
    hands.ms += 1_000
    assert adjuster.get_parallelism(*NAME) == 1
    registered.clear_active_model(*NAME)
    hands.ms += 1_000
    adjuster.process_automatic_recovery()
    assert heard == ["shared by 2 instances", "shared by 4 instances", "shared by 1 instances"]
    assert adjuster.get_all_states()[KEY].instances == 1


def test_looks_at_the_registry_get_a_hundredth_of_the_time(
    registered: Coordinator, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, view = Registry(hands), coordinator.this_process._view

    def slow() -> object:
        hands.ms += 20
        return view()

    monkeypatch.setattr(coordinator.this_process, "_view", slow)
    assert registry.count([KEY]) == {KEY: 1}
    registered.set_active_model(*NAME)
    hands.ms += 2 * 100 * 20 - 1
    assert registry.count([KEY]) == {}, "each of the two instances waits a hundred times as long as a look takes"
    hands.ms += 1
    assert registry.count([KEY]) == {KEY: 1}


def test_a_store_out_of_reach_leaves_the_count_as_it_was(registered: Coordinator, hands: Hands) -> None:
    adjuster = dynamic_parallelism.create_parallelism_adjuster(clock=hands, timer=False)
    for one in (coordinator, registered):
        one.set_active_model(*NAME)
    assert adjuster.get_parallelism(*NAME) == 2
    coordinator.unregister_instance()
    hands.ms += 1_000
    assert adjuster.get_parallelism(*NAME) == 2


def test_the_functions_act_on_one_adjuster() -> None:
    dynamic_parallelism.reset_parallelism_adjuster()
    first = dynamic_parallelism.get_parallelism_adjuster()
    assert first is dynamic_parallelism.get_parallelism_adjuster()
    assert dynamic_parallelism.format_dynamic_parallelism_summary() == "Dynamic parallelism: no model has been used."
    dynamic_parallelism.adjust_for_error(*NAME, "429")
    dynamic_parallelism.attempt_recovery(*NAME)
    assert dynamic_parallelism.get_parallelism(*NAME) == 2
    first.record_success(*NAME, 1_200)
    first.apply_cross_instance_limits(*NAME, 2)
    assert dynamic_parallelism.format_dynamic_parallelism_summary().splitlines()[:7] == [
        "Dynamic parallelism",
        "  anthropic:claude-sonnet-4: recovering",
        "    Parallelism: 2 of 4 (429 error)",
        "    Shared by: 2 instances",
        "    Active requests: 0",
        "    Recent 429s: 1",
        "    Response time: p50 1200 ms, p95 1200 ms (overloaded)",
    ]
    dynamic_parallelism.reset_parallelism_adjuster()
    assert first._timer is None
    assert dynamic_parallelism.get_parallelism(*NAME) == 4
    dynamic_parallelism.reset_parallelism_adjuster()


def test_a_wall_clock_that_is_set_back_prolongs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = DynamicParallelismAdjuster(timer=False)
    one.adjust_for_error(*NAME, "429")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3_600)
    assert one.get_health(*NAME).recommended_backoff_ms <= 2_000


def test_an_error_event_is_plain_data() -> None:
    assert ErrorEvent("acme", "m", "429", 12.0).to_dict() == {
        "provider": "acme",
        "model": "m",
        "type": "429",
        "timestamp": 12.0,
    }
