"""A limit that nobody tells, found by real processes: the scene of `cross-instance demo --hidden`."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.measuring import Role, Row, Subject, Target
from cross_instance.cli.demo.hidden import find
from cross_instance.cli.demo.scene import FOUND, HIDDEN_BURST, HIDDEN_PARTS, HIDDEN_PER_MINUTE
from cross_instance.cli.processes import private_folder, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from cross_instance.cli.demo.hidden import Search


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:  # noqa: ARG001 - the demo has one of its own
    seconds = scale.hidden_seconds
    yield [
        Subject("what the provider lets in", Role.FLOOR, partial(_ceiling, seconds)),
        Subject("cross-instance, SDK client", Role.OURS, partial(_run, seconds)),
    ]


def _ceiling(seconds: float) -> Figures:
    return {"accepted/min": HIDDEN_PER_MINUTE + HIDDEN_BURST * 60 / seconds, "429s": 0}


def _run(seconds: float) -> Figures:
    search = asyncio.run(_searched(seconds))
    last = search.moments[-1]
    found = seconds if search.found is None else search.found
    return {"accepted/min": last.accepted * 60 / seconds, "429s": last.rejected, "found after s": found}


async def _searched(seconds: float) -> Search:
    with private_folder() as folder:
        async with started("demo.worker", *(part.name for part in HIDDEN_PARTS)) as workers:
            return await find(workers, seconds, folder)


ROW = Row(
    name="hidden",
    title="A limit that nobody tells, three processes",
    method=(
        f"A provider that lets in {HIDDEN_PER_MINUTE} requests per minute, {HIDDEN_BURST} at once, and says nothing "
        "of it but 429, serves three processes with OpenAI's SDK for 90 s, each with twelve tasks under way. They "
        "begin with the preset of 500 and nothing learned. Shown are the requests that were let in, per minute, the "
        "search included; the 429s; and after how long what is learned lay within "
        f"{FOUND:.0%} of the limit (where it never did: the length of the run)."
    ),
    rounds=3,
    targets=(Target("found after s", "at most", 60),),
    shown="429s",
    subjects=subjects,
)
