"""What a runtime lets people see: its status, the limits in force, and events as they happen.

1. A store out of reach is part of a status, not an error of asking for it.
2. A subscription ends with its runtime, if it was not closed before. Who wants everyone's events has his process look
   for what nobody tells by himself: who comes and goes, and what nears its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from cross_instance.coordinator_events import WatchingSubscription, keep
from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Snapshot
from cross_instance.status import instance_status, limits_of, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cross_instance.events import Event, Subscription
    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import World
    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.status import Limit, Status


class _Observing:
    """What both runtimes have in common."""

    _membership: Membership
    _subscriptions: list[Subscription]

    def _subscribed(self, subscription: Subscription, everyone: bool) -> Subscription:
        if everyone:
            subscription = WatchingSubscription(subscription, self._membership.activity)
        keep(self._subscriptions, subscription)
        return subscription

    def _end_subscriptions(self) -> None:
        while self._subscriptions:
            self._subscriptions.pop().close()


class Observing(_Observing):
    """What a `Runtime` lets people see."""

    def status(self) -> Status:
        """How this instance and the store stand; a store out of reach is part of the answer, not an error."""
        return status_of(self._membership, self._world())

    def limits(self) -> tuple[Limit, ...]:
        """The limits in force, each with its source, and those configured for accounts that are not in use."""
        return limits_of(self._world(), self._membership.settings)

    def pi_instance_status(self) -> dict[str, Any]:
        """The status in the form of the user guide (Example 4)."""
        return instance_status(self.status())

    def subscribe(self, callback: Callable[[Event], object], *, everyone: bool = False) -> Subscription:
        """Have a function called with each event (`cross_instance.events`), in a thread of its own, until `close`.

        `everyone`: also with what is told in passing, such as grants, and with what the other instances of the store
        tell, within about a second or two.
        """
        subscription = self._membership.events.subscribe(callback, everyone=everyone)
        return self._subscribed(subscription, everyone)

    def _world(self) -> World | None:
        runtime = cast("Runtime", self)
        try:
            return runtime.run(Snapshot()) if runtime.join() else None
        except StoreUnavailable as error:
            self._membership.standing.note_trouble(error)
            return None


class AsyncObserving(_Observing):
    """What an `AsyncRuntime` lets people see."""

    async def status(self) -> Status:
        """How this instance and the store stand; a store out of reach is part of the answer, not an error."""
        return status_of(self._membership, await self._world())

    async def limits(self) -> tuple[Limit, ...]:
        """The limits in force, each with its source, and those configured for accounts that are not in use."""
        return limits_of(await self._world(), self._membership.settings)

    async def pi_instance_status(self) -> dict[str, Any]:
        """The status in the form of the user guide (Example 4)."""
        return instance_status(await self.status())

    def subscribe(
        self, callback: Callable[[Event], Awaitable[object] | object], *, everyone: bool = False
    ) -> Subscription:
        """Have a function, or coroutine function, called with each event in the running event loop, until `close`.

        `everyone`: see `Runtime.subscribe`.
        """
        subscription = self._membership.events.subscribe_here(callback, everyone=everyone)
        return self._subscribed(subscription, everyone)

    async def _world(self) -> World | None:
        runtime = cast("AsyncRuntime", self)
        try:
            return await runtime.run(Snapshot()) if await runtime.join() else None
        except StoreUnavailable as error:
            self._membership.standing.note_trouble(error)
            return None
