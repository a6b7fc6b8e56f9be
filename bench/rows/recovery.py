"""How soon the slot of a process that was killed reaches a waiter in another process."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from bench import slots
from bench.crew import helper
from bench.measuring import Row, Subject, Target, installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from bench.slots import Means, Slot

MEANS = (slots.FLOCK, slots.RUNTIME, slots.FILELOCK)
BEFORE = 0.3, 0.8
"""Seconds for which the waiter has waited when the holder is killed, drawn anew each time."""


def _subject(means: Means, scale: Scale, folder: Path, stack: ExitStack) -> Subject:
    slot = stack.enter_context(means.open(folder, False))

    def run() -> Figures:
        return {"longest ms": max(recovery(means, slot, folder) for _ in range(scale.kills)) / 1e6}

    return Subject(means.name, means.role, run)


def recovery(means: Means, slot: Slot, folder: Path) -> int:
    """Nanoseconds from the holder's death until its slot is ours."""
    killed: list[int] = []
    with helper(serve_holder, means.open, folder) as (holder, told):
        told.recv()
        killer = threading.Thread(target=_kill, args=(holder, killed))
        killer.start()
        taken = slot.take()
        killer.join()
    slot.give()
    return taken - killed[0]


def _kill(holder: BaseProcess, killed: list[int]) -> None:
    time.sleep(random.uniform(*BEFORE))
    killed.append(time.monotonic_ns())
    holder.kill()


def serve_holder(
    connection: Connection[Any, Any], opener: Callable[[Path, bool], AbstractContextManager[Slot]], folder: Path
) -> None:
    """The life of the process that is killed."""
    with opener(folder, True) as slot:
        slot.take()
        connection.send("held")
        connection.recv()


ROW = Row(
    name="recovery",
    title="kill -9 of a holder",
    method=(
        "A process that holds the only slot is killed with SIGKILL while another waits for it: from the kill until the "
        "waiter has the slot, the longest of three kills in each round. The floor is a flock that the kernel frees. A "
        "semaphore of diskcache is not shown: it leaks its slot for ever."
    ),
    rounds=5,
    targets=(Target("longest ms", "at most", 1_000),),
    shown="longest ms",
    subjects=installed(MEANS, _subject),
)
