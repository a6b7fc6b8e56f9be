"""What it costs to be there: starting, joining, and the memory of those who wait; each in a fresh process."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measuring import Role, Row, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measuring import Figures, Scale

REPOSITORY = Path(__file__).parents[2]
START, JOIN = "start and import", "join"
IMPORTED = (
    ("python alone", Role.FLOOR, "sys"),
    ("cross-instance", Role.OURS, "cross_instance"),
    ("diskcache", Role.PEER, "diskcache"),
    ("pyrate-limiter", Role.PEER, "pyrate_limiter"),
    ("limits", Role.UNCOORDINATED, "limits"),
    ("aiolimiter", Role.UNCOORDINATED, "aiolimiter"),
)
WAITING = (
    ("a task and a future", Role.FLOOR, "tasks", "asyncio"),
    ("cross-instance, AsyncRuntime", Role.OURS, "ours", "cross_instance"),
    ("aiolimiter", Role.UNCOORDINATED, "aiolimiter", "aiolimiter"),
)


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers = count()
    yield [
        *(
            Subject(name, role, partial(_start, module), START)
            for name, role, module in IMPORTED
            if find_spec(module) is not None
        ),
        Subject("cross-instance, Runtime", Role.OURS, partial(_join, folder, numbers), JOIN),
        *(
            Subject(name, role, partial(_wait, what, folder, numbers, scale.waiters), f"{scale.waiters:,} waiters")
            for name, role, what, module in WAITING
            if find_spec(module) is not None
        ),
    ]


def _start(module: str) -> Figures:
    begun = time.monotonic_ns()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return {"ms": (time.monotonic_ns() - begun) / 1e6}


def _join(folder: Path, numbers: Iterator[int]) -> Figures:
    """In a new folder, and then beside what is there."""
    own = folder / str(next(numbers))
    return {"in a new folder ms": _alone("join", own, 0), "in a used folder ms": _alone("join", own, 0)}


def _wait(what: str, folder: Path, numbers: Iterator[int], waiters: int) -> Figures:
    return {"MB": _alone(what, folder / str(next(numbers)), waiters)}


def _alone(what: str, folder: Path, waiters: int) -> float:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bench.alone", what, str(folder), str(waiters)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    return float(done.stdout)


ROW = Row(
    name="startup",
    title="Start-up and memory",
    method=(
        "Each in a fresh process: starting Python with the import; joining the embedded store, the first in a new "
        "folder and in one that another has used; and by how much the process grows when 10,000 tasks wait for a "
        "permit."
    ),
    rounds=5,
    targets=(),
    shown="ms",
    subjects=subjects,
)
