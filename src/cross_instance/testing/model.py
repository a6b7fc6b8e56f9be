"""The model: the rules over a dict, with a clock that is moved by hand. What every store is compared with."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from typing import TYPE_CHECKING, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.apply import apply
from cross_instance.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import Operation, Result, Wake
    from cross_instance.stores.base import Permit

    R = TypeVar("R", bound=Result)


class DictTables:
    """Ordered tables over a dict and a sorted list of its keys."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._before: list[tuple[bytes, bytes | None]] = []

    def begin(self) -> None:
        """Open a transaction: what is changed from here on can be undone."""
        self._before = []

    def undo(self) -> None:
        """Go back to where the transaction began."""
        for key, value in reversed(self._before):
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)

    def get(self, key: bytes, /) -> bytes | None:
        """See `Tables`."""
        return self.values.get(key)

    def put(self, key: bytes, value: bytes, /) -> None:
        """See `Tables`."""
        before = self.values.get(key)
        self._before.append((key, before))
        if before is None:
            insort(self._keys, key)
        self.values[key] = value

    def delete(self, key: bytes, /) -> None:
        """See `Tables`."""
        before = self.values.pop(key, None)
        if before is not None:
            self._before.append((key, before))
            del self._keys[bisect_left(self._keys, key)]

    def first(self, prefix: bytes, /) -> tuple[bytes, bytes] | None:
        """See `Tables`."""
        return next(self.scan(prefix), None)

    def scan(self, prefix: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """See `Tables`."""
        place = bisect_left(self._keys, prefix)
        while place < len(self._keys) and self._keys[place].startswith(prefix):
            key = self._keys[place]
            yield key, self.values[key]
            place += 1


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
