"""A hundred thousand tasks submitted together: how long it takes, and whether the last cost what the first did."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench.measuring import Role, Row, Subject, Target
from bench.queues import OURS, opened
from bench.rows.tasks import RECORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.queues import TaskQueue

PARTS = 10
AT_ONCE = 100
"""Tasks of one operation, which are synced together."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers = count()
    yield [
        Subject("writes and fdatasync", Role.FLOOR, partial(_written, folder / "floor", scale.bulk_tasks)),
        *(
            Subject(queue.name, queue.role, partial(_submitted, queue, folder, numbers, scale.bulk_tasks))
            for queue in OURS
            if queue.is_installed
        ),
    ]


def _timed(tasks: int, submit: Callable[[range], object]) -> Figures:
    """Submit part by part; seconds in all, and those of the last part over those of the first."""
    part, marks = tasks // PARTS, [time.monotonic()]
    for number in range(PARTS):
        submit(range(number * part, (number + 1) * part))
        marks.append(time.monotonic())
    return {"s": marks[-1] - marks[0], "last / first": (marks[-1] - marks[-2]) / (marks[1] - marks[0])}


def _written(path: Path, tasks: int) -> Figures:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(numbers: range) -> None:
        for _ in range(0, len(numbers), AT_ONCE):
            os.write(descriptor, RECORD * AT_ONCE)
            os.fdatasync(descriptor)

    figures = _timed(tasks, write)
    os.close(descriptor)
    return figures


def _submitted(queue: TaskQueue, folder: Path, numbers: Iterator[int], tasks: int) -> Figures:
    with opened(queue, folder / str(next(numbers))) as (_, client):
        assert client.submit_many is not None
        return _timed(tasks, client.submit_many)


ROW = Row(
    name="task-bulk",
    title="100,000 tasks submitted together",
    method=(
        "100,000 tasks are submitted with `submit_many`, ten thousand at a time, which go in operations of a hundred: "
        "seconds until all are kept, and the time of the last ten thousand over that of the first. The floor is as "
        "many bytes written and synced as often."
    ),
    rounds=1,
    targets=(Target("last / first", "at most", 2),),
    shown="s",
    subjects=subjects,
    absent=tuple(f"{queue.name} (not installed)" for queue in OURS if not queue.is_installed),
)
