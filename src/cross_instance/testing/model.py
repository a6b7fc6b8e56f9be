"""The model: the rules over a dict, with a clock that is moved by hand. What every store is compared with."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.apply import apply
from cross_instance.stores.memory import DictTables
from cross_instance.testing.clock import FakeClock

if TYPE_CHECKING:
    from cross_instance.rules.operations import Operation, Result, Wake
    from cross_instance.stores.base import Permit

    R = TypeVar("R", bound=Result)


class ModelStore:
    """A store in this process's memory, for tests and simulations; `Store` and its clock in one.

    Not for threads: nothing waits here. `wait` answers at once with a wake that has arrived, or None.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.tables = DictTables()
        self._mail: defaultdict[Permit, deque[Wake]] = defaultdict(deque)
        self._closed = False

    def run(self, op: Operation[R], /) -> R:
        """Decide one operation at the clock's instant."""
        self._check_open()
        self.tables.begin()
        try:
            result = apply(self.tables, op, self.clock())
        except ValueError:
            self.tables.undo()
            raise
        for wake in result.wakes:
            self._mail[wake.incarnation, wake.seq].append(wake)
        return result

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:  # noqa: ARG002  # nothing arrives by waiting here
        """The next wake that has arrived."""
        self._check_open()
        mail = self._mail[permit]
        return mail.popleft() if mail else None

    def forget(self, permit: Permit, /) -> None:
        """Drop a waiter's mail."""
        self._mail.pop(permit, None)

    def now(self) -> int:
        """The clock's instant, mono µs."""
        return self.clock.mono

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("this store is closed")

    def close(self) -> None:
        """Refuse every further call."""
        self._closed = True
