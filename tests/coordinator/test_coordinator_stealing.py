"""Queues that are told, and entries that move: to one thief, and never back."""

from __future__ import annotations

import asyncio
from threading import Event, Thread

import pytest
from tests.coordinator.conftest import Join

from cross_instance.coordinator import Coordinator, StealableQueueEntry, WorkStealingSummary
from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import SECOND, Steal, Sweep
from cross_instance.stores.base import Store
from cross_instance.testing import FakeClock


def entry(name: str, priority: str = "normal", minute: int = 0, owner: str = "a") -> StealableQueueEntry:
    return StealableQueueEntry(name, "tool", priority, owner, f"2026-01-01T00:{minute:02}:00.000Z")


def offer(one: Coordinator, *entries: StealableQueueEntry) -> list[str]:
    return one.broadcast_queue_state(len(entries), 0, entries)


def stolen(one: Coordinator) -> str | None:
    taken = one.steal_work()
    return None if taken is None else taken.id


def test_a_queue_is_shown_as_it_was_told(join: Join, clock: FakeClock) -> None:
    one, other = join("a"), join("b")
    told = StealableQueueEntry("x", "search", "high", "a", "2026-01-01T00:00:01.500Z", 250.5, 3)
    clock.advance(3 * SECOND)
    one.broadcast_queue_state(2, 1, [told, entry("y")], avg_latency_ms=40)
    clock.advance(2 * SECOND)
    (state,) = other.get_remote_queue_states()
    assert one.get_remote_queue_states() == []
    assert state.stealable_entries[0] == told
    assert state.to_dict() == {
        "instanceId": "a",
        "timestamp": "2026-01-01T00:00:03.000Z",
        "pendingTaskCount": 2,
        "avgLatencyMs": 40,
        "activeOrchestrations": 1,
        "stealableEntries": [
            {
                "id": "x",
                "toolName": "search",
                "priority": "high",
                "instanceId": "a",
                "enqueuedAt": "2026-01-01T00:00:01.500Z",
                "estimatedDurationMs": 250.5,
                "estimatedRounds": 3,
            },
            {
                "id": "y",
                "toolName": "tool",
                "priority": "normal",
                "instanceId": "a",
                "enqueuedAt": "2026-01-01T00:00:00.000Z",
            },
        ],
    }


def test_a_queue_counts_for_two_intervals_whatever_the_wall_clock_does(join: Join, clock: FakeClock) -> None:
    one, other = join("a"), join("b")
    one.broadcast_queue_state(1, 0)
    clock.wall -= 24 * 3_600 * SECOND
    clock.advance(120 * SECOND)
    one.update_heartbeat()
    assert len(other.get_remote_queue_states()) == 1
    clock.advance(1)
    assert other.get_remote_queue_states() == []


def test_idle_and_busy(join: Join) -> None:
    one, two, three = (join(name) for name in "abc")
    assert one.check_remote_capacity()  # nobody has told anything
    assert one.get_work_stealing_summary() == WorkStealingSummary(0, 0, 0, 0, 0)
    two.broadcast_queue_state(0, 2)
    assert not one.check_remote_capacity()
    three.broadcast_queue_state(4, 0, [entry("x")])
    assert not one.check_remote_capacity()
    assert one.get_work_stealing_summary() == WorkStealingSummary(2, 4, 1, 0, 2)
    two.broadcast_queue_state(0, 1)
    assert one.check_remote_capacity()
    assert one.get_work_stealing_summary().to_dict() == {
        "remoteInstances": 2,
        "totalPendingTasks": 4,
        "stealableTasks": 1,
        "idleInstances": 1,
        "busyInstances": 1,
    }
    assert one.is_idle()
    one.set_active_model("openai", "gpt-4o")
    assert not one.is_idle()
    one.clear_active_model("openai", "gpt-4o")
    one.update_workload_info(1)
    assert not one.is_idle()


def test_when_and_from_whom_to_steal(join: Join) -> None:
    one, two, three = (join(name) for name in "abc")
    two.update_workload_info(2)
    assert not one.should_attempt_work_stealing()
    assert one.find_steal_candidate() is None
    two.update_workload_info(3, 10_000)
    three.update_workload_info(20, 100)
    assert one.should_attempt_work_stealing()
    assert not two.should_attempt_work_stealing()
    assert one.get_work_stealing_candidates() == ["c", "b"]
    assert one.get_work_stealing_candidates(1) == ["c"]
    assert two.get_work_stealing_candidates() == ["c"]
    found = one.find_steal_candidate()
    assert found is not None
    assert found.instance_id == "b"  # thirty seconds are more than two


def test_an_entry_moves_once_and_its_owner_learns_of_it(join: Join) -> None:
    owner, one, two = (join(name) for name in "abc")
    assert offer(owner, entry("x"), entry("old", "high", 1), entry("young", "high", 2)) == []
    assert one.steal_work() == entry("old", "high", 1)
    assert stolen(two) == "young"
    assert offer(owner, entry("x"), entry("young", "high", 2)) == ["old", "young"]
    assert [stolen(one), stolen(two)] == ["x", None]
    owner.update_heartbeat()
    owner.set_active_model("openai", "gpt-4o")  # whatever tells it first,
    assert offer(owner, entry("x")) == ["x"]  # the application hears of it here, and once,
    assert stolen(two) is None  # and what it offered in ignorance goes to nobody else
    assert offer(owner) == []


def test_an_owner_asks_before_it_runs_its_own(join: Join) -> None:
    owner, thief = join("a"), join("b")
    offer(owner, entry("x"), entry("y"))
    assert offer(owner, entry("y")) == []  # x is its own
    assert [stolen(thief), stolen(thief)] == ["y", None]


def test_the_loss_is_told_after_a_removal_too(join: Join, store: Store, clock: FakeClock) -> None:
    owner, thief = join("a"), join("b")
    offer(owner, entry("x"), entry("y"))
    assert stolen(thief) == "x"
    clock.advance(120 * SECOND)
    thief.update_heartbeat()
    store.run(Sweep())
    assert offer(owner, entry("x"), entry("y")) == ["x"]
    assert [stolen(thief), stolen(thief)] == ["y", None]


def test_many_thieves_get_every_entry_once(join: Join) -> None:
    owner, thieves = join("a"), [join(name) for name in "bcde"]
    offer(owner, *(entry(f"e{number}") for number in range(200)))
    taken: list[str] = []

    def rob(thief: Coordinator) -> None:
        while (found := thief.steal_work()) is not None:
            taken.append(found.id)

    threads = [Thread(target=rob, args=(thief,)) for thief in thieves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"e{number}" for number in range(200))
    assert sorted(offer(owner)) == sorted(taken)


def test_what_cannot_be_stored_is_refused_and_changes_nothing(join: Join) -> None:
    owner, other = join("a"), join("b")
    offer(owner, entry("x"))
    many = [entry(f"e{number}") for number in range(257)]
    for entries in (many, [entry("x" * 201)], [entry("x"), entry("x")], [entry("x", "urgent")]):
        with pytest.raises(ValueError, match=r"stealable entries|entry id|priority"):
            offer(owner, *entries)
    with pytest.raises(ValueError, match="pending"):
        owner.update_workload_info(-1)
    with pytest.raises(ValueError, match="milliseconds"):
        owner.update_workload_info(1, float("nan"))
    assert other.get_remote_queue_states()[0].stealable_entries == (entry("x"),)


def test_switched_off_nothing_is_stolen(join: Join) -> None:
    owner, thief = join("a"), join("b", enable_work_stealing=False)
    owner.broadcast_queue_state(5, 0, [entry("x")])
    assert not thief.should_attempt_work_stealing()
    assert thief.steal_work() is None
    assert thief.get_stealing_stats().total_attempts == 0


def test_the_statistics(join: Join) -> None:
    owner, thief = join("a"), join("b")
    offer(owner, entry("x"), entry("y"))
    assert [stolen(thief), stolen(thief), stolen(thief)] == ["x", "y", None]
    stats = thief.get_stealing_stats()
    assert (stats.total_attempts, stats.successful_steals, stats.failed_attempts) == (3, 2, 1)
    assert stats.success_rate == pytest.approx(2 / 3)
    assert stats.avg_latency_ms > 0
    assert isinstance(stats.last_steal_at, int)
    thief.reset_stealing_stats()
    assert thief.get_stealing_stats().to_dict() == {
        "totalAttempts": 0,
        "successfulSteals": 0,
        "failedAttempts": 0,
        "successRate": 0,
        "avgLatencyMs": 0,
        "lastStealAt": None,
    }


def test_a_cancelled_steal_takes_nothing_away(join: Join, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, thief = join("a"), join("b")
    offer(owner, entry("x"))
    asked, go_on = Event(), Event()
    run = store.run

    def slow(op: object) -> object:
        answer = run(op)  # type: ignore[arg-type, var-annotated]
        if isinstance(op, Steal):
            asked.set()
            go_on.wait(10)
        return answer

    monkeypatch.setattr(store, "run", slow)

    async def cancelled() -> None:
        steal = asyncio.ensure_future(thief.safe_steal_work())
        await asyncio.to_thread(asked.wait, 10)
        steal.cancel()
        with pytest.raises(asyncio.CancelledError):
            await steal
        go_on.set()
        assert await thief.safe_steal_work() == entry("x")
        assert await thief.safe_steal_work() is None

    asyncio.run(cancelled())


def test_a_lost_answer_loses_no_entry(join: Join, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, thief = join("a"), join("b")
    offer(owner, entry("x"))
    run = store.run

    def cut(op: object) -> object:
        run(op)  # type: ignore[arg-type]
        raise StoreUnavailable("the connection was cut")

    monkeypatch.setattr(store, "run", cut)
    with pytest.raises(StoreUnavailable):
        thief.steal_work()
    monkeypatch.undo()
    assert stolen(thief) == "x"
    assert stolen(thief) is None
