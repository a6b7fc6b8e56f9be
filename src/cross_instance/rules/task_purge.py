"""Forgetting tasks that are over: by name, by state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import task_checks
from cross_instance.rules.operations import Purged
from cross_instance.rules.tables import BY_PHASE
from cross_instance.rules.task_desk import Desk
from cross_instance.rules.task_records import PHASES, Phase
from cross_instance.rules.task_time import forget_expired

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant, Purge
    from cross_instance.rules.tables import Tables


def purge(tables: Tables, op: Purge, at: Instant) -> Purged:
    """Decide a `Purge`.

    Raises `ValueError` for a state in which tasks are not over.
    """
    task_checks.purge(op)
    desk = Desk(tables, at)
    forget_expired(desk, op.most)
    purged, after = [], ""
    for name in op.tasks:
        task = desk.task(name)
        if task is not None and task.phase is not Phase.OPEN:
            desk.forget(task)
            purged.append(name)
    if op.state is not None:
        after = _purge_state(desk, op, purged)
    desk.close()
    return Purged(at=at, tasks=tuple(purged), after=after)


def _purge_state(desk: Desk, op: Purge, purged: list[str]) -> str:
    """Look at `most` tasks of a state; where to go on."""
    assert op.state is not None
    prefix = BY_PHASE + bytes((PHASES[op.state],))
    key = bytes.fromhex(op.after) or prefix
    for _ in range(op.most):
        found = desk.tables.after(prefix, key)
        if found is None:
            return ""
        key = found[0]
        task = desk.listed(found[1].decode())
        if task.finished_at < op.before:
            desk.forget(task)
            purged.append(task.spec.task)
    return key.hex()
