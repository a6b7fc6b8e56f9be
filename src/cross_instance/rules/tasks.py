"""Tasks: submitted, owned, renewed; queues: paused.

1. A task has one owner per epoch: the (incarnation, epoch) of its claim. Epochs rise for ever, over all tasks.
2. A claim ends when its owner ends the attempt, or with its owner's incarnation; never by time.
3. A stale owner cannot end a task, and buys no permits for it, so that a paused zombie spends no money.
4. Who may take a task takes the one of the highest class that has been ready longest.
5. Tasks that have become due become ready before anything else is decided (`task_time`).
6. While a task of the common queue waits, nobody who is able to do it stays idle untold: whoever takes one and leaves
   another wakes the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules import task_checks, task_records
from cross_instance.rules.operations import Claim, Claimed, ClaimedTask, Fenced, Pushed, QueueSet, Renewed
from cross_instance.rules.stealing import queued, steal
from cross_instance.rules.tables import (
    CLAIM,
    CLAIMER,
    DELAYED,
    PAYLOAD,
    QUEUE,
    TASK,
    TASK_KEY,
    named,
    numbered,
)
from cross_instance.rules.task_desk import Desk
from cross_instance.rules.task_ends import retire
from cross_instance.rules.task_lines import first_of, is_paused, lanes_of
from cross_instance.rules.task_records import Idle, Task, claimer, last_claim
from cross_instance.rules.task_time import forget_expired, has_expired, make_due_ready

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant, NewTask, Push, Renew, SetQueue
    from cross_instance.rules.tables import Tables
    from cross_instance.rules.task_lines import Found


def owns(tables: Tables, task: str, epoch: int, incarnation: int) -> bool:
    """Whether this incarnation holds the task's claim in this epoch."""
    value = tables.get(named(CLAIM, task))
    if value is None:
        return False
    claim = task_records.decode_claim(value)
    return (claim.epoch, claim.incarnation) == (epoch, incarnation)


def push(tables: Tables, op: Push, at: Instant) -> Pushed:
    """Decide a `Push`.

    Raises `ValueError` for names, figures and sizes that cannot be stored.
    """
    task_checks.push(op)
    desk = Desk(tables, at)
    make_due_ready(desk)
    forget_expired(desk, 2 * len(op.tasks))
    names, known = [], []
    for spec in op.tasks:
        there = _present(desk, spec)
        names.append(there or spec.task)
        if there is None:
            _submit(desk, spec)
        else:
            known.append(there)
    desk.close()
    return Pushed(at=at, wakes=tuple(desk.wakes), tasks=tuple(names), known=tuple(known))


def _present(desk: Desk, spec: NewTask) -> str | None:
    """The task that this one is already, by its id or its key; one whose retention is over does not hold its key."""
    if desk.tables.get(named(TASK, spec.task)) is not None:
        return spec.task
    value = desk.tables.get(named(TASK_KEY, spec.key)) if spec.key else None
    if value is None:
        return None
    holder = desk.listed(value.decode())
    if has_expired(holder, desk.at):
        desk.forget(holder)
        return None
    return holder.spec.task


def _submit(desk: Desk, spec: NewTask) -> None:
    now = desk.at.wall
    task = Task(msgspec.structs.replace(spec, payload=b""), desk.number(), now, now)
    desk.enter(task)
    if spec.payload:
        desk.tables.put(named(PAYLOAD, spec.task), spec.payload)
    if spec.key:
        desk.tables.put(named(TASK_KEY, spec.key), spec.task.encode())
    run_at = max(spec.run_at, now + spec.delay)
    if run_at > now:
        desk.delay(task, run_at)
    else:
        desk.ready(task)
    desk.keep(task)


def claim(tables: Tables, op: Claim, at: Instant) -> Claimed | Fenced:
    """Decide a `Claim`."""
    task_checks.claim(op)
    desk = Desk(tables, at)
    instance = desk.instance(op.incarnation)
    if instance is None:
        return Fenced(at=at)
    last = last_claim(tables.get(numbered(CLAIMER, op.incarnation)))
    if not op.most:
        return retire(desk, op, last)
    again = desk.owned(op.incarnation, op.seq)
    if again or op.seq <= last:
        return Claimed(at=at, tasks=tuple(_handed(desk, name, claim) for name, claim in again))
    make_due_ready(desk)
    victim, found = "", _next_own(desk, op, instance.instance_id)
    if not found and op.steal:
        victim, found = steal(desk, op, instance.instance_id)
    if not found:
        desk.list_idle(op.incarnation, Idle(op.seq, op.steal, op.tags))
    else:
        desk.unlist_idle(op.incarnation)
        for lane in desk.lanes(""):  # who was woken for what is left may be able to do it, or may not
            desk.announce(lane, min(1, queued(desk, lane)))
    tables.put(numbered(CLAIMER, op.incarnation), claimer(op.seq if found else last))
    handed = tuple(_handed(desk, name, claim) for name, claim in found)
    desk.close()
    return Claimed(at=at, wakes=tuple(desk.wakes), tasks=handed, victim=victim, check_at=_next_due(desk))


def _next_own(desk: Desk, op: Claim, own: str) -> list[Found]:
    """The first tasks of the instance's own queue and the common one."""
    tags = frozenset(op.tags)
    queues = [queue for queue in (own, "") if not is_paused(desk.tables, queue)]
    lanes = [lane for queue in queues for lane in lanes_of(desk, queue, tags)]
    return first_of(desk, lanes, (op.incarnation, op.seq), own, op.most)


def _handed(desk: Desk, name: str, claim: task_records.TaskClaim) -> ClaimedTask:
    task = desk.listed(name)
    payload = desk.tables.get(named(PAYLOAD, name)) or b""
    spec = msgspec.structs.replace(task.spec, payload=payload)
    return ClaimedTask(claim.epoch, task.failures + task.deaths + 1, spec, task.cancel)


def _next_due(desk: Desk) -> int | None:
    found = desk.tables.first(DELAYED)
    if found is None:
        return None
    return desk.at.mono + max(0, int.from_bytes(found[0][1:9]) - desk.at.wall)


def renew(tables: Tables, op: Renew, at: Instant) -> Renewed | Fenced:
    """Decide a `Renew`."""
    task_checks.renew(op)
    desk = Desk(tables, at)
    if desk.instance(op.incarnation) is None:
        return Fenced(at=at)
    lost, cancelled = [], []
    for held in op.held:
        claim = desk.claim(held.task)
        if claim is None or (claim.epoch, claim.incarnation) != (held.epoch, op.incarnation):
            lost.append(held.task)
            continue
        if held.progress is not None:
            claim.progress = held.progress
            desk.keep_claim(held.task, claim)
        if claim.cancel:
            cancelled.append(held.task)
    return Renewed(at=at, lost=tuple(lost), cancelled=tuple(cancelled))


def set_queue(tables: Tables, op: SetQueue, at: Instant) -> QueueSet:
    """Decide a `SetQueue`."""
    task_checks.queue(op.queue)
    desk, key = Desk(tables, at), named(QUEUE, op.queue)
    if op.paused:
        tables.put(key, b"")
    elif is_paused(tables, op.queue):
        tables.delete(key)
        for lane in desk.lanes(op.queue):
            desk.announce(lane, queued(desk, lane))
    desk.close()
    return QueueSet(at=at, wakes=tuple(desk.wakes), paused=op.paused)
