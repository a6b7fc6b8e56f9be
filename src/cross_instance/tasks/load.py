"""What a worker says of itself to the other instances, beside what its application says (`workload`).

The tasks that wait in its queue are not told: the store knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import TaskOutcome, TaskState, Workload
from cross_instance.rules.tables import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.rules.operations import Finished
    from cross_instance.tasks.attempts import Attempt

USUAL = 8
"""The mean duration forgets: beyond so many tasks each new one counts for an eighth."""
COMPLETED = frozenset({TaskState.DONE, TaskState.FAILED})


class Load:
    """The figures of one worker; it goes on where the one `before` it ended. `changed`: there is something new to
    tell."""

    def __init__(self, before: Workload) -> None:
        self.changed = True
        self._done = 0
        self._mean = before.latency
        self._last_completed = before.last_completed

    def returned(self, attempt: Attempt, now: int) -> None:
        """An attempt is over, at the store's instant (mono µs)."""
        self.changed = True
        if attempt.end is not None and attempt.end.outcome is TaskOutcome.DONE:
            self._done += 1
            took, mean = max(0, now - attempt.began.mono), self._mean or 0
            self._mean = mean + (took - mean) // min(self._done, USUAL)

    def reported(self, finished: Finished) -> None:
        """The store has heard how attempts ended."""
        if any(task.known and task.state in COMPLETED for task in finished.tasks):
            self.changed = True
            self._last_completed = finished.at.wall

    def shown(self, attempts: Iterable[Attempt]) -> Workload:
        """The worker as the others are to see it, with what it runs."""
        running = [*attempts]
        since: dict[tuple[str, str], int] = {}
        for attempt in running:
            spec = attempt.claimed.spec
            name = (spec.provider, spec.model.lower())
            if all(name) and len(name[1].encode()) <= MAX_NAME:
                since[name] = min(since.get(name, attempt.began.wall), attempt.began.wall)
        return Workload(
            orchestrations=len(running),
            latency=self._mean,
            last_completed=self._last_completed,
            active_models=tuple((*name, at) for name, at in since.items()),
            at_work=True,
        )

    def at_rest(self) -> Workload:
        """What is left to tell when it works no more."""
        return Workload(latency=self._mean, last_completed=self._last_completed)
