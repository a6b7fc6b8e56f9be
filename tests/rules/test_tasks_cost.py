"""What an operation on tasks costs does not grow with the queue. Counted in calls of the tables, not in time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.rules.test_cost_per_operation import CountingTables

from cross_instance.rules.apply import apply
from cross_instance.rules.operations import (
    CancelTask,
    Claim,
    Finish,
    GetTask,
    HeldTask,
    Join,
    Leave,
    ListTasks,
    NewTask,
    Operation,
    Priority,
    Push,
    Renew,
    Requeue,
    TaskEnd,
    TaskOutcome,
    TaskSnapshot,
)
from cross_instance.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 100


class SeekingTables(CountingTables):
    """Counts seeks, too."""

    def first(self, prefix: bytes, /) -> tuple[bytes, bytes] | None:
        self.calls["first"] += 1
        return super().first(prefix)

    def after(self, prefix: bytes, key: bytes, /) -> tuple[bytes, bytes] | None:
        self.calls["after"] += 1
        return super().after(prefix, key)


class Bulk:
    """A queue into which so many tasks were pushed, a hundred at a time."""

    def __init__(self, tasks: int) -> None:
        self.tables = SeekingTables()
        self.clock = FakeClock()
        self.owner, self.thief = (self.run(Join(name, name, 1, "m", "h")).incarnation for name in ("owner", "thief"))
        self.pushes = [self.cost(push)[0] for push in pushes(0, tasks)]

    def run(self, op: Operation[Any]) -> Any:
        self.tables.begin()
        return apply(self.tables, op, self.clock())

    def cost(self, op: Operation[Any]) -> tuple[Counter[str], Any]:
        self.tables.calls.clear()
        answer = self.run(op)
        del self.tables.calls["bytes"]
        return Counter(self.tables.calls), answer

    def costs(self) -> dict[str, Counter[str]]:
        """What each operation costs in the middle of the queue's life."""
        found: dict[str, Counter[str]] = {"the last push": self.pushes[-1]}
        found["claim"], claimed = self.cost(Claim(self.owner, 1, 8))
        names = [(task.spec.task, task.epoch) for task in claimed.tasks]
        found["steal"], stolen = self.cost(Claim(self.thief, 1, 8, steal=True))
        assert len(names) == len(stolen.tasks) == 8
        found["renew"], _ = self.cost(Renew(self.owner, tuple(HeldTask(*one, b"half") for one in names)))
        outcomes = (*[TaskOutcome.DONE] * 5, TaskOutcome.RETRY, TaskOutcome.FAILED, TaskOutcome.RELEASED)
        ends = tuple(TaskEnd(*one, outcome) for one, outcome in zip(names, outcomes, strict=True))
        found["finish"], _ = self.cost(Finish(self.owner, ends))
        found["send back"], _ = self.cost(Requeue(names[6][0]))
        found["look"], _ = self.cost(GetTask("t99", (self.owner, 2)))
        found["cancel"], _ = self.cost(CancelTask("t99"))
        found["list"], page = self.cost(ListTasks(most=20))
        assert len(page.tasks) == 20
        found["look at all"], _ = self.cost(TaskSnapshot())
        found["leave"], _ = self.cost(Leave(self.thief))
        return found


def pushes(first: int, tasks: int) -> Iterator[Push]:
    for start in range(first, tasks, AT_ONCE):
        numbers = range(start, start + AT_ONCE)
        yield Push(tuple(NewTask(f"t{n}", "kind", b"payload", "owner", priority=Priority(n % 5)) for n in numbers))


def test_ten_thousand_tasks_cost_no_more_each_than_two_hundred() -> None:
    """So a hundred thousand cost ten times as much as ten thousand; how long that takes, `python -m bench` measures."""
    short, long = Bulk(200), Bulk(10_000)
    assert max(push.total() for push in long.pushes) <= 1.02 * short.pushes[-1].total()
    few = short.costs()
    for name, calls in long.costs().items():
        for kind in calls:
            assert calls[kind] <= few[name][kind] + 2, (name, kind, calls, few[name])
