"""What an operation costs behind ten thousand waiters.

1. One slot is held; requests of many instances wait for it. Each operation is timed, and the queue is then made what it
   was before: only operations on a queue of the same length are compared.
2. The floor is the same code in a queue that is otherwise empty.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from bench.measuring import Role, Row, Subject, Target
from bench.ours import ACCOUNT, PROVIDER, join, settings_in
from bench.slots import ONE_SLOT
from cross_instance.rules.operations import Acquire, Cancel, Granted, Result, Settle, Waiting
from cross_instance.stores.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measuring import Figures, Scale
    from cross_instance.rules.operations import AccountSpec, Operation
    from cross_instance.stores.base import Store

R = TypeVar("R", bound=Result)

INSTANCES = 20
WAIT, CANCEL, GRANT, TAKE = "acquire that waits", "cancel", "settle that grants", "acquire that takes the grant"


class Queue:
    """One slot and the requests that wait for it, those of many instances mixed."""

    def __init__(self, store: Store, spec: AccountSpec, waiters: int) -> None:
        self._store = store
        members = [join(self._store, spec) for _ in range(INSTANCES)]
        self._revision = members[-1].revision
        self._names = ((member.incarnation, seq) for seq in count(1) for member in members)
        self._spent: defaultdict[str, list[int]] = defaultdict(list)
        self._holder = next(self._names)
        granted = self._store.run(self._acquire(self._holder))
        assert isinstance(granted, Granted)
        for _ in range(waiters):
            self._join_queue()

    def measure(self, samples: int) -> Figures:
        """The median of each operation, of so many, in µs."""
        self._spent.clear()
        for _ in range(samples):
            self._come_and_go()
            self._pass_on()
        return {f"{operation} µs": median(spent) / 1e3 for operation, spent in self._spent.items()}

    def _come_and_go(self) -> None:
        name = next(self._names)
        assert isinstance(self._timed(WAIT, self._acquire(name)), Waiting)
        assert self._timed(CANCEL, Cancel(*name)).was == "waiting"

    def _pass_on(self) -> None:
        self._join_queue()
        (wake, *_) = self._timed(GRANT, Settle(*self._holder)).wakes
        self._holder = wake.incarnation, wake.seq
        taken = self._timed(TAKE, self._acquire(self._holder))
        assert isinstance(taken, Granted)

    def _join_queue(self) -> None:
        waiting = self._store.run(self._acquire(next(self._names)))
        assert isinstance(waiting, Waiting)

    def _acquire(self, name: tuple[int, int]) -> Acquire:
        return Acquire(*name, ACCOUNT, "", self._revision)

    def _timed(self, operation: str, op: Operation[R]) -> R:
        begun = time.monotonic_ns()
        result = self._store.run(op)
        self._spent[operation].append(time.monotonic_ns() - begun)
        return result


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    names = {0: "queue otherwise empty", scale.waiters: f"cross-instance, {scale.waiters:,} waiters"}
    spec = settings_in(folder, **ONE_SLOT).account_spec(PROVIDER, "default")
    with ExitStack() as stack:
        stores = {length: stack.enter_context(closing(EmbeddedStore(folder / str(length)))) for length in names}
        queues = {length: Queue(store, spec, length) for length, store in stores.items()}
        yield [
            Subject(name, Role.OURS if length else Role.FLOOR, partial(queues[length].measure, scale.queue_samples))
            for length, name in names.items()
        ]


ROW = Row(
    name="waiters",
    title="10,000 waiters",
    method=(
        "One slot is held, and requests of 20 instances wait for it. Timed on the store: a request that joins the "
        "queue, one that leaves it, the settlement that grants the slot to the first in order, and that one's taking "
        "it. The floor is the same in a queue that is otherwise empty. No peer has a queue to compare with."
    ),
    rounds=7,
    targets=tuple(Target(f"{name} µs", "at most", 2, of_floor=True) for name in (WAIT, CANCEL, GRANT, TAKE)),
    shown=f"{GRANT} µs",
    subjects=subjects,
)
