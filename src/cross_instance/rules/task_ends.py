"""How attempts and tasks end.

1. Only the owner of the present epoch ends an attempt; sent again, the same end is recognised and changes nothing.
2. A failed attempt is tried again after its backoff while retries are left; then the task has failed.
3. An attempt that its owner's death ended puts the task back in its old place. It costs no retry, but a task with which
   too many owners died is dead: it is kept aside until it is sent back.
4. A task whose cancellation was asked for does not start anew.
5. A wake does not end with whom it woke: who goes, or works no more, hands it on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import task_checks
from cross_instance.rules.checks import name as check_name
from cross_instance.rules.operations import (
    Attempt,
    Claimed,
    EndedTask,
    Fenced,
    Finished,
    TaskAnswer,
    TaskOutcome,
    TaskState,
    Wake,
)
from cross_instance.rules.stealing import queued
from cross_instance.rules.tables import CLAIMER, IDLE, RESULT, named, numbered
from cross_instance.rules.task_desk import Desk
from cross_instance.rules.task_records import Phase, claimer, decode_idle
from cross_instance.rules.task_time import forget_expired, make_due_ready
from cross_instance.rules.task_views import answer, state_of

if TYPE_CHECKING:
    from cross_instance.rules.operations import CancelTask, Claim, Finish, Instant, NewTask, Requeue, TaskEnd
    from cross_instance.rules.tables import Tables
    from cross_instance.rules.task_records import Task, TaskClaim

ATTEMPTS_KEPT = 10
"""How many attempts of a task are remembered."""
MOST_DOUBLINGS = 16
"""A backoff of up to a day, doubled so often, is still below 2^53."""

PHASE_OF = {
    TaskOutcome.DONE: Phase.DONE,
    TaskOutcome.RETRY: Phase.FAILED,
    TaskOutcome.FAILED: Phase.FAILED,
    TaskOutcome.CANCELLED: Phase.CANCELLED,
}
"""Where a task ends up where an attempt was its last."""


def finish(tables: Tables, op: Finish, at: Instant) -> Finished | Fenced:
    """Decide a `Finish`.

    Raises `ValueError` for figures and sizes that cannot be stored.
    """
    task_checks.finish(op)
    desk = Desk(tables, at)
    if desk.instance(op.incarnation) is None:
        return Fenced(at=at)
    make_due_ready(desk)
    forget_expired(desk, 2 * len(op.ends))
    ended = tuple(_end_attempt(desk, op.incarnation, end) for end in op.ends)
    desk.close()
    return Finished(at=at, wakes=tuple(desk.wakes), tasks=ended)


def _end_attempt(desk: Desk, incarnation: int, end: TaskEnd) -> EndedTask:
    task, claim = desk.task(end.task), desk.claim(end.task)
    if task is None:
        return EndedTask(end.task, known=False, state=None)
    owned = claim is not None and (claim.epoch, claim.incarnation) == (end.epoch, incarnation)
    known = _has_ended(task, end.epoch, end.outcome)
    if claim is not None and owned:
        stands = task.place == claim.place
        back = stands and end.outcome is TaskOutcome.RELEASED and not task.cancel
        desk.drop(end.task, claim, back=back)
        if stands and not back:
            _decide(desk, task, claim, end)
        claim = None
    run_at = task.run_at if task.phase is Phase.OPEN and not task.place else 0
    return EndedTask(end.task, owned or known, state_of(task, claim), run_at)


def _has_ended(task: Task, epoch: int, outcome: TaskOutcome) -> bool:
    """Whether this end was recorded before: a copy of the operation, or one that was cut between its two commits."""
    last = task.attempts[-1] if task.attempts else None
    return last is not None and (last.epoch, last.outcome) == (epoch, outcome)


def _decide(desk: Desk, task: Task, claim: TaskClaim, end: TaskEnd) -> None:
    _remember(desk, task, claim, end.outcome, end.error)
    if end.outcome in (TaskOutcome.RETRY, TaskOutcome.FAILED):
        task.failures += 1
    if task.cancel and end.outcome in (TaskOutcome.RETRY, TaskOutcome.RELEASED):
        desk.end(task, Phase.CANCELLED)
    elif end.outcome is TaskOutcome.RETRY and task.failures <= task.spec.retries:
        _try_again(desk, task, end)
    else:
        desk.end(task, PHASE_OF[end.outcome])
        if end.outcome is TaskOutcome.DONE:
            desk.learn(claim.kind, desk.at.mono - claim.since)
        if end.result:
            desk.tables.put(named(RESULT, end.task), end.result)
    desk.keep(task)


def _try_again(desk: Desk, task: Task, end: TaskEnd) -> None:
    wait = backoff(task.spec, task.failures, end.draw) if end.retry_after is None else end.retry_after
    desk.unready(task)
    if wait:
        desk.delay(task, desk.at.wall + wait)
    else:
        task.run_at = desk.at.wall
        desk.ready(task)


def backoff(spec: NewTask, failures: int, draw: int) -> int:
    """The wait before the next attempt, in µs: doubled with each failure, and between a half and the whole of that."""
    whole = min(spec.backoff << min(failures - 1, MOST_DOUBLINGS), spec.max_backoff)
    half = whole // 2
    return whole - half + (half * (draw >> 16) >> 16)


def _remember(desk: Desk, task: Task, claim: TaskClaim, outcome: TaskOutcome, error: str) -> None:
    attempt = Attempt(claim.epoch, claim.instance_id, claim.began, desk.at.wall, outcome, error)
    task.attempts = [*task.attempts[1 - ATTEMPTS_KEPT :], attempt]


def leave_tasks(tables: Tables, incarnation: int, at: Instant, *, died: bool) -> tuple[Wake, ...]:
    """Return what an incarnation runs to where it was taken from; the wakes for those who may take it. `died`: it did
    not leave by itself, and its tasks may be why."""
    desk = Desk(tables, at)
    tables.delete(numbered(CLAIMER, incarnation))
    _return(desk, desk.owned(incarnation), died=died)
    _hand_on(desk, incarnation)
    desk.close()
    return tuple(desk.wakes)


def retire(desk: Desk, op: Claim, last: int) -> Claimed:
    """Decide a `Claim` for no task; `last` is the seq of the last one that got any."""
    value = desk.tables.get(numbered(IDLE, op.incarnation))
    newest = last if value is None else max(last, decode_idle(value).seq)
    if op.seq >= newest:
        _return(desk, desk.owned(op.incarnation, op.seq), died=False)
        _hand_on(desk, op.incarnation)
        desk.tables.put(numbered(CLAIMER, op.incarnation), claimer(op.seq, retired=True))
        desk.close()
    return Claimed(at=desk.at, wakes=tuple(desk.wakes))


def _hand_on(desk: Desk, incarnation: int) -> None:
    """An incarnation takes nothing more: others are told of what it may have been woken for."""
    desk.unlist_idle(incarnation)
    for lane in desk.lanes():
        desk.announce(lane, queued(desk, lane))


def _return(desk: Desk, owned: list[tuple[str, TaskClaim]], *, died: bool) -> None:
    for name, claim in owned:
        task = desk.task(name)
        stands = task is not None and task.place == claim.place
        recorded = task is not None and bool(task.attempts) and task.attempts[-1].epoch == claim.epoch
        if task is None or not stands:
            desk.drop(name, claim, back=False)
        elif (died or task.cancel) and not recorded:
            _bury(desk, task, claim, died)
        else:
            desk.drop(name, claim, back=True)


def _bury(desk: Desk, task: Task, claim: TaskClaim, died: bool) -> None:
    outcome = TaskOutcome.DIED if died else TaskOutcome.RELEASED
    _remember(desk, task, claim, outcome, f"{claim.instance_id} {'died' if died else 'left'}")
    task.deaths += died
    last = task.cancel or task.deaths >= task.spec.max_deaths
    desk.drop(task.spec.task, claim, back=not last)
    if last:
        desk.end(task, Phase.CANCELLED if task.cancel else Phase.DEAD)
    desk.keep(task)


def cancel_task(tables: Tables, op: CancelTask, at: Instant) -> TaskAnswer:
    """Decide a `CancelTask`."""
    check_name("task id", op.task)
    desk = Desk(tables, at)
    task, claim = desk.task(op.task), desk.claim(op.task)
    if task is not None and task.phase is Phase.OPEN:
        task.cancel = True
        if state_of(task, claim) is TaskState.QUEUED:
            desk.end(task, Phase.CANCELLED)
        elif claim is not None:
            claim.cancel = True
            desk.keep_claim(op.task, claim)
            desk.wakes.append(Wake(claim.incarnation, claim.seq, at.mono))
        desk.keep(task)
        desk.close()
    return answer(desk, op.task)


def requeue(tables: Tables, op: Requeue, at: Instant) -> TaskAnswer:
    """Decide a `Requeue`."""
    check_name("task id", op.task)
    desk = Desk(tables, at)
    task = desk.task(op.task)
    if task is not None and task.phase in (Phase.FAILED, Phase.DEAD, Phase.CANCELLED):
        make_due_ready(desk)
        desk.reopen(task)
        task.run_at = at.wall
        desk.keep(task)
        desk.close()
    return answer(desk, op.task)
