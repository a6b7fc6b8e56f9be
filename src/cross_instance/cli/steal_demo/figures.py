"""What the steal demo counted, from one source only: the store's own record of each task and of each theft."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.cli.steal_demo.scene import LADEN, PROCESSES
from cross_instance.rules.operations import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cross_instance.rules.operations import StealState
    from cross_instance.tasks.views import TaskStatus


class Figures(msgspec.Struct, frozen=True, rename="camel"):
    """Base: snake_case in Python, camelCase in JSON."""


class Span(Figures, frozen=True):
    """When a task ran, in seconds from the start signal; `stolen`: on a process that it was not meant for."""

    began: float
    ended: float
    stolen: bool


class ProcessFigures(Figures, frozen=True):
    """What one process did; `busy` in seconds, `taken`: tasks that it took from another."""

    name: str
    tasks: int
    taken: int
    busy: float
    spans: tuple[Span, ...]


class RunFigures(Figures, frozen=True):
    """One run: `tasks` done until `seconds` after the start signal, where the last of them ended.

    `bound` is what no way of sharing could need more than, were sharing free: work / processes + the longest task.
    """

    tasks: int
    seconds: float
    work: float
    bound: float
    processes: tuple[ProcessFigures, ...]


def run_figures(tasks: Sequence[TaskStatus], steals: Iterable[StealState], begun: float, now: float) -> RunFigures:
    """Figures of a run that began at a wall time, from its tasks; those that run now are shown until now."""
    done = [task for task in tasks if task.state is TaskState.DONE]
    taken = {steal.thief: steal.tasks for steal in steals if steal.victim == LADEN}
    processes = tuple(_process(name, tasks, taken.get(name, 0), begun, now) for name in PROCESSES)
    lengths = [span.ended - span.began for process in processes for span in process.spans]
    return RunFigures(
        tasks=len(done),
        seconds=round(max((task.attempts[-1].ended_at for task in done), default=begun) - begun, 3),
        work=round(sum(lengths), 3),
        bound=round(sum(lengths) / len(PROCESSES) + max(lengths, default=0.0), 3),
        processes=processes,
    )


def summary(alone: RunFigures, stealing: RunFigures) -> str:
    """One line that says what changed."""
    taken = sum(process.taken for process in stealing.processes)
    return (
        f"Stealing: {alone.seconds:.1f} s -> {stealing.seconds:.1f} s, {alone.seconds / stealing.seconds:.1f} times as "
        f"fast; {taken} of {stealing.tasks} tasks taken over."
    )


def _process(name: str, tasks: Sequence[TaskStatus], taken: int, begun: float, now: float) -> ProcessFigures:
    spans = sorted(_spans(name, tasks, begun, now), key=lambda span: span.began)
    return ProcessFigures(
        name=name,
        tasks=sum(task.state is TaskState.DONE and task.attempts[-1].instance_id == name for task in tasks),
        taken=taken,
        busy=round(sum(span.ended - span.began for span in spans), 3),
        spans=tuple(spans),
    )


def _spans(name: str, tasks: Sequence[TaskStatus], begun: float, now: float) -> Iterable[Span]:
    for task in tasks:
        stolen = task.queue != name
        if task.owner == name:
            yield _span(task.began_at - begun, now - begun, stolen)
        yield from (
            _span(past.began_at - begun, past.ended_at - begun, stolen)
            for past in task.attempts
            if past.instance_id == name
        )


def _span(began: float, ended: float, stolen: bool) -> Span:
    return Span(round(began, 3), round(ended, 3), stolen)
