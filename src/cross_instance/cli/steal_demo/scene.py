"""The scene of the steal demo, as data: twenty tasks of uneven length, all of them submitted to one process of three.

Each process works at one task at a time. A task waits as long as its weight says, as one that calls a model would: so
the time that is saved is that of waiting side by side, whatever the number of cores.
"""

from __future__ import annotations

import msgspec

PROCESSES = ("worker-1", "worker-2", "worker-3")
LADEN = PROCESSES[0]
"""The process that all tasks are meant for."""

WEIGHTS = (1, 2, 1, 6, 1, 3, 1, 1, 2, 4) * 2
SECONDS = 24.0
"""How long all tasks together last by default; with both runs and the start of the processes, the demo stays below a
minute."""


def durations(seconds: float) -> tuple[float, ...]:
    """How long each task lasts, in the order of submission, where all of them last so many seconds."""
    return tuple(seconds * weight / sum(WEIGHTS) for weight in WEIGHTS)


class Plan(msgspec.Struct, frozen=True):
    """What a worker is told before a run: its name, the run's folder, whether it steals, and the tasks to submit."""

    name: str
    folder: str
    steal: bool
    durations: tuple[float, ...]
