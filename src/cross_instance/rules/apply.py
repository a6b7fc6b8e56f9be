"""One way in: an operation, the tables and the present instant give a result and changed tables.

No clock, no randomness, no I/O: the same operations at the same instants give the same results everywhere.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.rules import locks, operations as ops, permits, registry, uncontended
from cross_instance.rules.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.tables import Tables

R = TypeVar("R", bound=ops.Result)

RULES: dict[type[ops.Operation[Any]], Callable[[Tables, Any, ops.Instant], ops.Result]] = {
    ops.Acquire: permits.acquire,
    ops.Settle: permits.settle,
    ops.Cancel: permits.cancel,
    ops.Join: registry.join,
    ops.Heartbeat: registry.heartbeat,
    ops.Leave: registry.leave,
    ops.Sweep: registry.sweep,
    ops.Configure: registry.configure,
    ops.Snapshot: snapshot,
    ops.Lock: locks.lock,
    ops.Unlock: locks.unlock,
}

AT_A_GLANCE: dict[type[ops.Operation[Any]], Callable[[Tables, Any, ops.Instant], ops.Result | None]] = {
    ops.Acquire: uncontended.acquire,
    ops.Settle: uncontended.settle,
}


def apply(tables: Tables, op: ops.Operation[R], at: ops.Instant) -> R:
    """Decide one operation at one instant.

    Raises `ValueError` where an operation's own figures cannot be stored; the tables are then to be thrown away
    with their transaction.
    """
    kind = type(op)
    try:
        if kind in AT_A_GLANCE:
            result = AT_A_GLANCE[kind](tables, op, at)
            if result is not None:
                return result  # type: ignore[return-value]  # the tables pair each operation with its result
        return RULES[kind](tables, op, at)  # type: ignore[return-value]
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{kind.__name__}: a figure is out of range ({error})") from error
