"""Work that is all one process's, and three idle ones beside it: how close to the ideal it is done."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench.crew import helper
from bench.measuring import Role, Row, Subject, Target
from bench.ours import settings_for
from bench.task_workers import serve_waits
from cross_instance import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.measuring import Figures, Scale

WORKERS = tuple(f"worker-{number}" for number in range(4))
SHORTEST, LONGEST = 0.05, 0.5
"""Seconds of a task."""
REST = 20.0
"""Seconds for which the store is watched once all is done."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers, lengths = count(), _lengths(scale.uneven_seconds)
    ideal = sum(lengths) / len(WORKERS) + max(lengths)
    yield [
        Subject("work / processes + the longest task", Role.FLOOR, lambda: {"makespan s": ideal}),
        Subject("cross-instance", Role.OURS, partial(_measure, folder, numbers, lengths, steal=True)),
        Subject(
            "cross-instance, no stealing", Role.UNCOORDINATED, partial(_measure, folder, numbers, lengths, steal=False)
        ),
    ]


def _lengths(seconds: float) -> list[float]:
    chance, lengths = random.Random(1), list[float]()
    while sum(lengths) < seconds:
        lengths.append(round(chance.uniform(SHORTEST, LONGEST), 3))
    return lengths


def _measure(folder: Path, numbers: Iterator[int], lengths: Sequence[float], *, steal: bool) -> Figures:
    own = folder / str(next(numbers))
    own.mkdir()
    with Runtime("submitter", settings=settings_for(own, {})) as runtime, ExitStack() as stack:
        workers = [stack.enter_context(helper(serve_waits, own, name, steal))[1] for name in WORKERS]
        for worker in workers:
            worker.recv()
        begun = time.monotonic()
        for handle in runtime.submit_many("wait", [(seconds,) for seconds in lengths], queue=WORKERS[0]):
            handle.wait()
        makespan = time.monotonic() - begun
        moved = _moved(runtime)
        if not steal:
            return {"makespan s": makespan, "moved": moved}
        time.sleep(min(REST, makespan))
        return {"makespan s": makespan, "moved": moved, "moved at rest": _moved(runtime) - moved}


def _moved(runtime: Runtime) -> int:
    """How many tasks were stolen."""
    return sum(steal.tasks for steal in runtime.tasks.summary().steals if steal.victim)


ROW = Row(
    name="task-sharing",
    title="Uneven work of one process, three idle ones beside it",
    method=(
        "Tasks of 0.05 to 0.5 s, 40 s of work in all, are submitted to one of four processes that work at one task "
        "each: seconds from the submission until all are done, with stealing and without; how many tasks were moved, "
        "and how many in the time after it, when nobody had anything to do. The floor is what no order of the tasks "
        "exceeds, were moving them free."
    ),
    rounds=3,
    targets=(
        Target("makespan s", "at most", 1.1, of_floor=True),
        Target("moved at rest", "at most", 0),
    ),
    shown="makespan s",
    subjects=subjects,
)
