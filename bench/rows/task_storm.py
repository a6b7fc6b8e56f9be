"""Workers killed all the time: what is lost, what is done twice, and what it costs."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.crew import helper
from bench.effects import judge
from bench.measuring import Role, Row, Subject, Target
from bench.ours import settings_for
from bench.task_workers import EFFECTS_AT_ONCE, effects_in, serve_effects
from cross_instance import Runtime
from cross_instance.tasks import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from bench.measuring import Figures, Scale

    Worker = tuple[BaseProcess, Connection[Any, Any]]

WORKERS = 8
KILLS_PER_SECOND = 2
FULLNESS = 0.8
"""Of all slots, the part that the tasks would fill were nobody killed: as much as lasts for the time of the storm."""
PATIENCE = 5
"""Times the length of a storm after which it ends though not all were killed that should be."""
TICK = 0.05


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers = count()
    yield [
        Subject(name, role, partial(_measure, folder, numbers, scale, kills))
        for name, role, kills in (
            ("cross-instance, two killed every second", Role.OURS, KILLS_PER_SECOND),
            ("cross-instance, nobody is killed", Role.FLOOR, 0),
        )
    ]


def _measure(folder: Path, numbers: Iterator[int], scale: Scale, kills: int) -> Figures:
    own = folder / str(next(numbers))
    own.mkdir()
    due = round(kills * scale.storm_seconds)
    with Runtime("submitter", settings=settings_for(own, {})) as runtime:
        work = Work(runtime, FULLNESS * scale.storm_seconds * WORKERS * EFFECTS_AT_ONCE / scale.storm_tasks)
        work.add(scale.storm_tasks)
        with ExitStack() as stack:
            storm = Storm(own, stack)
            storm.rage(work, due, scale.storm_seconds)
            seconds = storm.calm(work)
        found = runtime.tasks.find(TaskState.DONE, most=len(work.tasks))
    judgement = judge(effects_in(own), storm.killed, work.tasks)
    return {
        "tasks/s": len(work.tasks) / seconds,
        "seconds": seconds,
        "tasks": len(work.tasks),
        "killed": len(storm.killed),
        "not killed": due - len(storm.killed),
        "begun again": judgement.begun_again,
        "lost": max(judgement.lost, len(work.tasks) - len(found)),
        "finished twice": sum([past.outcome for past in task.attempts].count("done") != 1 for task in found),
        "two owners": judgement.two_owners,
        "stale effects": judgement.stale,
    }


class Work:
    """The tasks, all of one length in seconds."""

    def __init__(self, runtime: Runtime, length: float) -> None:
        self.tasks: set[str] = set()
        self._runtime = runtime
        self._length = length

    def add(self, many: int) -> None:
        calls = [(self._length,)] * many
        self.tasks |= {one.task for one in self._runtime.submit_many("effect", calls, queue="", max_deaths=1_000)}

    def left(self) -> int:
        """How many are not done."""
        return len(self.tasks) - dict(self._runtime.tasks.summary().states).get(TaskState.DONE, 0)


class Storm:
    """Workers, and when (µs) each of those that are not any more was killed, by pid."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.killed: dict[int, int] = {}
        self._folder = folder
        self._stack = stack
        self._workers = [_start(folder, stack) for _ in range(WORKERS)]
        for _, told in self._workers:
            told.poll(None)
        self._begun = time.monotonic()

    def rage(self, work: Work, due: int, seconds: float) -> None:
        """Kill so many in as many seconds, two at once: those that have started. There is always something to do."""
        enough = len(work.tasks) // 20
        until = self._begun + PATIENCE * seconds
        while len(self.killed) < due and time.monotonic() < until:
            time.sleep(TICK)
            if work.left() < enough:
                work.add(enough)
            if len(self.killed) < KILLS_PER_SECOND * (time.monotonic() - self._begun - 1.0):
                self._kill(min(KILLS_PER_SECOND, due - len(self.killed)))

    def _kill(self, many: int) -> None:
        at_work = [worker for worker in self._workers if worker[1].poll()]
        for worker in random.sample(at_work, many if len(at_work) >= many else 0):
            self.killed[_pid(worker)] = time.monotonic_ns() // 1000
            worker[0].kill()
            self._workers[self._workers.index(worker)] = _start(self._folder, self._stack)

    def calm(self, work: Work) -> float:
        """Wait until all is done; seconds since all were at work."""
        while work.left():
            time.sleep(TICK)
        return time.monotonic() - self._begun


def _start(folder: Path, stack: ExitStack) -> Worker:
    return stack.enter_context(helper(serve_effects, folder))


def _pid(worker: Worker) -> int:
    pid = worker[0].pid
    assert pid is not None
    return pid


ROW = Row(
    name="task-storm",
    title="Tasks, while workers are killed",
    method=(
        "10,000 tasks of 0.15 s, eight processes with four slots each; every second two that are at work are killed "
        "with SIGKILL and started anew, until it were 120: a minute, unless the machine starts processes more slowly. "
        "Where the tasks would not last so long, more are submitted. Each task logs that it begins and that it is "
        "done, with the epoch it is owned by; the log and the store's records tell how many tasks were lost, finished "
        "twice, or had two owners at once, and how many effects came after one of a later owner. Processes take time "
        "to start, so the killed are missing for a while. The floor is the same 10,000 with nobody killed."
    ),
    rounds=1,
    targets=tuple(
        Target(figure, "at most", 0)
        for figure in ("not killed", "lost", "finished twice", "two owners", "stale effects")
    ),
    shown="tasks/s",
    subjects=subjects,
)
