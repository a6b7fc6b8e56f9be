"""The task that the present code runs in, as it sees itself.

1. `current_task()` follows the context: into coroutines, `asyncio.to_thread` and the threads of `work`.
2. Permits taken inside a task carry its fence, so that an attempt that lost its task cannot spend money for it.
3. An attempt that is to end hears of it: a coroutine is cancelled; a function in a thread at its next `check`,
   `progress` or permit, and while it waits for one, for a lock or for another task.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cross_instance.errors import TaskCancelled
from cross_instance.rules.task_checks import MOST_PROGRESS
from cross_instance.tasks import payloads

if TYPE_CHECKING:
    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import ClaimedTask


LISTENS_EVERY = 0.5
"""Seconds for which a task's thread waits at once: about as long as its worker takes to hear that it is to end."""


class RetryTask(Exception):
    """Raised in a task: this attempt failed, try again after `after` seconds (None: after its usual backoff)."""

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = None if after is None else float(after)


class AbandonTask(Exception):
    """Raised in a task: it has failed for good, trying again would not help."""


class RunningTask:
    """One attempt of a task, as its function sees it.

    `task` is the task's id, `attempt` counts from 1, `epoch` is the fence: it rises with every attempt, and whoever
    writes somewhere else may send it along to have late writers refused.
    """

    def __init__(self, membership: Membership, claimed: ClaimedTask) -> None:
        spec = claimed.spec
        self.task = spec.task
        self.kind = spec.kind
        self.key = spec.key
        self.attempt = claimed.attempt
        self.epoch = claimed.epoch
        self.membership = membership
        self.stopping = ""
        """Why it is to end, "" where it may go on."""
        self._progress: bytes | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it is to end: cancelled, out of time, or no longer this instance's."""
        return bool(self.stopping)

    def check(self) -> None:
        """Go on, or raise `TaskCancelled` where it is to end."""
        if self.stopping:
            raise TaskCancelled(f"task {self.task}: {self.stopping}")

    def progress(self, value: Any) -> None:
        """Show how far it is: JSON-like, at most 4 KiB. The last one is sent within half a second.

        Raises `PayloadError` for anything else, and `TaskCancelled` where the task is to end.
        """
        self.check()
        self._progress = payloads.encode(value, "progress", MOST_PROGRESS)

    @property
    def untold(self) -> bytes | None:
        """The progress that is to be sent; None where nothing new was reported."""
        return self._progress

    def told(self, progress: bytes | None) -> None:
        """It was sent; what has been reported since is sent next."""
        if self._progress is progress:
            self._progress = None


_current: ContextVar[RunningTask] = ContextVar("cross_instance_task")

enter = _current.set
"""Make a task the present one, in the present context."""


def current_task() -> RunningTask:
    """The task that calls this. Raises `RuntimeError` outside of one."""
    running = _current.get(None)
    if running is None:
        raise RuntimeError("this is not called from a task")
    return running


def fence(membership: Membership) -> tuple[str | None, int]:
    """The present task and its epoch, for a permit of the same instance; (None, 0) outside of a task.

    Raises `TaskCancelled` where the task is to end.
    """
    running = _current.get(None)
    if running is None or running.membership is not membership:
        return None, 0
    running.check()
    return running.task, running.epoch


def wait_at_once(membership: Membership, seconds: float) -> float:
    """Of a wait for something of this instance, how long a thread may do nothing else; in a task, it has to listen.

    Raises `TaskCancelled` where the present task is to end.
    """
    running = _current.get(None)
    if running is None or running.membership is not membership:
        return seconds
    running.check()
    return min(seconds, LISTENS_EVERY)
