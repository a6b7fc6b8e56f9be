"""The vocabulary of the laws on tasks: instances that submit, claim and finish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.rules.operations import (
    CancelTask,
    Claim,
    Claimed,
    ClaimedTask,
    EndedTask,
    Finish,
    Finished,
    GetTask,
    NewTask,
    Push,
    Pushed,
    TaskEnd,
    TaskInfo,
    TaskOutcome,
    TaskSnapshot,
    TaskState,
)
from cross_instance.testing.conformance.mirror import ConformanceError
from cross_instance.testing.conformance.scene import Actor, Scene, require

if TYPE_CHECKING:
    from cross_instance.rules.operations import TaskWorld


def push(scene: Scene, *names: str, **spec: Any) -> Pushed:
    """Submit tasks of these ids, alike in all else."""
    return scene.run(Push(tuple(NewTask(name, **{"kind": "kind", **spec}) for name in names)))


def look(scene: Scene, name: str) -> TaskInfo:
    """A task that must be known."""
    info = scene.run(GetTask(name)).info
    if info is None:
        raise ConformanceError(f"task {name} should be known")
    return info


def state(scene: Scene, name: str) -> TaskState:
    """Where a task stands."""
    return look(scene, name).state


def cancel(scene: Scene, name: str) -> TaskState:
    """Cancel a task that must be known."""
    info = scene.run(CancelTask(name)).info
    if info is None:
        raise ConformanceError(f"task {name} should be known")
    return info.state


def queues(scene: Scene) -> TaskWorld:
    """Everything that can be seen of tasks."""
    return scene.run(TaskSnapshot())


class Worker(Actor):
    """An instance that runs tasks; `running` is what it was given and has not ended."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.running: dict[str, ClaimedTask] = {}
        self.seq = 0

    def next_claim(self, most: int = 1, **asked: Any) -> Claim:
        """A claim that was not made before, as `seq`."""
        self.seq += 1
        return Claim(self.incarnation, self.seq, most, **asked)

    def claim(self, most: int = 1, **asked: Any) -> Claimed:
        """Claim tasks."""
        answer = self.scene.run(self.next_claim(most, **asked))
        if not isinstance(answer, Claimed):
            raise ConformanceError(f"{self.name} could not claim: {answer}")
        self.running |= {task.spec.task: task for task in answer.tasks}
        return answer

    def take(self, most: int = 1, **asked: Any) -> list[str]:
        """The ids of what it is given."""
        return [task.spec.task for task in self.claim(most, **asked).tasks]

    def end(self, name: str, outcome: TaskOutcome = TaskOutcome.DONE, **said: Any) -> EndedTask:
        """End an attempt that is its own."""
        ended = self.try_to_end(TaskEnd(name, self.running.pop(name).epoch, outcome, **said))
        require(ended.known, f"{self.name} owns {name} and can end it")
        return ended

    def try_to_end(self, end: TaskEnd) -> EndedTask:
        """End an attempt, whosever it is."""
        answer = self.scene.run(Finish(self.incarnation, (end,)))
        if not isinstance(answer, Finished):
            raise ConformanceError(f"{self.name} could not end {end.task}: {answer}")
        return answer.tasks[0]
