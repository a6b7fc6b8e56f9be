"""A permit and its settlement, by one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import ours, peers
from bench.contenders import FOREVER, absent
from bench.floors import FLOOR
from bench.measuring import Row, Subject, Target, installed, latencies

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from bench.contenders import Contender, Sampler
    from bench.measuring import Figures, Scale

CONTENDERS = (FLOOR, ours.STORE, ours.RUNTIME, ours.ASYNC_RUNTIME, *peers.SHARED, *peers.ALONE)


def _subject(contender: Contender, scale: Scale, folder: Path, stack: ExitStack) -> Subject:
    sample: Sampler = stack.enter_context(contender.open(folder))

    def run() -> Figures:
        return latencies(sample(scale.samples, FOREVER))

    return Subject(contender.name, contender.role, run)


ROW = Row(
    name="permit",
    title="A permit and its settlement, one process",
    method=(
        "3,000 times in a row: take a permit and give it back, each timed by itself; the limits (requests, tokens, "
        "slots) never bind. `store` is the two operations on the embedded store; `Runtime` and `AsyncRuntime` are "
        "`with runtime.permit(...)`. The floor is one read-modify-write of one record behind the same gate, in a file "
        "with the same settings."
    ),
    rounds=7,
    targets=(Target("p50 µs", "at most", 4, of_floor=True),),
    shown="p50 µs",
    if_missed=(
        "a permit is two operations, each of which passes the gate, commits a transaction and is decided by rules in "
        "Python. Two operations that only pass the gate and read and write the same records take more than two floors, "
        "since the file is written through its map and the floor is half of what it was when the target was set; the "
        "next table gives the parts. What was written last is not decoded again, and limits that a request does not "
        "touch are left alone; what remains is spread over the whole path, and takes compiled rules to shorten."
    ),
    subjects=installed(CONTENDERS, _subject),
    absent=absent(CONTENDERS),
)
