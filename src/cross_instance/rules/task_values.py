"""The values that operations on tasks are made of. Units as in `values`: µs, whole units, tuples for lists."""

from __future__ import annotations

from enum import StrEnum

from cross_instance.rules.values import DAY, FOREVER, MINUTE, SECOND, Data, Priority


class TaskState(StrEnum):
    """Where a task stands.

    FAILED: it said so itself, for good or after its last retry. DEAD: its owners died with it too often (a dead
    letter). `Requeue` sends either back.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


class TaskOutcome(StrEnum):
    """How an attempt ended.

    RETRY: it failed, and is tried again while retries are left. FAILED: trying again would not help. RELEASED: it is
    given back unfinished, keeps its place and counts as no attempt. DIED: its owner is gone; only the store says so.
    """

    DONE = "done"
    RETRY = "retry"
    FAILED = "failed"
    RELEASED = "released"
    CANCELLED = "cancelled"
    DIED = "died"


class NewTask(Data, frozen=True, omit_defaults=True):
    """A task as it is submitted.

    `task` is its id, chosen by the submitter: a task pushed twice is one. `key`: while a task with this key is kept,
    pushing another gives that one. `queue`: the instance it is meant for; "" is the common queue, from which
    every instance takes. `run_at` (wall µs) and `delay` (µs): not before; the later of both.
    `retries`: how many failed attempts are tried again, after `backoff` µs, doubled each time up to `max_backoff`.
    `max_deaths`: how many owners may die with it. `timeout`: µs that one attempt may take, kept by its worker.
    `retention`: µs for which it is kept once it is over (a dead letter is kept until it is sent back or purged).
    `tags`: what whoever runs it must be able to do. `account`: where it spends; it is not stolen while others wait
    there for a permit, or its provider has asked for a pause.
    """

    task: str
    kind: str
    payload: bytes = b""
    queue: str = ""
    key: str = ""
    priority: Priority = Priority.NORMAL
    run_at: int = 0
    delay: int = 0
    retries: int = 3
    backoff: int = SECOND
    max_backoff: int = 10 * MINUTE
    max_deaths: int = 3
    timeout: int = FOREVER
    retention: int = DAY
    stealable: bool = True
    tags: tuple[str, ...] = ()
    provider: str = ""
    model: str = ""
    account: str = ""


class ClaimedTask(Data, frozen=True):
    """A task as it is handed to its owner: `epoch` is the fence of this attempt, `attempt` its number from 1.

    `cancel`: its cancellation was asked for during an earlier attempt.
    """

    epoch: int
    attempt: int
    spec: NewTask
    cancel: bool = False


class HeldTask(Data, frozen=True):
    """A running task as its owner renews it; `progress` None: as before."""

    task: str
    epoch: int
    progress: bytes | None = None


class TaskEnd(Data, frozen=True):
    """The end of one attempt. `retry_after` µs stands in for the backoff; `draw` is random in [0, 2^32)."""

    task: str
    epoch: int
    outcome: TaskOutcome = TaskOutcome.DONE
    result: bytes = b""
    error: str = ""
    retry_after: int | None = None
    draw: int = 0


class EndedTask(Data, frozen=True):
    """What became of a task: its state now (None: it is not known), and when it runs again (wall µs, 0: not by time).

    `known` is false where the attempt was not the caller's: nothing was changed.
    """

    task: str
    known: bool
    state: TaskState | None
    run_at: int = 0


class Attempt(Data, frozen=True, array_like=True):
    """One attempt that is over; `began` and `ended` are wall µs."""

    epoch: int
    instance_id: str
    began: int
    ended: int
    outcome: TaskOutcome
    error: str = ""


class TaskInfo(Data, frozen=True):
    """A task as it is shown. Times are wall µs; `run_at` is when it was or will be ready.

    `owner`, `epoch`, `began` and `progress` are those of the running attempt. `attempts` are the last ones that are
    over. `spec.payload` and `result` are left out of lists.
    """

    spec: NewTask
    state: TaskState
    submitted_at: int
    run_at: int
    finished_at: int = 0
    failures: int = 0
    deaths: int = 0
    owner: str = ""
    epoch: int = 0
    began: int = 0
    progress: bytes = b""
    cancel: bool = False
    attempts: tuple[Attempt, ...] = ()
    result: bytes = b""


class QueueState(Data, frozen=True):
    """One queue: ready tasks by priority, running ones, and `backlog`: the µs that its ready tasks are expected to
    take one after another, `stealable` of them others may take, which are `stealable_tasks`."""

    queue: str
    paused: bool = False
    queued: tuple[int, ...] = (0, 0, 0, 0, 0)
    running: int = 0
    backlog: int = 0
    stealable: int = 0
    stealable_tasks: int = 0


class KindState(Data, frozen=True):
    """How long tasks of a kind take: the mean of the last ones in µs, and how many were done."""

    kind: str
    mean: int
    done: int


class StealState(Data, frozen=True):
    """Who took from whom in this boot: `tasks` in all, the last at `last_at` (wall µs). With victim "": the attempts,
    successful or not."""

    thief: str
    victim: str
    tasks: int
    last_at: int
