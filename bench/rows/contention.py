"""The same by several processes at once, all as fast as they can."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import ours, peers
from bench.contenders import absent
from bench.crew import Crew, helper, serve_permits
from bench.floors import FLOOR
from bench.measuring import Row, Subject, Target, latencies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.contenders import Contender
    from bench.measuring import Figures, Scale

CONTENDERS = (FLOOR, ours.STORE, ours.RUNTIME, *peers.SHARED)
SIZES = (2, 4)
LONG = 50_000_000
"""Nanoseconds from which a wait counts as a stall."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    with ExitStack() as stack:
        yield [
            Subject(contender.name, contender.role, partial(_compete, crew, size, scale.seconds), f"{size} processes")
            for contender in CONTENDERS
            if contender.is_installed
            for crew in [_crew(contender, folder, stack)]
            for size in SIZES
        ]


def _crew(contender: Contender, folder: Path, stack: ExitStack) -> Crew:
    own = folder / str(CONTENDERS.index(contender))
    own.mkdir()
    first = _member(contender, own, stack)
    first.recv()  # it has made what the others will find
    others = [_member(contender, own, stack) for _ in range(max(SIZES) - 1)]
    for other in others:
        other.recv()
    return Crew([first, *others])


def _member(contender: Contender, folder: Path, stack: ExitStack) -> Connection[Any, Any]:
    return stack.enter_context(helper(serve_permits, contender.open, folder))[1]


def _compete(crew: Crew, size: int, seconds: float) -> Figures:
    durations = crew.compete(size, seconds)
    return {
        "pairs/s": len(durations) / seconds,
        **latencies(durations),
        "max ms": max(durations) / 1e6,
        "over 50 ms": sum(duration > LONG for duration in durations),
    }


ROW = Row(
    name="contention",
    title="A permit and its settlement, several processes at once",
    method=(
        "2 and 4 processes take permits and give them back as fast as they can for one second; the durations of all "
        "are put together. With four busy processes on two cores a process is at times not running at all: the floor's "
        "longest wait tells how long."
    ),
    rounds=7,
    targets=(
        Target("pairs/s", "at least", 0.3, of_floor=True, case="4 processes"),
        Target("p99 µs", "at most", 1_000, case="4 processes"),
        Target("max ms", "at most", 50, case="4 processes"),
    ),
    shown="pairs/s",
    if_missed=(
        "nearly all of an operation is spent inside the gate, so the rate of all processes together is bounded by the "
        "cost of one pair, and the ratio to the floor is about that of one process (the tables above). With more busy "
        "processes than cores the 99th percentile is a time slice of the scheduler, unless operations are so "
        "short that fewer than one in a hundred is interrupted: the floor's are."
    ),
    subjects=subjects,
    absent=absent(CONTENDERS),
)
