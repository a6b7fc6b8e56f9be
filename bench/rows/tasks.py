"""Durable tasks: submitting them, how many run per second, how soon they start."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench.crew import helper
from bench.measuring import Role, Row, Subject, quantile
from bench.queues import QUEUES, await_notes, notes_in, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.queues import Client, Note, Place, TaskQueue

WORKERS = 4
PAUSE = 0.02, 0.1
"""Seconds between two tasks that are timed one by one, drawn anew each time."""
RECORD = b"x" * 300
"""About what is written for one task."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers = count()
    yield [
        Subject("a write and fdatasync", Role.FLOOR, partial(_synced_writes, folder / "floor", scale.tasks)),
        *(
            Subject(queue.name, queue.role, partial(_measure, queue, scale, folder, numbers))
            for queue in QUEUES
            if queue.is_installed
        ),
    ]


def _synced_writes(path: Path, writes: int) -> Figures:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begun = time.monotonic_ns()
    for _ in range(writes):
        os.write(descriptor, RECORD)
        os.fdatasync(descriptor)
    ended = time.monotonic_ns()
    os.close(descriptor)
    return {"submit/s": writes * 1e9 / (ended - begun)}


def _measure(queue: TaskQueue, scale: Scale, folder: Path, numbers: Iterator[int]) -> Figures:
    """A new queue: filled while nobody works, worked off by four processes, then given one task at a time."""
    with opened(queue, folder / str(next(numbers))) as (place, client), ExitStack() as stack:
        figures = _filled(client, scale.tasks)
        workers = [stack.enter_context(helper(queue.serve, place))[1] for _ in range(WORKERS)]
        for worker in workers:
            worker.recv()
        total = 2 * scale.tasks if client.submit_many else scale.tasks
        await_notes(place, total)
        figures |= {"tasks/s": _rate(notes_in(place))}
        latencies = sorted(_latency(client, place, total + number) for number in range(scale.starts))
    return figures | {"start p50 ms": quantile(latencies, 0.5) / 1e6, "start p95 ms": quantile(latencies, 0.95) / 1e6}


def _filled(client: Client, tasks: int) -> dict[str, float]:
    begun = time.monotonic_ns()
    for number in range(tasks):
        client.submit(number)
    between = time.monotonic_ns()
    figures = {"submit/s": tasks * 1e9 / (between - begun)}
    if client.submit_many:
        client.submit_many(range(tasks, 2 * tasks))
        figures["together/s"] = tasks * 1e9 / (time.monotonic_ns() - between)
    return figures


def _rate(notes: list[Note]) -> float:
    """Tasks per second, from when the last of the processes had begun."""
    first: dict[int, int] = {}
    for note in notes:
        first.setdefault(note.pid, note.at)
    begun, ended = max(first.values()), max(note.at for note in notes)
    return sum(note.at > begun for note in notes) * 1e9 / max(1, ended - begun)


def _latency(client: Client, place: Place, number: int) -> int:
    """Nanoseconds from submitting a task until it runs."""
    time.sleep(random.uniform(*PAUSE))
    begun = time.monotonic_ns()
    client.submit(number)
    return await_notes(place, number + 1)[-1].at - begun


ROW = Row(
    name="tasks",
    title="Durable tasks",
    method=(
        "Tasks that do next to nothing are submitted one by one, and where there is a way also all together, while "
        "nobody works; then four processes with eight threads each work them off; then one is submitted at a time, to "
        "see how soon it begins. cross-instance in a folder, huey on SQLite (with its fsync switched on) and "
        "PostgreSQL have a task on the disk when its submission returns; Redis (Valkey, on a Unix socket) keeps it in "
        "memory. The floor is the same number of bytes written and synced. Where others are ahead of cross-instance, "
        "it is by what they leave out: Redis syncs nothing; huey on SQLite deletes a task in one synced transaction "
        "before it runs, and writes nothing at its end, while here it is claimed under a lease that outlives its "
        "owner, and its end is recorded with its attempts and its result, all decided in Python. One by one huey on "
        "SQLite flushes the disk once for a task, into SQLite's log, and cross-instance twice, as LMDB does: the "
        "pages of a commit, then the one that makes them valid (strace shows nothing else in between); together, a "
        "hundred tasks share the two. On Redis a task is submitted by a script that looks for its id and its key and "
        "keeps its class, its time and its retention, where others push it onto a list."
    ),
    rounds=3,
    targets=(),
    shown="tasks/s",
    subjects=subjects,
    absent=tuple(f"{queue.name} (not installed)" for queue in QUEUES if not queue.is_installed),
)
