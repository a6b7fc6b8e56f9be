"""What the demo measured, from two sources only: the provider's own count, and the callers' clocks.

Requests and 429s are counted by the provider, from the first request it saw to the end of the run. A duration is the
time from asking for a file's summary to having it, with every wait and retry inside; files still asked for at the end
are not counted, which favours the run that makes them wait longest.
"""

from __future__ import annotations

from statistics import quantiles
from typing import TYPE_CHECKING

import msgspec

from cross_instance.cli.demo.scene import PARTS, ceiling
from cross_instance.testing.provider.statistics import Statistics  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cross_instance.cli.demo.scene import Ended, Part


class Figures(msgspec.Struct, frozen=True, rename="camel"):
    """Base: snake_case in Python, camelCase in JSON."""


class ProcessFigures(Figures, frozen=True):
    """One process: `p50` and `p95` in seconds (None without an answer); `gave_up`: times the SDK gave up."""

    name: str
    tasks: int
    answered: int
    gave_up: int
    rate_limited: int
    p50: float | None
    p95: float | None


class Seen(msgspec.Struct, frozen=True):
    """What the provider had seen `seconds` after the first request."""

    statistics: Statistics
    seconds: float


class RunFigures(Figures, frozen=True):
    """One run of `seconds`: requests let in and 429s, beside the most that could have been let in."""

    seconds: float
    requests: int
    ceiling: float
    requests_per_minute: float
    ceiling_per_minute: float
    used: float
    rate_limited: int
    processes: tuple[ProcessFigures, ...]

    @property
    def gave_up(self) -> int:
        """Calls that the SDK gave up."""
        return sum(process.gave_up for process in self.processes)

    @property
    def light_p95(self) -> float | None:
        """The largest p95 of the processes with one task at a time."""
        return max((p.p95 for p in self.processes if p.tasks == 1 and p.p95 is not None), default=None)


def run_figures(seen: Seen, finally_seen: Statistics, ended: Mapping[str, Sequence[Ended]]) -> RunFigures:
    """Figures from what the provider had seen when the run ended, its 429s counted to the very last."""
    requests, most = seen.statistics.total.accepted, ceiling(seen.seconds)
    return RunFigures(
        seconds=round(seen.seconds, 3),
        requests=requests,
        ceiling=round(most, 1),
        requests_per_minute=round(60 * requests / seen.seconds, 1),
        ceiling_per_minute=round(60 * most / seen.seconds, 1),
        used=round(requests / most, 4),
        rate_limited=finally_seen.total.rejected,
        processes=tuple(_process(part, finally_seen, ended[part.name]) for part in PARTS),
    )


def percentiles(seconds: Sequence[float]) -> tuple[float, float] | None:
    """The 50th and the 95th, interpolated between the values seen; None without any."""
    if len(seconds) < 2:
        return (seconds[0], seconds[0]) if seconds else None
    cuts = quantiles(seconds, n=20, method="inclusive")
    return cuts[9], cuts[18]


def summary(alone: RunFigures, shared: RunFigures) -> str:
    """One line that says what changed."""
    light = [seconds_text(run.light_p95) for run in (alone, shared)]
    return (
        f"Sharing: 429s {alone.rate_limited:,} -> {shared.rate_limited:,}, "
        f"failed calls {alone.gave_up:,} -> {shared.gave_up:,}, "
        f"p95 of the small jobs {light[0]} -> {light[1]}, "
        f"use of the ceiling {alone.used:.1%} -> {shared.used:.1%}."
    )


def seconds_text(seconds: float | None) -> str:
    """A duration for people."""
    return "none" if seconds is None else f"{seconds:.2f} s"


def _process(part: Part, seen: Statistics, ended: Sequence[Ended]) -> ProcessFigures:
    answered = [call.seconds for call in ended if call.answered]
    p50, p95 = percentiles(answered) or (None, None)
    tally = seen.clients.get(part.name)
    return ProcessFigures(
        name=part.name,
        tasks=part.tasks,
        answered=len(answered),
        gave_up=len(ended) - len(answered),
        rate_limited=0 if tally is None else tally.rejected,
        p50=None if p50 is None else round(p50, 3),
        p95=None if p95 is None else round(p95, 3),
    )
