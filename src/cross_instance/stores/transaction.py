"""The tables of one operation: a transaction over the coordination file and, once it is needed, the durable one.

1. A key's first byte says which file holds it.
2. The durable file is committed first. A process that dies between the two has durably said what nobody acts on
   yet; the other order would let others act on what a power cut then takes back.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import lmdb

from cross_instance.rules.tables import DURABLE_FROM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Item = tuple[bytes, bytes]

DURABLE = bytes((DURABLE_FROM,))
"""The first durable key; as bytes, so that routing is one comparison."""


class Transaction:
    """`Tables` over LMDB; the first use of a durable key opens the durable transaction."""

    __slots__ = ("_begin_durable", "_coordination", "_cursor", "_durable", "in_durable")

    def __init__(self, coordination: lmdb.Transaction, begin_durable: Callable[[], lmdb.Transaction]) -> None:
        self._coordination = coordination
        self._begin_durable = begin_durable
        self._durable: lmdb.Transaction | None = None
        self._cursor: lmdb.Cursor | None = None
        self.in_durable = False
        """Whether the durable file is being used; after an error: whether that is where it happened."""

    def get(self, key: bytes, /) -> bytes | None:
        """See `Tables`."""
        if key >= DURABLE:
            value: bytes | None = self._durably(lmdb.Transaction.get, key)
            return value
        return self._coordination.get(key)  # type: ignore[return-value]  # buffers are off: bytes

    def put(self, key: bytes, value: bytes, /) -> None:
        """See `Tables`."""
        if key >= DURABLE:
            self._durably(lmdb.Transaction.put, key, value)
        else:
            self._coordination.put(key, value)

    def delete(self, key: bytes, /) -> None:
        """See `Tables`."""
        if key >= DURABLE:
            self._durably(lmdb.Transaction.delete, key)
        else:
            self._coordination.delete(key)

    def first(self, prefix: bytes, /) -> tuple[bytes, bytes] | None:
        """See `Tables`."""
        if not prefix:
            return next(self.scan(prefix), None)
        if prefix >= DURABLE:
            return self._seek_durable(prefix, prefix)
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self._coordination.cursor()
        if cursor.set_range(prefix):
            item: Item = cursor.item()  # type: ignore[assignment]  # buffers are off: bytes
            if item[0].startswith(prefix):
                return item
        return None

    def after(self, prefix: bytes, key: bytes, /) -> Item | None:
        """See `Tables`."""
        start = max(prefix, key + b"\0")
        return self._seek_durable(prefix, start) if prefix >= DURABLE else _seek(self._coordination, prefix, start)

    def scan(self, prefix: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        """See `Tables`."""
        if prefix < DURABLE:
            yield from _scan(self._coordination, prefix)
        if not prefix or prefix >= DURABLE:
            yield from self._durably(lambda durable: list(_scan(durable, prefix)))

    @property
    def is_durable(self) -> bool:
        """Whether the durable file takes part."""
        return self._durable is not None

    def commit(self) -> None:
        """Make the changes last: both files' or, where the process dies in between, the durable one's."""
        if self._durable is not None:
            self._durably(lmdb.Transaction.commit)
        self._coordination.commit()

    def abort(self) -> None:
        """Throw away what has not been committed."""
        for transaction in (self._durable, self._coordination):
            if transaction is not None:
                with contextlib.suppress(lmdb.Error):  # LMDB has ended it already: committed, or broken
                    transaction.abort()

    def _seek_durable(self, prefix: bytes, start: bytes) -> Item | None:
        found: Item | None = self._durably(_seek, prefix, start)
        return found

    def _durably(self, call: Callable[..., Any], *arguments: bytes) -> Any:
        self.in_durable = True
        if self._durable is None:
            self._durable = self._begin_durable()
        answer = call(self._durable, *arguments)
        self.in_durable = False
        return answer


def _seek(transaction: lmdb.Transaction, prefix: bytes, start: bytes) -> Item | None:
    cursor = transaction.cursor()
    if cursor.set_range(start):
        item: Item = cursor.item()  # type: ignore[assignment]  # buffers are off: bytes
        if item[0].startswith(prefix):
            return item
    return None


def _scan(transaction: lmdb.Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Seek each key anew: LMDB checks the pages it meets when seeking, and aborts the process on some when stepping."""
    cursor = transaction.cursor()
    key = prefix
    while cursor.set_range(key):
        item: Item = cursor.item()  # type: ignore[assignment]  # buffers are off: bytes
        if not item[0].startswith(prefix):
            return
        yield item
        key = item[0] + b"\0"
