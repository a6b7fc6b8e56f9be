"""The errors that callers meet; each carries its figures as attributes.

    CrossInstanceError
    ├── ConfigError              wrong setting: says file or variable, key and accepted form
    ├── DuplicateInstance        another live process has this instance id
    ├── InstanceFenced           this instance was removed while silent; it joins anew by itself
    ├── PermitError
    │   ├── RateLimitExceeded    a permit cannot be had within its timeout, or the provider says no
    │   └── RequestTooLarge      one request exceeds a limit by itself
    ├── PayloadError             a task's argument or result is not JSON-like, or too large
    ├── StoreUnavailable
    │   ├── StoreBusy            another process holds the store and does not let go, or others keep it too busy
    │   ├── StoreCorrupt         a file is damaged; says which and how to go on
    │   └── StoreFull            no room on the disk
    └── TaskError
        ├── TaskCancelled        the task was cancelled, or is to end
        ├── TaskFailed           it failed for good, or its owners died with it too often
        └── TaskUnknown          the store has no such task (any more)

All of them are raised with a message for people: what, where, and what would be right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cross_instance.rules.operations import LimitState


class CrossInstanceError(Exception):
    """Base of every error of this package."""


class ConfigError(CrossInstanceError):
    """A setting is wrong; `origin` is the file or variable, `key` its dotted name (None: the whole file)."""

    def __init__(self, message: str, *, origin: str | None = None, key: str | None = None) -> None:
        where = " ".join(part for part in (origin, key and f"`{key}`") if part)
        super().__init__(f"{where}: {message}" if where else message)
        self.origin = origin
        self.key = key


class DuplicateInstance(CrossInstanceError):
    """The instance id is in use by another live process."""

    def __init__(self, instance_id: str, pid: int, machine: str = "this machine") -> None:
        super().__init__(
            f"instance id {instance_id!r} is in use by the live process {pid} on {machine}; "
            "give each process its own PI_INSTANCE_ID, or leave it unset"
        )
        self.instance_id = instance_id
        self.pid = pid
        self.machine = machine


class InstanceFenced(CrossInstanceError):
    """The incarnation was removed: it had been silent beyond the heartbeat timeout. Its permits are void."""


class PermitError(CrossInstanceError):
    """A permit is refused; `limit` is the one that binds, where there is one.

    By itself, not as one of the two below: the task that asks has another owner by now.
    """

    def __init__(
        self, message: str, *, provider: str, model: str, limit: LimitState | None, retry_after: float
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.limit = limit
        self.retry_after = retry_after


class RateLimitExceeded(PermitError):
    """No permit within the timeout, or quota exhausted.

    `retry_after`: seconds until the limits refill that far; what others give back may make it sooner.
    """

    code = "RATE_LIMIT_EXCEEDED"


class RequestTooLarge(PermitError):
    """One request takes more than a limit ever holds; waiting does not help."""

    code = "REQUEST_TOO_LARGE"


class StoreUnavailable(CrossInstanceError):
    """The store cannot be reached or used, and there is no share to go on with (any more)."""


class StoreBusy(StoreUnavailable):
    """The store is held by a process that does not let go (`pid`), or by one after the other (0) for too long."""

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class StoreFull(StoreUnavailable):
    """There is no room left where the store lives; nothing was lost."""


class StoreCorrupt(StoreUnavailable):
    """A file of the store is damaged; the message names it and the way on."""


class PayloadError(CrossInstanceError, ValueError):
    """What goes into a task or comes out of it is not JSON-like, or too large; the message says where."""


class TaskError(CrossInstanceError):
    """Base of what can become of a task other than a result."""


class TaskCancelled(TaskError):
    """The task was cancelled; raised inside of one: it is to end."""


class TaskFailed(TaskError):
    """The task `task` of this `kind` has failed; `state` is "failed", or "dead" where its owners died with it too
    often. `error` is the end of the last attempt's traceback."""

    def __init__(self, task: str, kind: str, state: str, error: str) -> None:
        last = error.strip().rpartition("\n")[2]
        super().__init__(f"task {task} ({kind}) is {state}" + (f": {last}" if last else ""))
        self.task = task
        self.kind = kind
        self.state = state
        self.error = error


class TaskUnknown(TaskError):
    """The store has no such task: it never was, or was purged."""
