"""A synchronous store given ready made, for the worker's event loop: each call in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from cross_instance.rules.operations import Result

if TYPE_CHECKING:
    from cross_instance.rules.operations import Operation, Wake
    from cross_instance.stores.base import Permit, Store

R = TypeVar("R", bound=Result)

LONGEST_WAIT = 0.1
"""Seconds that a thread waits at once: it cannot be cancelled, and a worker that ends waits for it."""


class ThreadedStore:
    """An `AsyncStore` over a `Store`, which stays its owner's to close."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.forget = store.forget
        self.now = store.now

    async def run(self, op: Operation[R], /) -> R:
        """Decide one operation; see `Store.run`. Cancelled, it has happened, or never will."""
        work = asyncio.ensure_future(asyncio.to_thread(self._store.run, op))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})
            raise

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds; safe to cancel."""
        return await asyncio.to_thread(self._store.wait, permit, min(timeout, LONGEST_WAIT))

    async def close(self) -> None:
        """Nothing is held here."""
