"""Tasks: what operations cost however long the queue is, and the arithmetic of waits and means."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, strategies as st
from tests.rules.support import Case
from tests.rules.test_cost_per_operation import CountingTables

from cross_instance.rules.apply import apply
from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import (
    DAY,
    FOREVER,
    MINUTE,
    SECOND,
    CancelTask,
    Claim,
    Claimed,
    ClaimedTask,
    Finish,
    GetTask,
    HeldTask,
    Join,
    Joined,
    ListTasks,
    NewTask,
    Operation,
    Priority,
    Push,
    Renew,
    Requeue,
    Sweep,
    TaskEnd,
    TaskOutcome,
    TaskSnapshot,
    TaskState,
)
from cross_instance.rules.tables import DURABLE_FROM, RETURNED
from cross_instance.rules.task_ends import MOST_DOUBLINGS, backoff
from cross_instance.testing import DictTables, FakeClock


class Tables(CountingTables):
    """Counts the steps to a next key too."""

    def after(self, prefix: bytes, key: bytes, /) -> tuple[bytes, bytes] | None:
        self.calls["after"] += 1
        return super().after(prefix, key)


class Queue:
    """Two instances, and as many queued tasks as wanted in the queue of one."""

    def __init__(self, tasks: int) -> None:
        self.tables = Tables()
        self.clock = FakeClock()
        self.owner, self.thief = self.join("owner"), self.join("thief")
        for start in range(0, tasks, 1_000):
            specs = (
                NewTask(f"t{number}", "kind", queue="owner", priority=Priority(number % 5), key=f"k{number}")
                for number in range(start, min(start + 1_000, tasks))
            )
            self.run(Push(tuple(specs)))
            later = (
                NewTask(f"later {number}", "kind", delay=DAY) for number in range(start, min(start + 1_000, tasks))
            )
            self.run(Push(tuple(later)))

    def run(self, op: Operation[Any]) -> Any:
        self.tables.begin()
        return apply(self.tables, op, self.clock())

    def join(self, name: str) -> int:
        joined = self.run(Join(name, name, 1, name, name))
        assert isinstance(joined, Joined)
        return joined.incarnation

    def cost(self, op: Operation[Any]) -> tuple[int, Any]:
        self.tables.calls.clear()
        answer = self.run(op)
        calls: Counter[str] = self.tables.calls
        return sum(calls[kind] for kind in ("get", "put", "delete", "scan", "after")), answer

    def costs(self) -> dict[str, int]:
        costs: dict[str, int] = {}
        self.run(Claim(self.owner, 1))
        costs["push"], _ = self.cost(Push((NewTask("new", "kind", queue="owner"),)))
        costs["claim"], own = self.cost(Claim(self.owner, 2))
        costs["steal"], stolen = self.cost(Claim(self.thief, 1, steal=True))
        (first,), (second,) = own.tasks, stolen.tasks
        costs["renew"], _ = self.cost(Renew(self.owner, (HeldTask(first.spec.task, first.epoch, b"half"),)))
        costs["finish"], _ = self.cost(Finish(self.owner, (TaskEnd(first.spec.task, first.epoch),)))
        retry = TaskEnd(second.spec.task, second.epoch, TaskOutcome.RETRY)
        costs["retry"], _ = self.cost(Finish(self.thief, (retry,)))
        costs["get"], _ = self.cost(GetTask("new"))
        costs["cancel"], _ = self.cost(CancelTask("new"))
        costs["requeue"], _ = self.cost(Requeue("new"))
        costs["list"], _ = self.cost(ListTasks(most=5))
        costs["snapshot"], _ = self.cost(TaskSnapshot())
        costs["sweep"], _ = self.cost(Sweep((self.thief,)))
        return costs


def test_ten_thousand_tasks_cost_no_more_than_ten() -> None:
    short, long = Queue(10).costs(), Queue(10_000).costs()
    assert all(long[name] <= short[name] + 3 for name in long), (short, long)


def test_a_batch_costs_less_than_its_tasks() -> None:
    queue = Queue(10)
    one, _ = queue.cost(Push((NewTask("one", "kind"),)))
    many, _ = queue.cost(Push(tuple(NewTask(f"many {number}", "kind") for number in range(100))))
    assert many <= 60 * one


def test_at_rest_a_thief_looks_at_nothing() -> None:
    """Others are there, and all their tasks are over: a claim finds that out at once."""
    queue = Queue(20)
    (*_,) = (queue.run(CancelTask(f"t{number}")) for number in range(20))
    cost, answer = queue.cost(Claim(queue.thief, 1, most=10, steal=True))
    assert isinstance(answer, Claimed)
    assert not answer.tasks
    assert cost <= 12


# --- figures ---------------------------------------------------------------------------------------------------


@given(
    st.integers(0, DAY),
    st.integers(0, DAY),
    st.integers(1, 100_000),
    st.integers(0, (1 << 32) - 1),
)
def test_a_backoff_is_between_a_half_and_the_whole(base: int, most: int, failures: int, draw: int) -> None:
    spec = NewTask("t", "k", backoff=base, max_backoff=most)
    wait = backoff(spec, failures, draw)
    whole = min(base * 2 ** min(failures - 1, MOST_DOUBLINGS), most)
    assert whole // 2 <= wait <= whole
    assert base << MOST_DOUBLINGS < EXACT
    assert (whole // 2) * (draw >> 16) < EXACT, "Lua's doubles hold it"


def test_a_mean_follows_the_last_ones() -> None:
    case = Case()
    one = case.join("one")
    means = []
    for number, took in enumerate([SECOND] * 3 + [5 * SECOND] * 60):
        case.run(Push((NewTask(f"t{number}", "kind"),)))
        claimed = case.run(Claim(one, number + 1))
        assert isinstance(claimed, Claimed)
        case.wait(took)
        case.run(Finish(one, (TaskEnd(f"t{number}", claimed.tasks[0].epoch),)))
        means.append(case.run(TaskSnapshot()).kinds[0].mean)
    assert means[:4] == [SECOND, SECOND, SECOND, 2 * SECOND]
    assert 4.9 * SECOND < means[-1] <= 5 * SECOND


def test_a_backlog_never_overflows() -> None:
    case = Case()
    one = case.join("one", timeout=FOREVER // 4)
    case.run(Push(tuple(NewTask(f"t{number}", "kind", queue="one") for number in range(1_000))))
    claimed = case.run(Claim(one, 1))
    assert isinstance(claimed, Claimed)
    case.wait(300 * DAY)
    case.run(Finish(one, (TaskEnd("t0", claimed.tasks[0].epoch),)))
    for batch in range(60):
        case.run(Push(tuple(NewTask(f"{batch}.{number}", "kind", queue="one") for number in range(1_000))))
    (queue,) = case.run(TaskSnapshot()).queues
    assert queue.backlog == queue.stealable == FOREVER


def test_a_clock_set_back_delays_nothing_that_is_ready() -> None:
    case = Case()
    one = case.join("one")
    case.run(Push((NewTask("before", "kind"),)))
    case.store.clock.wall -= DAY
    case.run(Push((NewTask("after", "kind"), NewTask("delayed", "kind", delay=MINUTE))))
    claimed = case.run(Claim(one, 1, most=9))
    assert isinstance(claimed, Claimed)
    assert [task.spec.task for task in claimed.tasks] == ["before", "after"]


def test_many_that_become_due_at_once_are_made_ready_in_portions() -> None:
    case = Case()
    one = case.join("one")
    case.run(Push(tuple(NewTask(f"t{number}", "kind", delay=SECOND) for number in range(250))))
    case.wait(SECOND)
    taken = []
    for seq in range(1, 4):
        claimed = case.run(Claim(one, seq, most=100))
        assert isinstance(claimed, Claimed)
        taken += [task.spec.task for task in claimed.tasks]
    assert taken == [f"t{number}" for number in range(250)]


def half(case: Case, op: Operation[Any]) -> None:
    """An operation whose process died after the durable commit and before the other."""
    tables = case.tables
    before = {key: value for key, value in tables.values.items() if key[0] < DURABLE_FROM}
    case.run(op)
    for key in [key for key in tables.values if key[0] < DURABLE_FROM and key not in before]:
        tables.delete(key)
    for key, value in before.items():
        tables.put(key, value)


def claim(case: Case, incarnation: int, seq: int, most: int = 9) -> list[ClaimedTask]:
    claimed = case.run(Claim(incarnation, seq, most))
    assert isinstance(claimed, Claimed)
    return [*claimed.tasks]


def test_what_a_killed_process_half_ended_is_taken_over_before_anyone_noticed_its_death() -> None:
    case = Case()
    dead, heir = case.join("dead"), case.join("heir")
    case.run(Push((NewTask("t", "kind", backoff=0, queue="heir"), NewTask("other", "kind", queue="heir"))))
    (stolen,) = (case.run(Claim(dead, 1, steal=True))).tasks  # type: ignore[union-attr]
    half(case, Finish(dead, (TaskEnd("t", stolen.epoch, TaskOutcome.RETRY),)))
    assert [task.spec.task for task in claim(case, heir, 1, 1)] == ["other"]
    assert [(task.spec.task, task.attempt) for task in claim(case, heir, 2)] == [("t", 2)]
    case.sweep(dead)
    (queue,) = case.run(TaskSnapshot()).queues
    assert (sum(queue.queued), queue.running) == (0, 2), "the dead one's claim counts no more"
    assert claim(case, heir, 3) == []


def test_the_death_of_a_process_that_had_half_ended_a_task_changes_nothing_about_it() -> None:
    case = Case()
    dead = case.join("dead")
    case.run(Push((NewTask("t", "kind"),)))
    (task,) = claim(case, dead, 1)
    half(case, Finish(dead, (TaskEnd("t", task.epoch),)))
    case.sweep(dead)
    info = case.run(GetTask("t")).info
    assert info is not None
    assert (info.state, info.deaths, len(info.attempts)) == (TaskState.DONE, 0, 1)


def test_a_returned_place_whose_task_was_half_cancelled_is_passed_over() -> None:
    case = Case()
    one, two = case.join("one"), case.join("two")
    case.run(Push((NewTask("t1", "kind"), NewTask("t2", "kind"))))
    claim(case, one, 1)
    case.sweep(one)
    half(case, CancelTask("t1"))
    assert [task.spec.task for task in claim(case, two, 1)] == ["t2"]
    assert not [*case.tables.scan(RETURNED)]


def test_a_push_that_its_process_half_made_is_told_with_its_death() -> None:
    """The tasks are kept, and the idle know nothing of them: whoever notices the death tells them."""
    case = Case()
    idle, dead = case.join("idle"), case.join("dead")
    assert claim(case, idle, 1) == []
    half(case, Push((NewTask("t", "kind"),)))
    assert [(wake.incarnation, wake.seq) for wake in case.run(Sweep((dead,))).wakes] == [(idle, 1)]
    assert [task.spec.task for task in claim(case, idle, 2)] == ["t"]


def test_the_key_after_another() -> None:
    tables = DictTables()
    for key in (b"a", b"b\x01", b"b\x02", b"c"):
        tables.put(key, b"value of " + key)
    assert tables.after(b"b", b"b") == tables.after(b"b", b"") == (b"b\x01", b"value of b\x01")
    assert tables.after(b"b", b"b\x01") == (b"b\x02", b"value of b\x02")
    assert tables.after(b"b", b"b\x02") is tables.after(b"d", b"") is None
