"""The two kinds of Redis store.

1. Every operation is decided by one script on the server, in one round trip; nothing is cached between operations.
2. Threads share a few connections, the tasks of an event loop share one; waiting needs none (`wakeups`).
3. Stores opened before a fork raise `StoreUnavailable` in the child, which opens its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Result
from cross_instance.stores.redis.calls import Haste, Pause, decide, prove
from cross_instance.stores.redis.connections import Connections
from cross_instance.stores.redis.faults import ERRORS
from cross_instance.stores.redis.feed import ServerFeed
from cross_instance.stores.redis.pipeline import Pipeline
from cross_instance.stores.redis.shared import Shared, give_back, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cross_instance.rules.operations import Operation, Wake
    from cross_instance.stores.base import Permit
    from cross_instance.stores.redis.calls import Flow

R = TypeVar("R", bound=Result)
T = TypeVar("T")


class _Redis:
    """What both kinds of store share. `url` is of a form that `address` reads. Raises `ConfigError`.

    `make` makes what the stores of a process on one URL share: with a clock of its own, for instance.
    """

    def __init__(self, url: str, *, make: Callable[[str], Shared] = Shared) -> None:
        self._shared = share(url, make)
        self._haste = Haste()
        self._closed = False
        _stores.add(self)

    def forget(self, permit: Permit, /) -> None:
        """Drop what is kept for a waiter that no longer waits."""
        self._open().mailboxes.forget(permit)

    def rouse(self, permits: Iterable[Permit]) -> None:
        """Have waiters of this process ask again at once."""
        self._open().mailboxes.rouse(permits)

    def limit_patience(self, seconds: float) -> None:
        """Repeat operations for no longer than this, here and with the process's other stores on this URL."""
        self._shared.patience = min(self._shared.patience, seconds)

    def now(self) -> int:
        """The server's instant (mono µs), as well as it is known here."""
        return self._open().now()

    def _open(self) -> Shared:
        shared = self._shared
        if self._closed:
            raise StoreUnavailable(f"the store at {shared.address.shown} is closed")
        shared.check()
        return shared

    def _close(self) -> bool:
        """Let go of what is shared; whether there is something left to close."""
        if self._closed:
            return False
        self._closed = True
        give_back(self._shared)
        return not self._shared.abandoned

    def abandon(self) -> None:
        """Let go of the parent's connections, in a forked child."""


class RedisStore(_Redis):
    """A `Store` at a Redis or Valkey server; every method may be called from any thread.

    Opening it asks the server for its version. Raises `ConfigError` where the URL is wrong, or the server refuses the
    user, the database or is too old; `StoreUnavailable` where it cannot be reached.
    """

    def __init__(self, url: str, *, make: Callable[[str], Shared] = Shared) -> None:
        super().__init__(url, make=make)
        self._connections = Connections(self._shared.servers, self._haste)
        self.feed = ServerFeed(self._shared, self._connections)
        """What instances tell those of other machines."""
        try:
            self._perform(prove(self._shared, self._haste))
        except BaseException:
            self.close()
            raise

    def run(self, op: Operation[R], /) -> R:
        """Decide one operation.

        Raises `StoreFull` where the server has no room, `StoreUnavailable` where it cannot be reached or used; in each
        case the operation may have happened, and may be sent again. Raises `ValueError` where its figures cannot
        be stored.
        """
        shared = self._open()
        unheard = shared.unheard(op)
        if unheard:
            shared.listen(unheard)
        return self._perform(decide(shared, op, self._haste))

    def hurry(self, until: float) -> None:
        """Give up at an instant (monotonic, seconds) whatever cannot be decided by then, also what is under way."""
        self._haste.until = until

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds."""
        return self._open().mailboxes.wait(permit, timeout)

    def close(self) -> None:
        """Let go of the connections; may be called twice."""
        if self._close():
            self._connections.close()

    def abandon(self) -> None:
        """Let go of the parent's connections, in a forked child."""
        self._connections.abandon()

    def _perform(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    reply = self._connections.call(step)
                except ERRORS as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as done:
            answer: T = done.value
            return answer


class AsyncRedisStore(_Redis):
    """An `AsyncStore` at a Redis or Valkey server, for one event loop; its first operation connects.

    Raises `ConfigError` where the URL is wrong.
    """

    _pipeline: Pipeline | None = None

    async def run(self, op: Operation[R], /) -> R:
        """Decide one operation; raises as `RedisStore` and its `run` do.

        Cancelled, it has happened or never will: what follows it (a `Cancel`) cannot be overtaken by it.
        """
        shared = self._open()
        unheard = shared.unheard(op)
        if unheard:
            await asyncio.to_thread(shared.listen, unheard)
        return await self._perform(decide(shared, op, self._haste))

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds; safe to cancel."""
        return await self._open().mailboxes.wait_async(permit, timeout)

    async def close(self) -> None:
        """Let go of the connection; may be called twice."""
        if self._close() and self._pipeline is not None:
            await self._pipeline.close()

    def strand(self) -> None:
        """The same where the event loop was closed before: the connection is ended without it."""
        if self._close():
            self.abandon()

    def abandon(self) -> None:
        """Let go of the parent's connection, in a forked child."""
        if self._pipeline is not None:
            self._pipeline.abandon()

    async def _perform(self, flow: Flow[T]) -> T:
        pipeline = self._own_pipeline()
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    reply = await pipeline.call(step)
                except ERRORS as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as done:
            answer: T = done.value
            return answer

    def _own_pipeline(self) -> Pipeline:
        if self._pipeline is None:
            self._pipeline = Pipeline(self._shared.servers)
        if not self._pipeline.is_here:
            raise RuntimeError("this store belongs to another event loop; open one for each")
        return self._pipeline


_stores: WeakSet[Any] = WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store.abandon()
    _stores.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
