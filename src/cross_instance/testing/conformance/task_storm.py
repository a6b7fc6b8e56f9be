"""A storm of tasks: random operations on tasks, some of them absurd, from one seed, answered as the model answers them.

The crowd knows nothing of the rules: it remembers what it was given, and goes on with tasks that it has lost.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from cross_instance.rules.operations import (
    MINUTE,
    SECOND,
    CancelTask,
    Claim,
    Claimed,
    Finish,
    GetTask,
    HeldTask,
    Join,
    Joined,
    Leave,
    ListTasks,
    NewTask,
    Operation,
    Priority,
    Purge,
    Push,
    Renew,
    Requeue,
    Result,
    SetQueue,
    Sweep,
    TaskEnd,
    TaskOutcome,
    TaskSnapshot,
    TaskState,
    TaskWorld,
)
from cross_instance.testing.conformance.law import Law
from cross_instance.testing.conformance.scene import Scene, require

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS = 400
NAMES = ("one", "two", "größe")
QUEUES = (*NAMES, "", "nobody")
TAGS = ((), (), ("gpu",), ("gpu", "groß"))


def task_storm_law(seed: int) -> Law:
    """The law that a storm of tasks is answered as the model answers it, for one seed."""

    def body(scene: Scene) -> None:
        crowd = Crowd(Random(seed))
        for _ in range(OPERATIONS):
            if scene.clock is not None:
                scene.clock.advance(crowd.random.choice((0, 1, 1_000, SECOND, 20 * SECOND)))
            op = crowd.next()
            try:
                crowd.hear(op, scene.run(op))
            except ValueError:  # the model refuses it too
                continue

    sentence = f"{OPERATIONS} random operations on tasks of seed {seed} are answered as the model answers them."
    return Law(f"task_storm_{seed}", sentence, frozenset(), body)


class Crowd:
    """Careless instances: `living` by name, and every attempt that any of them was ever given."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.living: dict[str, int] = {}
        self.given: list[tuple[int, str, int]] = [(0, "never", 1)]
        self.seq = self.pushed = 0

    def next(self) -> Operation[Any]:
        """The next operation."""
        if len(self.living) < 2:
            return self._join()
        moves: dict[Callable[[], Operation[Any]], int] = {
            self._push: 20,
            self._claim: 30,
            self._finish: 25,
            self._renew: 4,
            self._join: 1,
            self._leave: 2,
            self._queue: 2,
            lambda: CancelTask(self._task()): 4,
            lambda: Requeue(self._task()): 4,
            lambda: GetTask(self._task(), (self._anyone(), self.seq)): 4,
            lambda: ListTasks(self.random.choice([None, *TaskState]), most=5): 2,
            lambda: Purge((self._task(),), self.random.choice([None, *TaskState]), before=1 << 52, most=3): 1,
            TaskSnapshot: 3,
        }
        move: Callable[[], Operation[Any]] = self.random.choices([*moves], [*moves.values()])[0]
        return move()

    def hear(self, op: Operation[Any], result: Result) -> None:
        """Remember what an answer means for what comes next."""
        match op, result:
            case Join(instance_id=name), Joined(incarnation=incarnation):
                self.living[name] = incarnation
            case Claim(incarnation=incarnation), Claimed(tasks=tasks):
                self.given += [(incarnation, task.spec.task, task.epoch) for task in tasks]
            case _, TaskWorld():
                self._adds_up(result)
            case _:
                pass

    def _adds_up(self, world: TaskWorld) -> None:
        states = dict(world.states)
        running = sum(queue.running for queue in world.queues)
        waiting = sum(sum(queue.queued) for queue in world.queues) + world.delayed
        seen = states.get(TaskState.RUNNING, 0), states.get(TaskState.QUEUED, 0)
        require((running, waiting) == seen, f"the queues count {(running, waiting)}, the states {seen}")

    def _join(self) -> Join:
        self.seq += 1
        name = self.random.choice(NAMES)
        return Join(name, f"{self.seq}", 1, "machine", "host", timeout=2 * MINUTE)

    def _push(self) -> Push:
        tasks = []
        for _ in range(self.random.choice((0, 1, 1, 2, 7))):
            self.pushed += self.random.random() < 0.9
            tasks.append(self._new_task())
        return Push(tuple(tasks))

    def _new_task(self) -> NewTask:
        choice = self.random.choice
        return NewTask(
            f"t{self.pushed}",
            choice(("brief", "long")),
            bytes(choice((0, 0, 300, (1 << 20) + 1)) if choice((0, 0, 0, 0, 1)) else 9),
            choice(QUEUES),
            key=choice(("", "", "", "k1", "k2")),
            priority=choice([*Priority]),
            delay=choice((0, 0, 0, SECOND, MINUTE, -1) if choice((0, 0, 0, 1)) else (0,)),
            retries=choice((0, 1, 3)),
            backoff=choice((0, SECOND)),
            max_deaths=choice((1, 2)),
            retention=choice((0, SECOND, 100 * MINUTE)),
            stealable=choice((True, True, False)),
            tags=choice(TAGS),
        )

    def _claim(self) -> Claim:
        self.seq += self.random.random() < 0.9
        steal, gain = self.random.random() < 0.5, self.random.choice((0, 0, 3 * SECOND))
        return Claim(
            self._anyone(), self.seq, self.random.choice((0, 1, 1, 1, 2, 9)), steal, gain, self.random.choice(TAGS)
        )

    def _finish(self) -> Finish:
        outcomes = [outcome for outcome in TaskOutcome if self.random.random() < 0.9 or outcome is TaskOutcome.DONE]
        ends = []
        for _ in range(self.random.choice((1, 1, 3))):
            _, task, epoch = self._given()
            end = TaskEnd(
                task, epoch, self.random.choice(outcomes), b"result", "error", draw=self.random.getrandbits(32)
            )
            ends.append(end)
        return Finish(self._given()[0] if len(ends) > 1 else self._owner_of(ends[0]), tuple(ends))

    def _owner_of(self, end: TaskEnd) -> int:
        return next(incarnation for incarnation, _, epoch in self.given if epoch == end.epoch)

    def _renew(self) -> Renew:
        incarnation, task, epoch = self._given()
        return Renew(incarnation, (HeldTask(task, epoch, self.random.choice((None, b"half"))),))

    def _leave(self) -> Operation[Any]:
        name = self.random.choice([*self.living])
        incarnation = self.living.pop(name)
        return Leave(incarnation) if self.random.random() < 0.3 else Sweep((incarnation,))

    def _queue(self) -> SetQueue:
        return SetQueue(self.random.choice(QUEUES), paused=self.random.random() < 0.3)

    def _given(self) -> tuple[int, str, int]:
        return self.random.choice(self.given[-8:])

    def _task(self) -> str:
        return f"t{self.random.randint(max(0, self.pushed - 30), self.pushed)}"

    def _anyone(self) -> int:
        return self.random.choice([*self.living.values(), *self.living.values(), self._given()[0]])
