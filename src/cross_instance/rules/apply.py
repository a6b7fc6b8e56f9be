"""One way in: an operation, the tables and the present instant give a result and changed tables.

No clock, no randomness, no I/O: the same operations at the same instants give the same results everywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.rules import (
    broadcasts,
    learning_keeping,
    locks,
    operations as ops,
    permits,
    registry,
    task_ends,
    task_purge,
    task_views,
    tasks,
    uncontended,
)
from cross_instance.rules.snapshot import snapshot

if TYPE_CHECKING:
    from cross_instance.rules.tables import Tables

R = TypeVar("R", bound=ops.Result)

RULES: dict[type[ops.Operation[Any]], Callable[[Tables, Any, ops.Instant], ops.Result]] = {
    ops.Acquire: permits.acquire,
    ops.Settle: permits.settle,
    ops.Cancel: permits.cancel,
    ops.Join: registry.join,
    ops.Heartbeat: registry.heartbeat,
    ops.Steal: broadcasts.steal,
    ops.Leave: registry.leave,
    ops.Sweep: registry.sweep,
    ops.Configure: registry.configure,
    ops.Snapshot: snapshot,
    ops.Keep: learning_keeping.keep,
    ops.Unlearn: learning_keeping.unlearn,
    ops.Lock: locks.lock,
    ops.Unlock: locks.unlock,
    ops.Push: tasks.push,
    ops.Claim: tasks.claim,
    ops.Renew: tasks.renew,
    ops.Finish: task_ends.finish,
    ops.GetTask: task_views.get_task,
    ops.CancelTask: task_ends.cancel_task,
    ops.Requeue: task_ends.requeue,
    ops.ListTasks: task_views.list_tasks,
    ops.Purge: task_purge.purge,
    ops.SetQueue: tasks.set_queue,
    ops.TaskSnapshot: task_views.task_snapshot,
}

Glance = Callable[[uncontended.Records, Any, ops.Instant], ops.Result | None]
"""Decides an operation where little is needed for it; None, and nothing has changed, where `decide` is to do it."""

AT_A_GLANCE: dict[type[ops.Operation[Any]], Glance] = {
    ops.Acquire: uncontended.acquire,
    ops.Settle: uncontended.settle,
}


def apply(tables: Tables, op: ops.Operation[R], at: ops.Instant) -> R:
    """Decide one operation at one instant, at a glance where that is enough.

    Raises `ValueError` where an operation's own figures cannot be stored; the tables are then to be thrown away
    with their transaction.
    """
    look = AT_A_GLANCE.get(type(op))
    result = None if look is None else look(tables, op, at)
    return decide(tables, op, at) if result is None else result  # type: ignore[return-value]  # each has its result


def decide(tables: Tables, op: ops.Operation[R], at: ops.Instant) -> R:
    """Decide any operation. Raises as `apply` does."""
    kind = type(op)
    try:
        return RULES[kind](tables, op, at)  # type: ignore[return-value]  # each operation is paired with its result
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{kind.__name__}: a figure is out of range ({error})") from error
