"""Tasks: who owns one.

A task has one owner per epoch. A stale owner buys no permits for it, so that a paused zombie spends no money.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.tables import CLAIM, named

if TYPE_CHECKING:
    from cross_instance.rules.tables import Tables


def owns(tables: Tables, task: str, epoch: int, incarnation: int) -> bool:
    """Whether this incarnation holds the task's claim in this epoch."""
    claim = tables.get(named(CLAIM, task))
    return claim == epoch.to_bytes(8) + incarnation.to_bytes(8)
