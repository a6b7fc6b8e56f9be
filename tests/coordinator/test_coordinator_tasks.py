"""Tasks of the durable queue are an instance's work like any other: pending tasks, models, latency, last completion."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from tests.coordinator.conftest import Join

from cross_instance.coordinator import Coordinator, WorkStealingSummary
from cross_instance.rules.operations import SECOND, Heartbeat, Workload
from cross_instance.stores.base import Store
from cross_instance.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance import Runtime


def runtime_of(one: Coordinator) -> Runtime:
    assert one.runtime is not None
    return one.runtime


class Told:
    """Hears what instances tell of their work."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self._run = store.run
        self._waited: list[tuple[Callable[[Workload], bool], Event]] = []
        patch.setattr(store, "run", self.run)

    def run(self, op: Any) -> Any:
        answer = self._run(op)
        if isinstance(op, Heartbeat) and op.workload is not None:
            for condition, heard in self._waited:
                if condition(op.workload):
                    heard.set()
        return answer

    def once(self, condition: Callable[[Workload], bool]) -> Event:
        heard = Event()
        self._waited.append((condition, heard))
        return heard


def test_what_waits_in_a_durable_queue_is_pending(join: Join) -> None:
    one, other = join("a"), join("b")
    assert one.is_idle()
    assert other.get_work_stealing_summary() == WorkStealingSummary(0, 0, 0, 0, 0)
    runtime_of(one).submit_many("job", [()] * 4)
    runtime_of(one).submit("job", stealable=False)
    assert other.get_work_stealing_summary() == WorkStealingSummary(1, 5, 4, 0, 1)
    assert not one.is_idle()
    assert other.is_idle()
    assert other.should_attempt_work_stealing()
    assert not one.should_attempt_work_stealing()
    assert other.get_work_stealing_candidates() == ["a"]
    found = other.find_steal_candidate()
    assert found is not None
    assert (found.instance_id, found.pending_task_count) == ("a", 5)
    one.broadcast_queue_state(2, 1)
    (state,) = other.get_remote_queue_states()
    assert (state.pending_task_count, state.active_orchestrations) == (7, 1)
    assert [info.pending_task_count for info in other.get_active_instances()] == [7, 0]


def test_who_works_on_durable_tasks_tells_what_it_does(
    join: Join, store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = join("a"), join("b")
    runtime, told, begun, end = runtime_of(one), Told(store, monkeypatch), Event(), Event()

    @runtime.task("job", provider="anthropic", model="Claude-Sonnet-4")
    def job() -> None:
        begun.set()
        assert end.wait(20)

    handle = runtime.submit("job")
    busy = told.once(lambda work: work.orchestrations == 1)
    worker = Thread(target=runtime.work, args=(1,), kwargs={"until_idle": True})
    worker.start()
    assert begun.wait(20)
    assert busy.wait(20)
    rested = told.once(lambda work: not work.at_work)
    (state,) = other.get_remote_queue_states()
    assert (state.instance_id, state.pending_task_count, state.active_orchestrations) == ("a", 0, 1)
    assert other.get_active_instances_for_model("anthropic", "claude-sonnet-4") == 1
    (usage,) = other.get_model_usage_summary().models
    assert (usage.provider, usage.model) == ("anthropic", "claude-sonnet-4")
    assert not one.is_idle()
    clock.advance(3 * SECOND)
    end.set()
    worker.join()
    assert handle.result() is None
    assert rested.wait(20)
    (info, _) = other.get_active_instances()
    assert info.avg_latency_ms == 3_000
    assert info.last_task_completed_at == "2026-01-01T00:00:03.000Z"
    assert info.active_models == ()
    assert one.is_idle()


def test_a_worker_at_rest_is_an_idle_instance(join: Join, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = join("a"), join("b")
    runtime, told = runtime_of(one), Told(store, monkeypatch)
    runtime.task("job")(lambda: None)
    there = told.once(lambda work: work.at_work)
    worker = Thread(target=runtime.work)
    worker.start()
    assert there.wait(20)
    gone = told.once(lambda work: not work.at_work)
    assert other.get_work_stealing_summary() == WorkStealingSummary(1, 0, 0, 1, 0)
    assert other.check_remote_capacity()
    runtime.drain()
    worker.join()
    assert gone.wait(20)
    assert other.get_remote_queue_states() == []


def test_what_the_application_says_and_what_its_worker_does_are_told_as_one(
    join: Join, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = join("a"), join("b")
    runtime, told, end = runtime_of(one), Told(store, monkeypatch), Event()
    runtime.task("job", provider="openai", model="gpt-4o")(lambda: end.wait(20))
    runtime.submit("job")
    both = told.once(lambda work: work.orchestrations == 3 and work.pending == 5 and len(work.active_models) == 2)
    one.set_active_model("anthropic", "claude-sonnet-4")
    one.broadcast_queue_state(5, 2, avg_latency_ms=40)
    worker = Thread(target=runtime.work, args=(1,), kwargs={"until_idle": True})
    worker.start()
    assert both.wait(20)
    alone = told.once(lambda work: work.orchestrations == 2 and not work.at_work)
    end.set()
    worker.join()
    assert alone.wait(20)
    (info, _) = other.get_active_instances()
    assert (info.pending_task_count, info.avg_latency_ms) == (5, 40)
    assert [model.model for model in info.active_models] == ["claude-sonnet-4"]
