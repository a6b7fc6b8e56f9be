"""The operations of the durable task queue and their results; `operations` is where to import them from.

1. A submitted task is kept once `Push` has answered: it survives the death of every process and a power cut.
2. It is run at least once. At any moment at most one (incarnation, epoch) owns it; only that one can end it.
3. Every operation may be sent twice, as always: a task's id names it for ever, an attempt is named by its epoch, a
   `Claim` by (incarnation, seq).
"""

from __future__ import annotations

from typing import ClassVar

from cross_instance.rules.base import Fenced, Operation, Result  # noqa: F401  # msgspec reads the annotations
from cross_instance.rules.task_values import (  # noqa: TC001  # the same
    ClaimedTask,
    EndedTask,
    HeldTask,
    KindState,
    NewTask,
    QueueState,
    StealState,
    TaskEnd,
    TaskInfo,
    TaskState,
)


class Pushed(Result, frozen=True, kw_only=True):
    """The ids under which the tasks are kept, in the order given; `known` are those that were there before."""

    tasks: tuple[str, ...]
    known: tuple[str, ...] = ()


class Push(Operation[Pushed], frozen=True):
    """Submit tasks, all or none: at most 1,000, with 8 MiB of payload between them and 1 MiB each."""

    durable: ClassVar[bool] = True
    tasks: tuple[NewTask, ...]


class Claimed(Result, frozen=True, kw_only=True):
    """The tasks that are now the caller's; none: the caller counts as idle and is woken as (incarnation, seq).

    `check_at` (mono µs): claim anew then, unless woken before; the next task that is not due yet is due then.
    `victim` is the instance they were taken from, "" for none.
    """

    tasks: tuple[ClaimedTask, ...] = ()
    victim: str = ""
    check_at: int | None = None


class Claim(Operation["Claimed | Fenced"], frozen=True):
    """Own the next tasks: `most` of those meant for this instance and of the common queue, by priority, then in the
    order in which they became ready.

    `steal`: where there are none, take from the instance with the largest backlog in µs of expected work, at most
    half of it, the oldest of the highest priority first; from an instance that serves its queue itself only where its
    backlog is `min_gain` or more. `tags`: what the caller is able to do.
    Each claim of an incarnation has a larger `seq` than the one before; one that is too old gets nothing.
    `most` 0: it works no more. It is woken no more, others are for what it was woken for, and its queue is served by
    nobody; what this `seq` was given before is given back.
    """

    lengthy: ClassVar[bool] = True
    incarnation: int
    seq: int
    most: int = 1
    steal: bool = False
    min_gain: int = 0
    tags: tuple[str, ...] = ()


class Renewed(Result, frozen=True, kw_only=True):
    """The ids of the tasks that are no longer the caller's, and of those whose cancellation is asked for."""

    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()


class Renew(Operation["Renewed | Fenced"], frozen=True):
    """Report the progress of running tasks and hear what is asked of them. Ownership does not hang on it: that ends
    with the incarnation."""

    incarnation: int
    held: tuple[HeldTask, ...]


class Finished(Result, frozen=True, kw_only=True):
    """What became of each task, in the order given."""

    tasks: tuple[EndedTask, ...]


class Finish(Operation["Finished | Fenced"], frozen=True):
    """End attempts: at most 1,000, with 8 MiB of results between them and 1 MiB each."""

    durable: ClassVar[bool] = True
    incarnation: int
    ends: tuple[TaskEnd, ...]


class TaskAnswer(Result, frozen=True, kw_only=True):
    """The task as it stands now; None where it is not known."""

    info: TaskInfo | None


class GetTask(Operation[TaskAnswer], frozen=True):
    """Look at a task, with payload and result. `watcher`: who is woken, as (incarnation, seq), when it is over."""

    task: str
    watcher: tuple[int, int] | None = None


class CancelTask(Operation[TaskAnswer], frozen=True):
    """Cancel a task: at once where it is queued; the owner of a running one is woken and asked. What is over stays."""

    durable: ClassVar[bool] = True
    task: str


class Requeue(Operation[TaskAnswer], frozen=True):
    """Send a failed, dead or cancelled task back to its queue, with all its retries; any other stays as it is."""

    durable: ClassVar[bool] = True
    task: str


class TaskPage(Result, frozen=True, kw_only=True):
    """Tasks in the order of their submission; `after` continues the list, "" where it ends. A page may hold fewer
    than were asked for, even none, and still go on."""

    tasks: tuple[TaskInfo, ...]
    after: str = ""


class ListTasks(Operation[TaskPage], frozen=True):
    """List tasks page by page: of one state or of all (those that are not over first), of one queue or kind. They come
    in the order of submission; those of the state RUNNING by owner, in the order in which it was given them."""

    lengthy: ClassVar[bool] = True
    state: TaskState | None = None
    queue: str | None = None
    kind: str | None = None
    after: str = ""
    most: int = 100


class Purged(Result, frozen=True, kw_only=True):
    """The ids of the tasks that are forgotten, and where to go on, as in `TaskPage`."""

    tasks: tuple[str, ...]
    after: str = ""


class Purge(Operation[Purged], frozen=True):
    """Forget tasks that are over: those named, or those of one such state that ended before `before` (wall µs)."""

    durable: ClassVar[bool] = True
    tasks: tuple[str, ...] = ()
    state: TaskState | None = None
    before: int = 0
    after: str = ""
    most: int = 100


class QueueSet(Result, frozen=True, kw_only=True):
    """The queue as it is now."""

    paused: bool


class SetQueue(Operation[QueueSet], frozen=True):
    """Pause a queue, or let it go on: nobody takes tasks from a paused one, its owner included."""

    durable: ClassVar[bool] = True
    queue: str
    paused: bool


class TaskWorld(Result, frozen=True, kw_only=True):
    """All queues with tasks or a pause, kinds and thefts, by name. `states` counts the tasks of each state that has
    any; `delayed` of the queued ones are not due yet."""

    queues: tuple[QueueState, ...]
    kinds: tuple[KindState, ...]
    steals: tuple[StealState, ...]
    states: tuple[tuple[TaskState, int], ...]
    delayed: int


class TaskSnapshot(Operation[TaskWorld], frozen=True):
    """Look at the queues; changes nothing."""

    lengthy: ClassVar[bool] = True
