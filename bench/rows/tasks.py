"""Durable tasks: submitting them, how soon they start, how many run per second, and how soon after `kill -9`."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from bench import servers
from bench.crew import helper
from bench.measuring import Role, Row, Subject, quantile
from bench.ours import settings_for
from bench.queues import OURS, QUEUES, Place, notes_in
from cross_instance import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.queues import Client, Note, TaskQueue

WORKERS = 4
PAUSE = 0.02, 0.1
"""Seconds between two tasks that are timed one by one, drawn anew each time."""
PATIENCE = 120.0
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
    own = folder / str(next(numbers))
    own.mkdir()
    server = getattr(servers, queue.server)() if queue.server else nullcontext("")
    with server as address, queue.open(Place(own, address)) as client, ExitStack() as stack:
        place = Place(own, address)
        figures = _filled(client, scale.tasks)
        workers = [stack.enter_context(helper(queue.serve, place))[1] for _ in range(WORKERS)]
        for worker in workers:
            worker.recv()
        total = 2 * scale.tasks if client.submit_many else scale.tasks
        _await_notes(place, total)
        figures |= {"tasks/s": _rate(notes_in(place))}
        latencies = sorted(_latency(client, place, total + number) for number in range(scale.starts))
        figures |= {"start p50 ms": quantile(latencies, 0.5) / 1e6, "start p95 ms": quantile(latencies, 0.95) / 1e6}
    if queue is OURS:
        figures |= {"after kill -9 s": max(_recovery(folder, numbers) for _ in range(scale.kills))}
    return figures


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
    return _await_notes(place, number + 1)[-1].at - begun


def _await_notes(place: Place, many: int) -> list[Note]:
    """All notes, once there are so many."""
    deadline = time.monotonic() + PATIENCE
    while len(notes := notes_in(place)) < many:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{many - len(notes)} of {many} tasks were not run within {PATIENCE:.0f} s")
        time.sleep(0.001)
    return notes


def _recovery(folder: Path, numbers: Iterator[int]) -> float:
    """Seconds from the death of a task's worker until another one begins it anew."""
    place = Place(folder / str(next(numbers)))
    place.folder.mkdir()
    with Runtime(settings=settings_for(place.folder, {})) as runtime, helper(OURS.serve, place) as (holder, told):
        told.recv()
        runtime.submit("hold", 0)
        _await_notes(place, 1)
        with helper(OURS.serve, place) as (_, heir):
            heir.recv()
            time.sleep(random.uniform(*PAUSE))
            killed = time.monotonic_ns()
            holder.kill()
            return (_await_notes(place, 2)[-1].at - killed) / 1e9


ROW = Row(
    name="tasks",
    title="Durable tasks",
    method=(
        "Tasks that do next to nothing are submitted one by one, and where there is a way also all together, while "
        "nobody works; then four processes with eight threads each work them off; then one is submitted at a time, to "
        "see how soon it begins; at last the process that runs a task is killed, to see how soon another one begins "
        "it anew (the longest of three). cross-instance, huey on SQLite (with its fsync switched on) and PostgreSQL "
        "have a task on the disk when its submission returns; Redis (Valkey, on a Unix socket) keeps it in memory. The "
        "floor is the same number of bytes written and synced. After kill -9: huey has taken the task out of its queue "
        "before it runs, and loses it; dramatiq gives it back 60 s after the last heartbeat of its worker; "
        "procrastinate leaves it until somebody asks for stalled jobs and retries them. Where others are ahead of "
        "cross-instance, it is by what they leave out: Redis syncs nothing; huey on SQLite deletes a task in one "
        "synced transaction before it runs, and writes nothing at its end, while here it is claimed under a lease "
        "that outlives its owner, and its end is recorded with its attempts and its result, all decided in Python."
    ),
    rounds=3,
    targets=(),
    shown="tasks/s",
    subjects=subjects,
    absent=tuple(f"{queue.name} (not installed)" for queue in QUEUES if not queue.is_installed),
)
