"""One worker that takes turns with others: a flow that yields what it wants done, for threads and for tasks.

The flow yields an operation, to be run, or a permit's name, to be waited for; a driver sends back what came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Granted,
    Join,
    Joined,
    Operation,
    Result,
    Settle,
    Waiting,
)
from cross_instance.stores.base import Permit
from cross_instance.testing.conformance.mirror import ConformanceError
from cross_instance.testing.conformance.scene import ACCOUNT, require, slots

if TYPE_CHECKING:
    from cross_instance.stores.base import AsyncStore, Store

PATIENCE = 30.0
"""How long a wake may take before it counts as lost, in seconds: far longer than any machine is slow."""

Flow = Generator[Operation[Any] | Permit, Any, None]


class Gauge:
    """How many hold a permit, and the most that ever did."""

    def __init__(self) -> None:
        self.most = 0
        self.passed = 0
        self._inside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.passed += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


def work(name: str, turns: int, width: int, gauge: Gauge) -> Flow:
    """Join, then take so many permits of an account with `width` slots, one after the other."""
    joined = yield Join(name, name, 1, "here", "here.example")
    if not isinstance(joined, Joined):
        raise ConformanceError(f"{name} could not join: {joined}")
    spec = AccountSpec((slots(width),))
    configured = yield Configure(joined.incarnation, ACCOUNT, spec)
    if not isinstance(configured, Configured):
        raise ConformanceError(f"{name} could not publish limits: {configured}")
    for seq in range(1, turns + 1):
        ask = Acquire(joined.incarnation, seq, ACCOUNT, revision=configured.revision)
        answer: Result = yield ask
        while isinstance(answer, Waiting):
            wake = yield (joined.incarnation, seq)
            require(wake is not None, f"nobody woke {name}'s permit {seq}, though others gave theirs back")
            answer = yield ask
        require(isinstance(answer, Granted), f"{name}'s permit {seq} should be granted, and got {answer}")
        with gauge:
            pass
        yield Settle(joined.incarnation, seq)


def drive(flow: Flow, store: Store) -> None:
    """Run a flow on a store."""
    outcome: Any = None
    try:
        while True:
            wanted = flow.send(outcome)
            outcome = store.run(wanted) if isinstance(wanted, Operation) else store.wait(wanted, PATIENCE)
    except StopIteration:
        return


async def drive_async(flow: Flow, store: AsyncStore) -> None:
    """Run a flow on an asynchronous store."""
    outcome: Any = None
    try:
        while True:
            wanted = flow.send(outcome)
            outcome = await (store.run(wanted) if isinstance(wanted, Operation) else store.wait(wanted, PATIENCE))
    except StopIteration:
        return
