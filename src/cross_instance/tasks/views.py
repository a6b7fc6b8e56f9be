"""Tasks as they are shown to people and programs: plain values, seconds, names."""

from __future__ import annotations

from typing import Any

import msgspec

from cross_instance.errors import PayloadError
from cross_instance.rules.operations import SECOND, TaskInfo, TaskState
from cross_instance.tasks import payloads
from cross_instance.tasks.registry import KIND_TAG


class PastAttempt(msgspec.Struct, frozen=True):
    """An attempt that is over; times in seconds of Unix time. `outcome`: done, retry, failed, released, cancelled or
    died; `error` is the end of the traceback."""

    instance_id: str
    began_at: float
    ended_at: float
    outcome: str
    error: str


class TaskStatus(msgspec.Struct, frozen=True):
    """A task as it stood when it was looked at.

    Times are seconds of Unix time, 0 where they are not known. `run_at`: when it was or will be ready. `owner` and
    `began_at` are those of the running attempt. `failures`: attempts that failed; `deaths`: owners that died with it;
    `attempts`: the last ten that are over. `arguments` (positional, by name) and `result` are None in lists.
    """

    task: str
    kind: str
    state: TaskState
    queue: str
    key: str
    priority: str
    tags: tuple[str, ...]
    stealable: bool
    provider: str
    model: str
    submitted_at: float
    run_at: float
    began_at: float
    finished_at: float
    owner: str
    failures: int
    deaths: int
    cancel_asked: bool
    progress: Any
    attempts: tuple[PastAttempt, ...]
    arguments: Any
    result: Any

    @property
    def error(self) -> str:
        """The error of the last attempt, "" where there was none."""
        return self.attempts[-1].error if self.attempts else ""

    @property
    def is_over(self) -> bool:
        """Whether it will not run any more, unless it is sent back."""
        return self.state not in (TaskState.QUEUED, TaskState.RUNNING)


def view(info: TaskInfo) -> TaskStatus:
    """A task as it is shown."""
    spec = info.spec
    return TaskStatus(
        task=spec.task,
        kind=spec.kind,
        state=info.state,
        queue=spec.queue,
        key=spec.key,
        priority=spec.priority.name.lower(),
        tags=tuple(tag for tag in spec.tags if not tag.startswith(KIND_TAG)),
        stealable=spec.stealable,
        provider=spec.provider,
        model=spec.model,
        submitted_at=info.submitted_at / SECOND,
        run_at=info.run_at / SECOND,
        began_at=info.began / SECOND,
        finished_at=info.finished_at / SECOND,
        owner=info.owner,
        failures=info.failures,
        deaths=info.deaths,
        cancel_asked=info.cancel,
        progress=_value(info.progress),
        attempts=tuple(
            PastAttempt(past.instance_id, past.began / SECOND, past.ended / SECOND, past.outcome.value, past.error)
            for past in info.attempts
        ),
        arguments=_value(spec.payload),
        result=_value(info.result),
    )


def _value(data: bytes) -> Any:
    """What is in a payload; one that was not written by this package is shown as text."""
    try:
        return payloads.decode(data)
    except PayloadError:
        return data.decode(errors="replace")
