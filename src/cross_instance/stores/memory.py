"""A store in this process's own memory: the same rules over a dict, for what is decided without others.

1. An operation is decided under one lock, entirely or not at all; its wakes are delivered outside.
2. The clock is given. Its instants never run backwards here, whatever the clock does.
3. A thread that calls the store from inside an operation (a finaliser, a signal handler) is told so at once.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.apply import apply
from cross_instance.rules.operations import Instant, Result
from cross_instance.stores.mailboxes import Mailboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cross_instance.rules.operations import Operation, Wake
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

    def after(self, prefix: bytes, key: bytes, /) -> tuple[bytes, bytes] | None:
        """See `Tables`."""
        place = bisect_right(self._keys, key) if key >= prefix else bisect_left(self._keys, prefix)
        if place < len(self._keys) and self._keys[place].startswith(prefix):
            return self._keys[place], self.values[self._keys[place]]
        return None

    def scan(self, prefix: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """See `Tables`."""
        place = bisect_left(self._keys, prefix)
        while place < len(self._keys) and self._keys[place].startswith(prefix):
            key = self._keys[place]
            yield key, self.values[key]
            place += 1


class MemoryStore:
    """A `Store` that nobody else sees; every method may be called from any thread.

    Tasks wait with `mailboxes.wait_async`. It holds nothing that would need closing.
    """

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self.tables = DictTables()
        self.mailboxes = Mailboxes()
        self._clock = clock
        self._at = Instant(0, 0)
        self._lock = threading.RLock()
        self._inside = False
        self._closed = False

    def run(self, op: Operation[R], /) -> R:
        """Decide one operation. Raises `ValueError` where its figures cannot be stored."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable("this store is closed")
            if self._inside:
                raise StoreUnavailable("the store was called from inside one of its operations; call it later")
            self._inside = True
            try:
                result = self._decide(op)
            finally:
                self._inside = False
        self.mailboxes.deliver(result.wakes)
        return result

    def _decide(self, op: Operation[R]) -> R:
        now = self._clock()
        self._at = Instant(max(now.mono, self._at.mono), now.wall)
        self.tables.begin()
        try:
            return apply(self.tables, op, self._at)
        except BaseException:
            self.tables.undo()
            raise

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds."""
        return self.mailboxes.wait(permit, timeout)

    def forget(self, permit: Permit, /) -> None:
        """Drop what is kept for a waiter that no longer waits."""
        self.mailboxes.forget(permit)

    def now(self) -> int:
        """The store's instant, mono µs."""
        return max(self._clock().mono, self._at.mono)

    def close(self) -> None:
        """Refuse every further call; may be called twice."""
        self._closed = True
        self.mailboxes.close()
