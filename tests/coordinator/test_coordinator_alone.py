"""Before registration every function answers, and none raises; registering is one step."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.coordinator.conftest import Join
from tests.runtime.doubles import settings_in

from cross_instance import ConfigError, coordinator
from cross_instance.coordinator import (
    Coordinator,
    CoordinatorConfig,
    DistributedLock,
    InstanceInfo,
    ModelUsageSummary,
    StealingStats,
    WorkStealingSummary,
)
from cross_instance.testing import FakeClock

NOW = 1_771_425_090_972
INFO = InstanceInfo("a", 1, "s", "2026-02-18T14:31:00.000Z", "2026-02-18T14:31:00.000Z", "/")
LOCK = DistributedLock("token", 0, 1, "r", 1)

ANSWERS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("unregister_instance", (), None),
    ("update_heartbeat", (), None),
    ("cleanup_dead_instances", (), None),
    ("is_instance_alive", (INFO, NOW, 60_000), True),
    ("is_instance_alive", (INFO, NOW, 30_000), False),
    ("get_active_instance_count", (), 1),
    ("get_active_instances", (), []),
    ("get_my_parallel_limit", (), 1),
    ("get_dynamic_parallel_limit", (5,), 1),
    ("should_attempt_work_stealing", (), False),
    ("get_work_stealing_candidates", (), []),
    ("update_workload_info", (-1, -1.0), None),
    ("is_coordinator_initialized", (), False),
    ("set_active_model", ("", ""), None),
    ("clear_active_model", ("p", "m"), None),
    ("clear_all_active_models", (), None),
    ("get_active_instances_for_model", ("p", "m"), 1),
    ("get_model_parallel_limit", ("p", "m", 5), 5),
    ("matches_model_pattern", ("CLAUDE-*", "claude-sonnet-4"), True),
    ("get_model_usage_summary", (), ModelUsageSummary((), ())),
    ("broadcast_queue_state", (1, 1, [None]), []),
    ("get_remote_queue_states", (), []),
    ("check_remote_capacity", (), True),
    ("steal_work", (), None),
    ("get_work_stealing_summary", (), WorkStealingSummary(0, 0, 0, 0, 0)),
    ("cleanup_queue_states", (), None),
    ("try_acquire_lock", ("r", -1), None),
    ("release_lock", (LOCK,), False),
    ("is_idle", (), True),
    ("find_steal_candidate", (), None),
    ("get_stealing_stats", (), StealingStats(0, 0, 0, 0.0, 0.0, None)),
    ("reset_stealing_stats", (), None),
    ("cleanup_expired_locks", (), None),
    ("enhanced_heartbeat", (), None),
]


@pytest.mark.parametrize(("name", "arguments", "answer"), ANSWERS, ids=[name for name, *_ in ANSWERS])
def test_what_is_answered_before_registration(name: str, arguments: tuple[Any, ...], answer: Any) -> None:
    assert getattr(Coordinator(), name)(*arguments) == answer
    assert getattr(coordinator, name)(*arguments) == answer


def test_the_status_before_registration() -> None:
    assert Coordinator().get_coordinator_status().to_dict() == {
        "registered": False,
        "myInstanceId": None,
        "activeInstanceCount": 1,
        "myParallelLimit": 1,
        "config": None,
        "instances": [],
    }
    assert asyncio.run(Coordinator().safe_steal_work()) is None


@pytest.mark.parametrize(("profile", "total"), [("default", 6), ("stable", 4)])
def test_the_total_follows_the_profile(tmp_path: Path, profile: str, total: int) -> None:
    assert Coordinator(settings=settings_in(tmp_path, profile=profile)).get_total_max_llm() == total


def test_the_total_is_that_of_the_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_TOTAL_MAX_LLM", "9")
    assert Coordinator(store=tmp_path / "runtime", total_max_llm=3).get_total_max_llm() == 3


def test_a_wrong_configuration_is_told_when_registering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_TOTAL_MAX_LLM", "many")
    one = Coordinator()
    assert one.get_total_max_llm() == 6
    with pytest.raises(ConfigError, match="PI_TOTAL_MAX_LLM"):
        one.get_env_overrides()
    with pytest.raises(ConfigError, match="PI_TOTAL_MAX_LLM"):
        one.register_instance("s", tmp_path)
    assert not one.is_coordinator_initialized()


def test_only_variables_that_are_set_override(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PI_TOTAL_MAX_LLM", "PI_HEARTBEAT_INTERVAL_MS", "PI_HEARTBEAT_TIMEOUT_MS"):
        monkeypatch.delenv(name, raising=False)
    assert coordinator.get_env_overrides() == {}
    monkeypatch.setenv("PI_HEARTBEAT_INTERVAL_MS", "500")
    assert coordinator.get_env_overrides() == {"heartbeat_interval_ms": 500}


@pytest.mark.parametrize("overrides", [{"totalMaxLlm": 3}, {"total_max_llm": 3}, CoordinatorConfig(3, 5_000, 9_000)])
def test_overrides_are_stronger_than_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overrides: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PI_TOTAL_MAX_LLM", "9")
    one = Coordinator()
    one.register_instance("s", tmp_path, overrides)
    assert one.get_total_max_llm() == 3
    one.unregister_instance()
    assert one.get_total_max_llm() == 9


@pytest.mark.parametrize("overrides", [{"totalMaxLlm": 3}, CoordinatorConfig(3, 5_000, 9_000)])
def test_overrides_of_settings_that_are_given_are_an_error(tmp_path: Path, overrides: Any) -> None:
    one = Coordinator("a", settings=settings_in(tmp_path))
    with pytest.raises(ConfigError, match="config_overrides: would have no effect beside the given settings"):
        one.register_instance("s", tmp_path, overrides)
    assert not one.is_coordinator_initialized()
    one.register_instance("s", tmp_path, {})
    assert one.is_coordinator_initialized()
    one.unregister_instance()


def test_an_unknown_override_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config_overrides `totalMaxLLM`: unknown"):
        Coordinator().register_instance("s", tmp_path, {"totalMaxLLM": 3})


def test_registering_twice_only_sends_a_heartbeat(join: Join, clock: FakeClock, tmp_path: Path) -> None:
    one = join("a")
    (before,) = one.get_active_instances()
    clock.advance(7_000_000)
    one.register_instance("another session", tmp_path)
    (after,) = one.get_active_instances()
    assert (after.session_id, after.started_at) == (before.session_id, before.started_at)
    assert after.last_heartbeat > before.last_heartbeat


def test_switched_off_nothing_is_registered(join: Join) -> None:
    one = join("a", enabled=False)
    assert not one.is_coordinator_initialized()
    assert one.get_my_parallel_limit() == 1
    assert one.runtime is None


def test_unregistered_it_answers_as_before_and_can_register_again(join: Join, tmp_path: Path) -> None:
    one, other = join("a"), join("b")
    one.unregister_instance()
    assert (one.get_active_instance_count(), other.get_active_instance_count()) == (1, 1)
    assert not one.get_coordinator_status().registered
    one.register_instance("s", tmp_path)
    assert other.get_active_instance_count() == 2
