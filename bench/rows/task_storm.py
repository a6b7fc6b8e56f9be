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
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from bench.measuring import Figures, Scale

    Worker = tuple[BaseProcess, Connection[Any, Any]]

WORKERS = 8
KILLS_PER_SECOND = 2
FULLNESS = 0.8
"""Of all slots, the part that the tasks would fill were nobody killed: as much as lasts for the time of the storm."""


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
    length = FULLNESS * scale.storm_seconds * WORKERS * EFFECTS_AT_ONCE / scale.storm_tasks
    with Runtime("submitter", settings=settings_for(own, {})) as runtime:
        handles = runtime.submit_many("effect", [(length,)] * scale.storm_tasks, queue="", max_deaths=1_000)
        seconds, killed = _storm(own, kills, scale.storm_seconds, lambda: _are_done(runtime, len(handles)))
        found = runtime.tasks.find(TaskState.DONE, most=len(handles))
    judgement = judge(effects_in(own), killed, {handle.task for handle in handles})
    return {
        "seconds": seconds,
        "killed": len(killed),
        "begun again": judgement.begun_again,
        "lost": max(judgement.lost, len(handles) - len(found)),
        "finished twice": sum([past.outcome for past in task.attempts].count("done") != 1 for task in found),
        "two owners": judgement.two_owners,
        "stale effects": judgement.stale,
    }


def _are_done(runtime: Runtime, many: int) -> bool:
    return dict(runtime.tasks.summary().states).get(TaskState.DONE) == many


def _storm(folder: Path, kills: int, seconds: float, is_over: Callable[[], bool]) -> tuple[float, dict[int, int]]:
    """Have workers at work until it is over, and so long kill some every second: those that have started.

    Seconds from when all were at work, and when (µs) each was killed, by pid.
    """
    killed: dict[int, int] = {}
    with ExitStack() as stack:
        workers = [_start(folder, stack) for _ in range(WORKERS)]
        for _, told in workers:
            told.poll(None)
        begun = time.monotonic()
        due = begun + 1.0
        while not is_over():
            time.sleep(0.05)
            if kills and due <= time.monotonic() <= begun + seconds:
                due += 1.0
                at_work = [worker for worker in workers if worker[1].poll()]
                for worker in random.sample(at_work, min(kills, len(at_work))):
                    killed[_pid(worker)] = time.monotonic_ns() // 1000
                    worker[0].kill()
                    workers[workers.index(worker)] = _start(folder, stack)
        return time.monotonic() - begun, killed


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
        "10,000 tasks of 0.15 s, eight processes with four slots each; for a minute two are killed with SIGKILL "
        "every second and started anew. Each task logs that it begins and that it is done, with the epoch it is owned "
        "by; the log and the store's records tell how many tasks were lost, finished twice, or had two owners at once, "
        "and how many effects came after one of a later owner. Processes take time to start, so the killed are missing "
        "for a while. The floor is the same with nobody killed."
    ),
    rounds=1,
    targets=tuple(Target(figure, "at most", 0) for figure in ("lost", "finished twice", "two owners", "stale effects")),
    shown="seconds",
    subjects=subjects,
)
