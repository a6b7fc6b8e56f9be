"""No wake is lost: while a task of the common queue waits, nobody who is able to do it stays idle untold."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import given, strategies as st
from tests.rules.support import Case

from cross_instance.rules.operations import (
    Claim,
    Finish,
    Leave,
    ListTasks,
    NewTask,
    Operation,
    Priority,
    Push,
    Sweep,
    TaskEnd,
    TaskOutcome,
    TaskState,
)

TAGS = ((), ("gpu",), ("large",), ("gpu", "large"))


@dataclass
class Worker:
    """Runs one task at a time; `idle` under the seq by which it can be woken, until it is."""

    incarnation: int
    tags: tuple[str, ...]
    seq: int = 0
    idle: bool = False
    running: list[tuple[str, int]] = field(default_factory=list)


class Crew:
    """Workers that do nothing but what they are woken for."""

    def __init__(self) -> None:
        self.case = Case()
        self.workers: list[Worker] = []
        self.names = 0

    def run(self, op: Operation[Any]) -> Any:
        answer = self.case.run(op)
        for wake in answer.wakes:
            for worker in self.workers:
                if (worker.incarnation, worker.seq) == (wake.incarnation, wake.seq):
                    worker.idle = False
        return answer

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    def push(self, tags: tuple[str, ...], priority: Priority) -> None:
        self.run(Push((NewTask(self.name(), "kind", tags=tags, priority=priority),)))

    def come(self, tags: tuple[str, ...]) -> None:
        self.workers.append(Worker(self.case.join(self.name()), tags))
        self.claim(self.workers[-1])

    def claim(self, worker: Worker) -> None:
        worker.seq += 1
        answer = self.run(Claim(worker.incarnation, worker.seq, tags=worker.tags))
        worker.running = [(task.spec.task, task.epoch) for task in answer.tasks]
        worker.idle = not worker.running

    def act(self, number: int, how: str) -> None:
        """What a worker does next: it claims when it was woken, ends what it runs, or goes in some way."""
        if not self.workers:
            return
        worker = self.workers[number % len(self.workers)]
        if how == "work" and worker.running:
            (held,) = worker.running
            outcome = TaskOutcome.RELEASED if number % 3 == 0 else TaskOutcome.DONE
            self.run(Finish(worker.incarnation, (TaskEnd(*held, outcome),)))
            self.claim(worker)
        elif how == "work" and not worker.idle:
            self.claim(worker)
        elif how != "work":
            self.workers.remove(worker)
            ends: dict[str, Operation[Any]] = {
                "dies": Sweep((worker.incarnation,)),
                "leaves": Leave(worker.incarnation),
                "retires": Claim(worker.incarnation, worker.seq + 1, most=0),
            }
            self.run(ends[how])
            for task, epoch in worker.running if how == "retires" else ():
                self.run(Finish(worker.incarnation, (TaskEnd(task, epoch),)))

    def check(self) -> None:
        for info in self.run(ListTasks(TaskState.QUEUED, most=1_000)).tasks:
            able = [worker for worker in self.workers if set(info.spec.tags) <= set(worker.tags)]
            woken = [worker for worker in able if not worker.idle and not worker.running]
            assert woken or all(not worker.idle for worker in able), f"nobody was told of {info.spec.task}"


def step(crew: Crew, random: Random) -> None:
    """One thing that happens: mostly work, and as much to do as there are hands."""
    match random.choices(("push", "come", "work", "end"), (20, 4, 25, 3))[0]:
        case "push":
            crew.push(random.choice(TAGS), random.choice([*Priority]))
        case "come":
            crew.come(random.choice(TAGS))
        case "work":
            crew.act(random.randrange(20), "work")
        case _:
            crew.act(random.randrange(20), random.choice(("dies", "leaves", "retires")))


@given(st.integers(0, 1 << 32))
def test_whoever_is_idle_and_able_is_told_or_another_is(seed: int) -> None:
    crew, random = Crew(), Random(seed)
    for tags in (*TAGS, *TAGS):
        crew.come(tags)
    for _ in range(200):
        step(crew, random)
        crew.check()
