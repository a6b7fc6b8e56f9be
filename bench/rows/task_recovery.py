"""A task whose worker is killed: how soon another one begins it anew, and where it never is."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench import slots
from bench.crew import helper
from bench.measuring import Role, Row, Subject, Target
from bench.queues import QUEUES, await_notes, opened
from bench.rows import recovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.queues import TaskQueue

AFTER, NEVER = "begun again after s", "never"
BEFORE = 0.3, 0.8
"""Seconds for which the other worker has been idle when the first is killed, drawn anew each time."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers = count()
    yield [
        Subject(slots.FLOCK.name, Role.FLOOR, partial(_lock, folder / "floor")),
        *(
            Subject(queue.name, queue.role, partial(_measure, queue, scale, folder, numbers))
            for queue in QUEUES
            if queue.is_installed
        ),
    ]


def _lock(folder: Path) -> Figures:
    folder.mkdir()
    with slots.FLOCK.open(folder, False) as slot:
        return {AFTER: recovery.recovery(slots.FLOCK, slot, folder) / 1e9}


def _measure(queue: TaskQueue, scale: Scale, folder: Path, numbers: Iterator[int]) -> Figures:
    """The longest of some recoveries; of a peer, which may take minutes, of one."""
    kills = scale.kills if queue.role is Role.OURS else 1
    seconds = [_recovery(queue, folder / str(next(numbers)), scale.patience) for _ in range(kills)]
    lost = seconds.count(None)
    begun = [took for took in seconds if took is not None]
    return ({AFTER: max(begun)} if begun else {}) | {NEVER: lost}


def _recovery(queue: TaskQueue, folder: Path, patience: float) -> float | None:
    """Seconds from the death of a task's worker until another one begins it; None where none has by then."""
    with opened(queue, folder) as (place, client), helper(queue.serve, place) as (holder, told):
        told.recv()
        client.hold(0)
        await_notes(place, 1)
        with helper(queue.serve, place) as (_, heir):
            heir.recv()
            time.sleep(random.uniform(*BEFORE))
            killed = time.monotonic_ns()
            holder.kill()
            try:
                return (await_notes(place, 2, patience)[-1].at - killed) / 1e9
            except TimeoutError:
                return None


ROW = Row(
    name="task-recovery",
    title="kill -9 of a task's worker",
    method=(
        "A process that runs a task is killed with SIGKILL while another one is idle: seconds until that one begins "
        "the task anew (the longest of three kills; of a peer, which may take minutes, one), and how many times it "
        "had not after two minutes. The floor is a flock that the kernel frees. huey takes a task out of its queue "
        "before it runs, so with its worker it is lost; its documentation says so. dramatiq gives it back when "
        "another worker, at one in a thousand of its calls, finds that the dead one's last heartbeat is a minute old. "
        "Where it was waited for longer, that was after 164 s once. procrastinate leaves the task marked as running "
        "until somebody asks for stalled jobs and retries them; nothing does so by itself."
    ),
    rounds=1,
    targets=(Target(AFTER, "at most", 1), Target(NEVER, "at most", 0)),
    shown=AFTER,
    subjects=subjects,
    absent=tuple(f"{queue.name} (not installed)" for queue in QUEUES if not queue.is_installed),
)
