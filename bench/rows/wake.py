"""How long a waiter in another process sleeps on after the slot it waits for is free."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from bench import slots
from bench.crew import helper
from bench.measuring import Row, Subject, Target, installed, latencies

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.slots import Means, Slot

MEANS = (slots.DATAGRAM, slots.RUNTIME, slots.ASYNC_RUNTIME, slots.SEMAPHORE, slots.FILELOCK)
SETTLING = 0.02
"""Seconds in which a process that has said it will ask is certainly waiting."""


def _subject(means: Means, scale: Scale, folder: Path, stack: ExitStack) -> Subject:
    _, waiter = stack.enter_context(helper(serve_waiter, means.open, folder))
    waiter.recv()
    slot = stack.enter_context(means.open(folder, True))

    def run() -> Figures:
        return latencies([_wake(slot, waiter) for _ in range(scale.wakes)])

    return Subject(means.name, means.role, run)


def _wake(slot: Slot, waiter: Connection[Any, Any]) -> int:
    """Nanoseconds from before the slot is freed until the other process has it."""
    slot.take()
    waiter.send("take it")
    waiter.recv()
    time.sleep(SETTLING + random.uniform(0, SETTLING))
    freed = time.monotonic_ns()
    slot.give()
    taken: int = waiter.recv()
    return taken - freed


def serve_waiter(
    connection: Connection[Any, Any], opener: Callable[[Path, bool], AbstractContextManager[Slot]], folder: Path
) -> None:
    """The life of the process that waits."""
    with opener(folder, False) as slot:
        connection.send("ready")
        while connection.recv() is not None:
            connection.send("asking")
            taken = slot.take()
            slot.give()
            connection.send(taken)


ROW = Row(
    name="wake",
    title="Wake in another process after a release",
    method=(
        "One process holds the only slot, another waits for it. From the instant before the release until the "
        "other has the slot: the settlement, the wake-up and the waiter's own operation on the store. The floor is a "
        "single datagram between two processes. Peers poll: diskcache every millisecond, filelock every 50."
    ),
    rounds=7,
    targets=(Target("p50 µs", "at most", 150),),
    shown="p50 µs",
    if_missed=(
        "processes that have slept find cold caches, as the floor shows, which is several times its figure without "
        "pauses; and between release and grant lie a settlement that grants, a thread that reads the wake-up, the "
        "waiter, and its operation on the store, some 350 calls in Python. It takes a shorter path through the rules "
        "for both operations, and one thread less."
    ),
    subjects=installed(MEANS, _subject),
)
