"""Parting: the store as an instance that leaves asks it, once and no more where it does not answer.

1. The first operation that finds it out of reach is the last one that is sent: those after it fail at once, in every
   thread. The others notice the end of an instance that could not say that it leaves.
2. A store that is known to be out of reach is given `BRIEFLY`, in case that it is back. Else it has its usual patience.
3. Trouble that a store tells of itself (no room, a damaged file), and trouble with what must be durable, says nothing
   of what comes after.
"""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, TypeVar

from cross_instance.errors import StoreCorrupt, StoreFull, StoreUnavailable
from cross_instance.rules.operations import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Operation, Wake
    from cross_instance.stores.base import Permit, Store

R = TypeVar("R", bound=Result)

BRIEFLY = 1.0
"""Seconds."""


class Parting:
    """A `Store` whose instance leaves; `in_haste`: it is known to be out of reach, and its connections are ours."""

    def __init__(self, store: Store, *, in_haste: bool) -> None:
        self._store = store
        self._error: StoreUnavailable | None = None
        self._hurry: Callable[[float], None] | None = getattr(store, "hurry", None) if in_haste else None
        if self._hurry is not None:
            self._hurry(time.monotonic() + BRIEFLY)

    def back(self) -> Store:
        """The store as it was: the instance stays."""
        if self._hurry is not None:
            self._hurry(math.inf)
        return self._store

    def run(self, op: Operation[R], /) -> R:
        """See `Store.run`."""
        if self._error is not None:
            raise copy.copy(self._error)
        try:
            return self._store.run(op)
        except StoreUnavailable as error:
            self.note(op, error)
            raise

    def note(self, op: Operation[R], error: StoreUnavailable) -> None:
        """An operation has failed, also one that was sent before the instance began to leave."""
        if not op.durable and not isinstance(error, StoreFull | StoreCorrupt):
            self._error = error

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """See `Store.wait`."""
        return self._store.wait(permit, timeout)

    def forget(self, permit: Permit, /) -> None:
        """See `Store.forget`."""
        self._store.forget(permit)

    def now(self) -> int:
        """See `Store.now`."""
        return self._store.now()

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()
