"""Steady stores: a store, and what stands in for it while it is out of reach; the one place where that is noticed.

1. While the store answers, every operation is its own: a permit still costs one operation to take and one to return.
2. Callers never wait for a store that is known to be out of reach, unless they ask for something only it can tell.
3. Its clock is the store's, so that instants mean the same in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from cross_instance.degraded.fallback import PERMITS
from cross_instance.degraded.parting import Parting
from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.degraded.fallback import Fallback
    from cross_instance.rules.operations import Operation, Wake
    from cross_instance.stores.base import AsyncStore, Feed, Permit, Store

R = TypeVar("R", bound=Result)
StoreT = TypeVar("StoreT", bound="Store | AsyncStore")


class _Steady(Generic[StoreT]):
    """What both kinds have in common."""

    def __init__(self, store: StoreT, fallback: Fallback) -> None:
        self._store: StoreT = store
        self._fallback = fallback

    def forget(self, permit: Permit, /) -> None:
        """Drop what is kept for a waiter that no longer waits."""
        self._store.forget(permit)

    def now(self) -> int:
        """See `Store.now`."""
        return self._store.now()

    def _without(self, op: Operation[R]) -> R | None:
        """What is decided without the store; None: the store is to be asked."""
        return cast("R | None", self._fallback.decide(op)) if type(op) in PERMITS else None

    def _instead(self, op: Operation[R], error: BaseException) -> R:
        """What is decided where the store could not be reached; raises the error where that is nothing."""
        if not isinstance(error, StoreUnavailable):
            self._fallback.interrupted(op)
            raise error
        if isinstance(self._store, Parting):  # it may have been asked before that
            self._store.note(op, error)
        answer = self._without(op) if self._fallback.begin(error, op) else None
        if answer is None:
            raise error
        return answer

    def _no_wake(self, error: StoreUnavailable) -> None:
        """A wait that the store cannot serve is over; raises the error where nothing stands in for it."""
        if not self._fallback.begin(error):
            raise error


class SteadyStore(_Steady["Store"]):
    """A `Store` that goes on with its instance's last fair share."""

    def __init__(self, store: Store, fallback: Fallback) -> None:
        super().__init__(store, fallback)
        self.feed: Feed | None = getattr(store, "feed", None)
        """Where instances of other machines hear what is told; None: the store is one machine's."""

    def part(self, *, in_haste: bool) -> None:
        """The instance leaves: see `Parting`."""
        if not isinstance(self._store, Parting):
            self._store = Parting(self._store, in_haste=in_haste)

    def stay(self) -> None:
        """It does not leave after all: somebody has come meanwhile."""
        if isinstance(self._store, Parting):
            self._store = self._store.back()

    def run(self, op: Operation[R], /) -> R:
        """Decide one operation; see `Store.run`. Raises `StoreUnavailable` where the share does not allow it."""
        fallback = self._fallback
        if (fallback.loans or fallback.outage is not None) and (stand_in := self._without(op)) is not None:
            return stand_in
        try:
            answer = self._store.run(op)
            fallback.answered(op, answer)
        except BaseException as error:  # noqa: BLE001 - raised again unless something stands in
            return self._instead(op, error)
        return answer

    def insist(self, op: Operation[R], /) -> R:
        """Decide one operation in the store itself. Raises `StoreUnavailable` where it cannot be reached."""
        answer = self._store.run(op)
        self._fallback.answered(op, answer)
        return answer

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds."""
        outage = self._fallback.outage
        if outage is not None:
            return outage.mailboxes.wait(permit, timeout)
        try:
            return self._store.wait(permit, timeout)
        except StoreUnavailable as error:
            self._no_wake(error)
            return None

    def rouse(self, permits: Iterable[Permit]) -> None:
        """Have waiters ask again at once, where the store can: they do so by their own timers, too."""
        outage, rouse = self._fallback.outage, getattr(self._store, "rouse", None)
        if outage is not None:
            outage.wake(permits)
        if rouse is not None:
            rouse(permits)

    def close(self) -> None:
        """Let go of every resource."""
        self._store.close()


class AsyncSteadyStore(_Steady["AsyncStore"]):
    """The same for asyncio."""

    async def run(self, op: Operation[R], /) -> R:
        """See `SteadyStore.run`."""
        fallback = self._fallback
        if (fallback.loans or fallback.outage is not None) and (stand_in := self._without(op)) is not None:
            return stand_in
        try:
            answer = await self._store.run(op)
            fallback.answered(op, answer)
        except BaseException as error:  # noqa: BLE001 - raised again unless something stands in
            return self._instead(op, error)
        return answer

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """See `SteadyStore.wait`; safe to cancel."""
        outage = self._fallback.outage
        if outage is not None:
            return await outage.mailboxes.wait_async(permit, timeout)
        try:
            return await self._store.wait(permit, timeout)
        except StoreUnavailable as error:
            self._no_wake(error)
            return None

    async def close(self) -> None:
        """Let go of every resource."""
        await self._store.close()

    def strand(self) -> None:
        """The same where the event loop was closed before, as far as the store can do without it."""
        strand = getattr(self._store, "strand", None)
        if strand is not None:
            strand()
