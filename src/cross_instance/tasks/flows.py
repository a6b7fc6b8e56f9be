"""Flows of operations: generators that yield an operation or a `Wait` and are sent what came of it.

Those of both runtimes are the same; `protocol.drive` and `drive_async` perform the steps.

1. Tasks are pushed a hundred at a time, so that nobody waits long behind one push.
2. Whoever awaits a task is woken when it is over, and looks by himself now and then: wakes are hints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from cross_instance.errors import TaskCancelled, TaskFailed, TaskUnknown
from cross_instance.protocol import Wait
from cross_instance.rules.operations import (
    FOREVER,
    SECOND,
    CancelTask,
    GetTask,
    ListTasks,
    Operation,
    Purge,
    Push,
    Requeue,
    SetQueue,
    TaskInfo,
    TaskSnapshot,
    TaskState,
    TaskWorld,
)
from cross_instance.rules.task_checks import MOST_TOGETHER
from cross_instance.tasks.views import TaskStatus, view

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import NewTask

R = TypeVar("R")
Flow: TypeAlias = "Generator[Operation[Any] | Wait, Any, R]"

PUSHED_AT_ONCE = 100
"""A push of so many holds the store for about 2 ms; of the 1,000 that it accepts, for 16 to 42 ms."""
PAGE = 200
LOOK_AGAIN, LOOK_SOON = 10.0, 0.5
"""Seconds after which an awaited task is looked at without a wake: as usual, and while the store is out of reach, when
none can come."""


def pushing(tasks: Iterable[NewTask]) -> Flow[list[tuple[str, bool]]]:
    """Submit tasks; the id under which each is kept, and whether it was there before."""
    kept: list[tuple[str, bool]] = []
    batch: list[NewTask] = []
    size = 0
    for task in tasks:
        if len(batch) == PUSHED_AT_ONCE or size + len(task.payload) > MOST_TOGETHER:
            kept += yield from _push(batch)
            batch, size = [], 0
        batch.append(task)
        size += len(task.payload)
    if batch:
        kept += yield from _push(batch)
    return kept


def _push(tasks: list[NewTask]) -> Flow[list[tuple[str, bool]]]:
    pushed = yield Push(tuple(tasks))
    known = set(pushed.known)
    return [(task, task in known) for task in pushed.tasks]


def looking(task: str) -> Flow[TaskStatus]:
    """A task as it stands now. Raises `TaskUnknown`."""
    return known(task, (yield GetTask(task)).info)


def known(task: str, info: TaskInfo | None) -> TaskStatus:
    """A task as it is shown. Raises `TaskUnknown` where the store has no such task."""
    if info is None:
        raise TaskUnknown(f"there is no task {task!r}: it never was, or was purged after its retention time")
    return view(info)


def awaiting(task: str, membership: Membership, timeout: int, now: Callable[[], int]) -> Flow[TaskStatus]:
    """Wait until a task is over; `timeout` in µs. Raises `TimeoutError` where it is not by then, `TaskUnknown`."""
    deadline = now() + timeout
    waiter = (0, 0)
    try:
        while True:
            if waiter[0] != membership.incarnation:
                membership.waiters.discard(waiter)
                waiter = (membership.incarnation, next(membership.seqs))
                membership.begin_waiting(waiter)
            status = known(task, (yield GetTask(task, waiter)).info)
            left = deadline - now()
            if status.is_over:
                return status
            if left <= 0:
                raise TimeoutError(f"task {task} is {status.state.value} still")
            longest = LOOK_AGAIN if membership.fallback.outage is None else LOOK_SOON
            yield from _rest(waiter, now() + min(left, round(longest * SECOND)), now)
    finally:
        membership.waiters.discard(waiter)


def _rest(waiter: tuple[int, int], until: int, now: Callable[[], int]) -> Flow[None]:
    """Wait for a wake, at most until an instant. Who performs it may let a `Wait` end early, to listen to something
    else."""
    while (left := until - now()) > 0:
        if (yield Wait(waiter, left / SECOND)) is not None:
            return


def result_of(status: TaskStatus) -> Any:
    """What a task that is over has returned. Raises `TaskFailed`, `TaskCancelled`."""
    if status.state is TaskState.DONE:
        return status.result
    if status.state is TaskState.CANCELLED:
        raise TaskCancelled(f"task {status.task} was cancelled")
    raise TaskFailed(status.task, status.kind, status.state.value, status.error)


def listing(state: TaskState | None, queue: str | None, kind: str | None, most: int) -> Flow[list[TaskStatus]]:
    """The first `most` tasks of a state, queue and kind (None: of any); for their order see `Tasks.find`."""
    found: list[TaskStatus] = []
    after = ""
    while len(found) < most:
        page = yield ListTasks(state, queue, kind, after, min(PAGE, most - len(found)))
        found += map(view, page.tasks)
        after = page.after
        if not after:
            break
    return found


def cancelling(task: str) -> Flow[TaskStatus]:
    """Cancel a task; how it stands then. Raises `TaskUnknown`."""
    return known(task, (yield CancelTask(task)).info)


def sending_back(task: str) -> Flow[TaskStatus]:
    """Send a failed, dead or cancelled task back to its queue; how it stands then. Raises `TaskUnknown`."""
    return known(task, (yield Requeue(task)).info)


def setting(queue: str, *, paused: bool) -> Flow[None]:
    """Pause a queue, or let it go on."""
    yield SetQueue(queue, paused)


def counting() -> Flow[TaskWorld]:
    """All queues, kinds and thefts."""
    world: TaskWorld = yield TaskSnapshot()
    return world


def purging(state: TaskState, age: int) -> Flow[int]:
    """Forget the tasks of a state in which they are over that ended `age` µs ago or before; how many."""
    before = (yield ListTasks(state, most=1)).at.wall - age if age else FOREVER
    forgotten, after = 0, ""
    while True:
        purged = yield Purge(state=state, before=max(0, before), after=after)
        forgotten += len(purged.tasks)
        after = purged.after
        if not after:
            return forgotten
