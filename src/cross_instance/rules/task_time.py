"""What time does to tasks: they become due, and are forgotten when their retention is over.

1. Tasks that have become due become ready before an operation puts anything at the end of a list: within a class the
   first to be ready is the first to be served.
2. Whatever adds or ends tasks forgets twice as many whose retention is over, so the store needs no caretaker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.tables import DELAYED, EXPIRES
from cross_instance.rules.task_records import Phase

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant
    from cross_instance.rules.task_desk import Desk
    from cross_instance.rules.task_records import Task

DUE_AT_ONCE = 100
"""How many tasks that have become due one operation makes ready."""


def make_due_ready(desk: Desk) -> None:
    """Move tasks whose time has come to the end of their lists, the longest due first."""
    for task in desk.due(DELAYED, DUE_AT_ONCE):
        desk.undelay(task)
        desk.ready(task)
        desk.keep(task)


def forget_expired(desk: Desk, most: int) -> None:
    """Forget tasks whose retention is over."""
    for task in desk.due(EXPIRES, most):
        desk.forget(task)


def has_expired(task: Task, at: Instant) -> bool:
    """Whether a task is over, and so is its retention; a dead letter has none."""
    return task.phase not in (Phase.OPEN, Phase.DEAD) and task.finished_at + task.spec.retention <= at.wall
