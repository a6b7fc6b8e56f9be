"""`subscribe_coordinator_events`, as in the user guide: who comes and goes, and what nears its limit.

1. It is `subscribe(everyone=True)`, narrowed to three kinds of events.
2. Callbacks may be coroutine functions: an `AsyncRuntime` awaits them in its loop, a `Runtime` runs them in the
   subscription's thread.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Self

from cross_instance import events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from cross_instance.events import Event, Subscription
    from cross_instance.membership.membership import Membership
    from cross_instance.watching.activity import Activity

    OnWarning = Callable[[str, float], Awaitable[object] | object]
    OnInstance = Callable[[str], Awaitable[object] | object]


class WatchingSubscription:
    """A subscription to what everyone tells: meanwhile the store is looked at, and the feed read.

    It lasts until it, or its runtime, is closed. It may be awaited, as in the guide; that gives itself.
    """

    def __init__(self, subscription: Subscription, activity: Activity) -> None:
        self._subscription = subscription
        self._activity: Activity | None = activity
        activity.watch()

    @property
    def dropped(self) -> int:
        """Events lost because the callbacks did not keep up."""
        return self._subscription.dropped

    @property
    def is_over(self) -> bool:
        """Whether it was ended."""
        return self._subscription.is_over

    def close(self) -> None:
        """End it. May be called twice."""
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.unwatch()
        self._subscription.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __await__(self) -> Generator[Any, None, WatchingSubscription]:
        return _itself(self).__await__()


class CoordinatorEvents:
    """What a runtime offers of these events."""

    _membership: Membership
    _subscriptions: list[Subscription]
    _awaits = False

    def subscribe_coordinator_events(
        self,
        *,
        on_rate_limit_warning: OnWarning | None = None,
        on_instance_connected: OnInstance | None = None,
        on_instance_disconnected: OnInstance | None = None,
    ) -> WatchingSubscription:
        """Have functions, or coroutine functions, called with what happens among the instances.

        `on_rate_limit_warning(provider, usage)`: once when the requests of the last 60 s cross 0.8 of an account's
        requests per minute, again after they fell below 0.7. `on_instance_connected(instance_id)`,
        `on_instance_disconnected(instance_id)`: another instance came or went, within about a second.
        """
        calls: dict[str, Callable[[Event], Any]] = {}
        if on_rate_limit_warning is not None:
            calls[events.RATE_LIMIT_WARNING] = lambda event: on_rate_limit_warning(
                event.fields["provider"], event.fields["usage"]
            )
        if on_instance_connected is not None:
            calls[events.INSTANCE_CONNECTED] = lambda event: on_instance_connected(event.fields["connected"])
        if on_instance_disconnected is not None:
            calls[events.INSTANCE_DISCONNECTED] = lambda event: on_instance_disconnected(event.fields["disconnected"])
        told = self._membership.events

        def dispatch(event: Event) -> object:
            call = calls.get(event.kind)
            mine = told.instance_id in (event.fields.get("connected"), event.fields.get("disconnected"))
            return None if call is None or mine else call(event)

        subscribed = (
            told.subscribe_here(dispatch, everyone=True)
            if self._awaits
            else told.subscribe(lambda event: _run(dispatch(event)), everyone=True)
        )
        subscription = WatchingSubscription(subscribed, self._membership.activity)
        keep(self._subscriptions, subscription)
        return subscription


class AsyncCoordinatorEvents(CoordinatorEvents):
    """The same in the running event loop."""

    _awaits = True


def subscribe_coordinator_events(
    *,
    on_rate_limit_warning: OnWarning | None = None,
    on_instance_connected: OnInstance | None = None,
    on_instance_disconnected: OnInstance | None = None,
) -> WatchingSubscription:
    """The same for the instance of this process that `coordinator.register_instance` has made.

    Raises `RuntimeError` before that.
    """
    from cross_instance.coordinator import this_process

    runtime = this_process.runtime
    if runtime is None:
        raise RuntimeError("this process is not registered: call coordinator.register_instance first")
    return runtime.subscribe_coordinator_events(
        on_rate_limit_warning=on_rate_limit_warning,
        on_instance_connected=on_instance_connected,
        on_instance_disconnected=on_instance_disconnected,
    )


def keep(subscriptions: list[Subscription], subscription: Subscription) -> None:
    """Remember a subscription, to be ended with its runtime; those that were ended before are forgotten."""
    subscriptions[:] = [one for one in subscriptions if not one.is_over]
    subscriptions.append(subscription)


async def _itself(subscription: WatchingSubscription) -> WatchingSubscription:
    return subscription


def _run(result: object) -> None:
    """Run what a coroutine function gave to its end, in this thread."""
    if inspect.isawaitable(result):
        asyncio.run(_wait(result))


async def _wait(result: Awaitable[object]) -> None:
    await result
