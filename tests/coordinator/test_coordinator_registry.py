"""Who lives: by locks, on the store's clock, under any name; and what becomes of who was removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.coordinator.conftest import Join
from tests.runtime.nets import beat_by_hand

from cross_instance.coordinator import Coordinator
from cross_instance.events import INSTANCE_REMOVED
from cross_instance.membership.presence import file_name, instances_folder
from cross_instance.rules.operations import (
    SECOND,
    Claim,
    Claimed,
    Finish,
    Finished,
    Join as JoinOp,
    Joined,
    NewTask,
    Push,
    Snapshot,
    Sweep,
    TaskEnd,
)
from cross_instance.stores.base import Store
from cross_instance.testing import FakeClock

TIMEOUT = 120 * SECOND


def ids(one: Coordinator) -> list[str]:
    return [info.instance_id for info in one.get_active_instances()]


def stranger(store: Store, name: str, machine: str, pid: int = 1) -> int:
    """An instance that only the store knows."""
    joined = store.run(JoinOp(name, "nonce", pid, machine, "elsewhere", timeout=TIMEOUT))
    assert isinstance(joined, Joined)
    return joined.incarnation


def machine(one: Coordinator) -> str:
    assert one.runtime is not None
    return one.runtime.status().world.instances[0].machine  # type: ignore[union-attr]


def test_the_status_is_that_of_the_reference(join: Join, tmp_path: Path) -> None:
    one = join("a", total_max_llm=5)
    one.set_active_model("OpenAI", "GPT-4o")
    one.update_workload_info(3, 1_500)
    join("b")
    status = one.get_coordinator_status().to_dict()
    assert status == {
        "registered": True,
        "myInstanceId": "a",
        "activeInstanceCount": 2,
        "myParallelLimit": 5,
        "config": {"totalMaxLlm": 5, "heartbeatIntervalMs": 60_000, "heartbeatTimeoutMs": 120_000},
        "instances": status["instances"],
    }
    first, second = status["instances"]
    assert (first["activeModels"][0].pop("since")[-1], first.pop("lastTaskCompletedAt")[-1]) == ("Z", "Z")
    assert first == {
        "instanceId": "a",
        "pid": os.getpid(),
        "sessionId": "session of a",
        "startedAt": "2026-01-01T00:00:00.000Z",
        "lastHeartbeat": "2026-01-01T00:00:00.000Z",
        "cwd": str(tmp_path),
        "activeModels": [{"provider": "openai", "model": "gpt-4o"}],
        "pendingTaskCount": 3,
        "avgLatencyMs": 1_500,
    }
    assert (second["instanceId"], second["pendingTaskCount"], second["activeModels"]) == ("b", 0, [])
    assert {"avgLatencyMs", "lastTaskCompletedAt"}.isdisjoint(second)


ODD = ["../../etc/passwd", "größe/模型 1", "a b%2Fc", ".lock", "x" * 200, "'; DROP TABLE", "-rf"]


@pytest.mark.parametrize("name", ODD)
def test_any_name_is_a_name(join: Join, tmp_path: Path, name: str) -> None:
    one, other = join(name), join("other")
    assert ids(other) == [name, "other"]
    assert one.get_coordinator_status().my_instance_id == name
    assert other.is_instance_alive(other.get_active_instances()[0])
    assert sorted(path.name for path in (tmp_path / "runtime" / "instances").glob("*.lock")) == sorted(
        map(file_name, (name, "other"))
    )


def test_a_pid_that_another_process_has_now_makes_nobody_alive(join: Join, store: Store, tmp_path: Path) -> None:
    """The file of a dead instance names a pid that is in use: ours. Nobody holds its lock, also not to look at it."""
    one = join("a")
    assert one.runtime is not None
    beat_by_hand(one.runtime)
    stranger(store, "dead", machine(one), pid=os.getpid())
    folder = instances_folder(tmp_path / "runtime")
    (folder / file_name("dead")).write_bytes(b"{}")
    assert ids(one) == ["a"]
    one.cleanup_dead_instances()
    assert [instance.instance_id for instance in one._view().world.instances] == ["a"]  # type: ignore[union-attr]


def test_elsewhere_a_heartbeat_says_who_lives(join: Join, store: Store, clock: FakeClock) -> None:
    one = join("a")
    stranger(store, "far", "another machine")
    info = one.get_active_instances()[1]
    assert info.instance_id == "far"
    clock.advance(TIMEOUT - 1)
    assert one.is_instance_alive(info)
    assert not one.is_instance_alive(info, timeout_ms=60_000)
    clock.advance(1)
    assert not one.is_instance_alive(info)
    assert ids(one) == ["a"]


def test_a_jump_of_the_wall_clock_kills_nobody(join: Join, store: Store, clock: FakeClock) -> None:
    """Also a sleeping machine is one whose wall clock jumps: the clock that decides stands still."""
    one = join("a")
    stranger(store, "far", "another machine")
    for jump in (8 * 3_600 * SECOND, -24 * 3_600 * SECOND):
        clock.wall += jump
        one.enhanced_heartbeat()
        assert ids(one) == ["a", "far"]
        assert all(one.is_instance_alive(info) for info in one.get_active_instances())


@pytest.mark.parametrize("store", ["memory"], indirect=True)  # a server's own clock goes on
def test_a_laptop_that_sleeps_loses_no_instance_no_lock_and_no_running_task(
    join: Join, store: Store, clock: FakeClock
) -> None:
    """It sleeps for a night, with everybody on it: no time has passed but on the wall clock."""
    one, other = join("a"), join("b")
    here = machine(one)
    runner = stranger(store, "runner", here)
    store.run(Push((NewTask("long", "kind"), NewTask("at seven", "kind", delay=7 * 3_600 * SECOND))))
    claimed = store.run(Claim(runner, 1))
    assert isinstance(claimed, Claimed)
    (task,) = claimed.tasks
    lock = other.try_acquire_lock("report")
    assert lock is not None
    clock.wall += 8 * 3_600 * SECOND
    store.run(Sweep())
    assert [info.instance_id for info in store.run(Snapshot()).instances] == ["a", "b", "runner"]
    assert one.try_acquire_lock("report") is None, "it is held still"
    assert other.release_lock(lock)
    ended = store.run(Finish(runner, (TaskEnd("long", task.epoch),)))
    assert isinstance(ended, Finished)
    assert ended.tasks[0].known, "its owner may end it"
    due = store.run(Claim(runner, 2))
    assert isinstance(due, Claimed)
    assert [task.spec.task for task in due.tasks] == ["at seven"], "what became due meanwhile is ready"


def test_another_process_of_the_same_id_is_not_the_one_that_was(join: Join, store: Store) -> None:
    one = join("a")
    stranger(store, "far", "another machine", pid=7)
    before = one.get_active_instances()[1]
    store.run(Sweep((one._view().others[0].incarnation,)))  # type: ignore[union-attr]
    stranger(store, "far", "another machine", pid=8)
    assert not one.is_instance_alive(before)
    assert one.is_instance_alive(one.get_active_instances()[1])


def test_who_was_removed_registers_again_and_says_everything_again(join: Join, store: Store) -> None:
    one, other = join("a"), join("b")
    one.set_active_model("openai", "gpt-4o")
    one.broadcast_queue_state(4, 1)
    lock = one.try_acquire_lock("r")
    assert lock is not None
    runtime = one.runtime
    assert runtime is not None
    before = runtime.incarnation
    store.run(Sweep((before,)))
    assert ids(other) == ["b"]
    one.update_heartbeat()
    assert runtime.incarnation > before
    assert other.get_active_instances_for_model("openai", "gpt-4o") == 1
    assert [state.pending_task_count for state in other.get_remote_queue_states()] == [4]
    assert not one.release_lock(lock)  # what it held before is void


def test_whoever_notices_the_removal_everything_is_said_again(join: Join, store: Store) -> None:
    one, other = join("a"), join("b")
    one.set_active_model("openai", "gpt-4o")
    one.broadcast_queue_state(4, 1)
    runtime = one.runtime
    assert runtime is not None
    store.run(Sweep((runtime.incarnation,)))
    with runtime.permit("acme", "m-1", timeout=5):
        assert [used.model for used in other.get_active_instances()[-1].active_models] == ["gpt-4o"]
        assert [state.pending_task_count for state in other.get_remote_queue_states()] == [4]


def test_a_look_alone_is_enough_to_join_anew(join: Join, store: Store) -> None:
    one = join("a", total_max_llm=5)
    store.run(Sweep((one.runtime.incarnation,)))  # type: ignore[union-attr]
    assert one.get_my_parallel_limit() == 5
    assert ids(one) == ["a"]


def test_who_is_removed_is_told_as_an_event(join: Join, store: Store, clock: FakeClock) -> None:
    one = join("a")
    assert one.runtime is not None
    stranger(store, "far", "another machine")
    clock.advance(TIMEOUT)
    one.update_heartbeat()
    one.cleanup_dead_instances()
    told = [event for event in one.runtime.status().events if event.kind == INSTANCE_REMOVED]
    assert [event.fields["removed"] for event in told] == ["far"]


def test_an_enhanced_heartbeat_does_all_of_it(join: Join, store: Store, clock: FakeClock) -> None:
    one = join("a")
    stranger(store, "far", "another machine")
    clock.advance(TIMEOUT)
    one.update_heartbeat()
    one.enhanced_heartbeat()
    world = one._view().world  # type: ignore[union-attr]
    assert [(instance.instance_id, instance.heard_at) for instance in world.instances] == [("a", clock.mono)]
