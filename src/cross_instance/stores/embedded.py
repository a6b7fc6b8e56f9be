"""The embedded store: processes of one machine share a folder, without a server.

1. Every operation is decided in the folder, under its gate; nothing is cached between operations.
2. All stores of a process on one folder share one environment (see `environment`): its files, gate and wake-ups.
3. `AsyncEmbeddedStore` decides in the event loop where the gate is free, and leaves waiting, and whatever is synced to
   the disk or goes through everything, to a thread.
4. Stores opened before a fork raise `StoreUnavailable` in the child, which opens its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Result
from cross_instance.stores.environment import PATIENCE, Environment, machine_clock
from cross_instance.stores.sharing import give_back, share

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future
    from pathlib import Path

    from cross_instance.rules.operations import Operation, Wake
    from cross_instance.stores.base import Permit
    from cross_instance.stores.environment import Clock

R = TypeVar("R", bound=Result)

LOOP_TRIES = 4
"""How often an event loop tries a busy gate, about as long as one operation takes, before a thread does."""


class _Embedded:
    """What both kinds of store share.

    `folder` is made where it is missing. `clock` tells the instants at which operations are decided; all stores of a
    folder must have the same. `patience`: seconds after which a process that holds the store counts as stuck.
    Raises `StoreUnavailable`, or one of its kinds, where the folder cannot be used.
    """

    def __init__(self, folder: Path, *, clock: Clock = machine_clock, patience: float = PATIENCE) -> None:
        self.folder = folder
        self._clock = clock
        self._patience = patience
        self._shared: Environment | None = share(folder, patience)

    def forget(self, permit: Permit, /) -> None:
        """Drop what is kept for a waiter that no longer waits."""
        self._environment().mailboxes.forget(permit)

    def rouse(self, permits: Iterable[Permit]) -> None:
        """Have waiters of this process ask again at once."""
        self._environment().mailboxes.rouse(permits)

    def now(self) -> int:
        """The store's instant, mono µs."""
        self._environment()
        return self._clock().mono

    def _environment(self) -> Environment:
        if self._shared is None:
            raise StoreUnavailable(f"the store in {self.folder} is closed")
        return self._shared

    def _close(self) -> None:
        environment, self._shared = self._shared, None
        if environment is not None:
            give_back(environment)


class EmbeddedStore(_Embedded):
    """A `Store` in a folder of this machine; every method may be called from any thread."""

    def run(self, op: Operation[R], /) -> R:
        """Decide one operation.

        Raises `StoreBusy` where another process holds the store and does not let go, `StoreFull` where there is no
        room, `StoreCorrupt` where a durable file is damaged, `StoreUnavailable` for the rest; in each case the
        operation may be sent again. Raises `ValueError` where its figures cannot be stored.
        """
        environment = self._shared or self._environment()
        result = environment.attempt(op, self._clock)
        if result is None:
            result = environment.insist(op, self._clock, time.monotonic() + self._patience)
        return result

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds."""
        return self._environment().mailboxes.wait(permit, timeout)

    def close(self) -> None:
        """Let go of the folder; may be called twice."""
        self._close()


class AsyncEmbeddedStore(_Embedded):
    """An `AsyncStore` in a folder of this machine; several event loops may use it."""

    async def run(self, op: Operation[R], /) -> R:
        """Decide one operation; raises as `EmbeddedStore.run` does.

        Cancelled, it has happened or never will: what follows it (a `Cancel`) cannot be overtaken by it.
        """
        environment, deadline = self._environment(), time.monotonic() + self._patience
        if not (op.durable or op.lengthy):
            for _ in range(LOOP_TRIES):
                result = None if environment.is_occupied() else environment.attempt(op, self._clock)
                if result is not None:
                    return result
        return await _ended(environment.queue(op, self._clock, deadline))

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds; safe to cancel."""
        return await self._environment().mailboxes.wait_async(permit, timeout)

    async def close(self) -> None:
        """Let go of the folder; may be called twice."""
        self._close()

    def strand(self) -> None:
        """The same where the event loop was closed before."""
        self._close()


async def _ended(queued: Future[R]) -> R:
    """The answer of the gate's thread; cancelled, its operation is withdrawn or, where it runs already, waited for."""
    answer = asyncio.wrap_future(queued)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        while not queued.cancel() and not answer.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({answer})
        if not answer.cancelled() and answer.done():
            answer.exception()  # looked at, so that asyncio does not report it as forgotten
        raise
