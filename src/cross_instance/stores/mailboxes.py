"""Mailboxes: wakes that have reached this process, and the threads and tasks that wait for them.

1. A wake that nobody waits for is kept until somebody does, or forgets it; of several the earliest instant is kept,
   since asking the store too early costs one operation and asking too late costs time.
2. Kept wakes are bounded; the oldest go first. Wakes are hints.
3. A waiting task needs a future and nothing else: ten thousand of them share one thread, and the wakes that arrive
   together enter an event loop together.
4. Any call may interrupt another in the same thread (a finaliser, a signal handler): the lock is re-entrant, and no
   foreign code runs under it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cross_instance.stores.base import Permit

    Notify = Callable[[Wake | None], None]
    Future = asyncio.Future[Wake | None]

KEPT = 65_536
"""Wakes kept at most for waiters that are not waiting."""


class Mailboxes:
    """The wakes and waiters of one process at one store; at most one waiter for each permit."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: dict[Permit, Wake] = {}
        self._waiters: dict[Permit, Notify] = {}
        self._entrances: WeakKeyDictionary[asyncio.AbstractEventLoop, _Entrance] = WeakKeyDictionary()
        self._closed = False

    def deliver(self, wakes: Iterable[Wake]) -> None:
        """Give wakes to their waiters, or keep them."""
        notified = []
        with self._lock:
            for wake in wakes:
                permit = (wake.incarnation, wake.seq)
                notify = self._waiters.pop(permit, None)
                if notify is not None:
                    notified.append((notify, wake))
                else:
                    self._keep(permit, wake)
        for notify, wake in notified:
            notify(wake)

    def _keep(self, permit: Permit, wake: Wake) -> None:
        earlier = self._kept.get(permit)
        if earlier is None or wake.at < earlier.at:
            self._kept[permit] = wake
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def rouse(self, permits: Iterable[Permit] | None = None) -> None:
        """Wake these waiters, None: every one that waits, since wakes may have been lost; each asks for itself."""
        with self._lock:
            waiting = list(self._waiters if permits is None else permits)
        self.deliver(Wake(*permit, 0) for permit in waiting)

    def forget(self, permit: Permit) -> None:
        """Drop what is kept for a waiter."""
        with self._lock:
            self._kept.pop(permit, None)

    def wait(self, permit: Permit, timeout: float) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds; blocks the thread."""
        arrived = threading.Lock()
        arrived.acquire()
        answer: list[Wake | None] = []

        def notify(wake: Wake | None) -> None:
            answer.append(wake)
            arrived.release()

        kept = self._enter(permit, notify)
        if kept is not None:
            return kept
        here = False
        try:
            here = arrived.acquire(timeout=min(max(timeout, 0), threading.TIMEOUT_MAX))
        finally:
            left = self._leave(permit, notify)
        if left:
            return None
        if not here:  # it came at the last moment, and is about to be handed over
            arrived.acquire()
        return self._answered(answer[0])

    async def wait_async(self, permit: Permit, timeout: float) -> Wake | None:
        """The same for a task. A cancelled task loses no wake: it is kept."""
        loop = asyncio.get_running_loop()
        future: Future = loop.create_future()
        notify = partial(self._entrance(loop).bring, future)
        kept = self._enter(permit, notify)
        if kept is not None:
            return kept
        timer = loop.call_later(max(timeout, 0), _expire, future)
        try:
            wake = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and (wake := future.result()) is not None:
                self.deliver((wake,))
            raise
        finally:
            timer.cancel()
            left = self._leave(permit, notify)
        return self._answered(wake) if not left else None

    def close(self) -> None:
        """End every wait with `StoreUnavailable`."""
        with self._lock:
            self._closed = True
            waiters = list(self._waiters.values())
            self._waiters.clear()
            self._kept.clear()
        for notify in waiters:
            notify(None)

    def _enter(self, permit: Permit, notify: Notify) -> Wake | None:
        """Register a waiter, or answer at once with what is kept for it."""
        with self._lock:
            if self._closed:
                raise _closed()
            kept = self._kept.pop(permit, None)
            if kept is None:
                self._waiters[permit] = notify
            return kept

    def _leave(self, permit: Permit, notify: Notify) -> bool:
        """Withdraw a waiter; whether it was still registered, so that nothing had come."""
        with self._lock:
            if self._waiters.get(permit) is not notify:
                return False
            del self._waiters[permit]
            return True

    def _answered(self, wake: Wake | None) -> Wake | None:
        if wake is None and self._closed:
            raise _closed()
        return wake

    def _entrance(self, loop: asyncio.AbstractEventLoop) -> _Entrance:
        with self._lock:
            entrance = self._entrances.get(loop)
            if entrance is None:
                entrance = self._entrances[loop] = _Entrance(loop, self.deliver)
            return entrance


class _Entrance:
    """Brings wakes from any thread into one event loop, all that are there with one call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, give_back: Callable[[Iterable[Wake]], None]) -> None:
        self._loop = ref(loop)
        self._give_back = give_back
        self._arrived: deque[tuple[Future, Wake | None]] = deque()
        self._called = False

    def bring(self, future: Future, wake: Wake | None) -> None:
        """Resolve a future of this loop, from any thread."""
        self._arrived.append((future, wake))
        if self._called:
            return
        loop = self._loop()
        if loop is None:
            return
        self._called = True
        try:
            loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # the loop is closed, and with it all that waited there
            self._arrived.clear()

    def _resolve(self) -> None:
        self._called = False
        while self._arrived:
            future, wake = self._arrived.popleft()
            if not future.done():
                future.set_result(wake)
            elif wake is not None:
                self._give_back((wake,))


def _expire(future: Future) -> None:
    if not future.done():
        future.set_result(None)


def _closed() -> StoreUnavailable:
    return StoreUnavailable("this store is closed")
