"""A log of fenced effects, and what it proves of tasks whose workers were killed.

1. Whoever runs a task writes that it begins and that it has done its effect, each with the epoch it owns the task by.
2. Every line is written at once, so the order of the log is that in which the effects happened.
3. Two owners at once: an attempt that began before the owner of the one before it was killed, or by no larger epoch. A
   stale effect: one that came after an effect of a larger epoch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

BEGAN, DID = "began", "did"


class Effect(NamedTuple):
    """A line of the log. `at`: µs of the machine's monotonic clock, read just before it was written."""

    word: str
    pid: int
    at: int
    task: str
    epoch: int


class Judgement(NamedTuple):
    """How many tasks were lost, had two owners at once, saw a stale effect; how many had to begin again, and did."""

    lost: int
    two_owners: int
    stale: int
    begun_again: int


def judge(effects: Iterable[Effect], killed: Mapping[int, int], submitted: Collection[str]) -> Judgement:
    """Judge a log. `killed`: by pid, the instant (µs, as `at`) before its kill."""
    by_task: dict[str, list[Effect]] = {task: [] for task in submitted}
    for effect in effects:
        by_task[effect.task].append(effect)
    begun = {task: [one for one in log if one.word == BEGAN] for task, log in by_task.items()}
    return Judgement(
        lost=sum(all(one.word != DID for one in log) for log in by_task.values()),
        two_owners=sum(
            any(_overlap(before, after, killed) for before, after in pairwise(log)) for log in begun.values()
        ),
        stale=sum(any(after.epoch < before.epoch for before, after in pairwise(log)) for log in by_task.values()),
        begun_again=sum(len(log) > 1 for log in begun.values()),
    )


def _overlap(before: Effect, after: Effect, killed: Mapping[int, int]) -> bool:
    return after.epoch <= before.epoch or after.at < killed.get(before.pid, after.at + 1)
