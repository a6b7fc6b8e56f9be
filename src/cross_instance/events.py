"""Events: what must not stay silent (law 11), for programs; each is also a log line and kept for the status.

1. Telling never waits: who subscribes is called elsewhere, in a thread or in his event loop, in the order of events.
2. Telling never breaks: a callback that raises is logged, and gets the next event all the same.
3. A subscriber who does not keep up loses the newest events beyond `MOST_PENDING`; how many, its subscription says.
4. The events of an instance are numbered: who hears of several instances (`everyone`) has those of each in order.
5. A forked child has no subscribers.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger("cross_instance")

KEPT = 20
"""Events kept for the status."""
MOST_PENDING = 1_000
"""Events that wait for one subscriber."""

STORE_DEGRADED = "store-degraded"
"""The store is out of reach: permits come from this instance's last fair share. `shares`, `seconds` left."""
STORE_STOPPED = "store-stopped"
"""It has been out of reach for the heartbeat timeout, or there never was a share: no more permits."""
STORE_RECOVERED = "store-recovered"
"""The store can be used again. `seconds` it took, `permits` granted meanwhile."""
LIMITS_GUESSED = "limits-guessed"
"""Nothing is known of an account's limits. `account`."""
LIMIT_LEARNED = "limit-learned"
"""What is known of a hidden limit has changed, by more than a twentieth."""
LIMITS_RESET = "limits-reset"
"""The project's file of learned limits was removed: they are forgotten. `nodes`."""
CLOCK_JUMPED = "clock-jumped"
"""The wall clock was set. `seconds` by which."""
MACHINE_SLEPT = "machine-slept"
"""This machine was asleep. `seconds` for which."""
CLOCK_BACKWARDS = "clock-backwards"
"""The store's clock ran backwards. `seconds` by which."""
SETTINGS_IGNORED = "settings-ignored"
"""Settings were accepted that have no effect. `settings`."""
CONFIG_RELOADED = "config-reloaded"
"""The files of settings have changed while this process runs: the keys `changed` are in force, those `waiting` hold
from the next start of the process."""
CONFIG_PROBLEM = "config-problem"
"""The files of settings have changed and are wrong now; what was in force stays so. `problem` says where and what."""
COORDINATION_OFF = "coordination-off"
"""Coordination is switched off: every request passes at once."""
INSTANCE_REJOINED = "instance-rejoined"
"""This instance had been removed, and has joined anew."""
INSTANCE_TAKEN_OVER = "instance-taken-over"
"""This instance had been removed, and cannot join anew: another process has its id."""
PRESENCE_UNUSABLE = "presence-unusable"
"""The lock files of this machine cannot be used: nobody sees at once who has ended, only by his silence."""
INSTANCE_REMOVED = "instance-removed"
"""Another instance ended or fell silent without leaving. `removed`: its id."""
REQUESTS_GRANTED = "requests-granted"
"""Permits of an account were granted to this instance: `requests` within the last second, `account`, and all instances'
`used` requests of the last 60 s of the `amount` per minute, as they were last seen (None: not known)."""
WAITING_LONG = "waiting-long"
"""A request has waited for its permit for `seconds`, and still does. `account`, `model`, `limit` (the kind of
limit that holds it back; None: others are before it). Once in ten seconds for each account."""
REQUESTS_REJECTED = "requests-rejected"
"""Requests of this instance met 429: `requests` within the last second, `account`, `model`."""
LIMIT_CHANGED = "limit-changed"
"""The requests per minute in force at a `node` have changed: `old`, `new`, `source`."""
RATE_LIMIT_WARNING = "rate-limit-warning"
"""An account's `usage` (of 1) crossed 0.8 of its requests per minute. `provider`, `account`."""
PARALLELISM_CHANGED = "parallelism-changed"
"""The calls that may be under way at a `node` were cut by an overload, or raised by quiet: `old`, `new` (None: no such
limit), `reason`."""
WORK_STOLEN = "work-stolen"
"""This instance took work over from another: `victim`, `entries`."""
LOCK_TAKEN_OVER = "lock-taken-over"
"""A lock was taken whose holder's time was over, or whose instance was gone, before it was given back."""
LOCK_LOST = "lock-lost"
"""A lock of this instance was lost before it was given back. `resource`."""
INSTANCE_CONNECTED = "instance-connected"
"""Another instance came. `connected`: its id."""
INSTANCE_DISCONNECTED = "instance-disconnected"
"""Another instance went, whichever way. `disconnected`: its id."""
NOTICES = ("limits-conflict", "no-wake-ups", "reserve-scaled", "store-damaged", "store-removed")
"""What a store has to say by itself."""
KINDS = frozenset(
    {*NOTICES, *(value for name, value in globals().items() if name.isupper() and isinstance(value, str))}
)
"""Every kind of event of this version; others may tell more."""


def level_of(topic: str) -> int:
    """The level at which a store's notice is logged: what is learned is no trouble."""
    return logging.INFO if topic == LIMIT_LEARNED else logging.WARNING


@dataclass(frozen=True)
class Event:
    """Something that must not stay silent.

    `kind` is one of the constants of this module or the topic of a notice, such as "limits-conflict"; `at` is Unix
    time in seconds; `instance_id` says who tells it, `seq` which of its events it is, from 1 on; `fields` are the
    figures of the kind.
    """

    kind: str
    at: float
    instance_id: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        plain = {name: getattr(self, name) for name in ("kind", "at", "instance_id", "seq", "message")}
        return {**plain, "fields": dict(self.fields)}


class Subscription(Protocol):
    """What `subscribe` gives: it lasts until it, or its runtime, is closed."""

    @property
    def dropped(self) -> int:
        """Events lost because the subscriber did not keep up."""

    @property
    def is_over(self) -> bool:
        """Whether it was ended."""

    def close(self) -> None:
        """End it; what was told before still arrives, while the subscriber's loop runs. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class _Subscription(ABC):
    """What all kinds have in common: the way out, and use in a `with` block.

    `passing`: also what is told in passing; `everyone`: that, and others' events.
    """

    passing = everyone = False

    def __init__(self, events: Events) -> None:
        self.dropped = 0
        self._events = events

    @property
    def is_over(self) -> bool:
        """See `Subscription.is_over`."""
        return not self._events.has(self)

    def close(self) -> None:
        """See `Subscription.close`."""
        if self._events.remove(self):
            self._end()

    @abstractmethod
    def put(self, event: Event) -> None:
        """Hand over an event; from any thread, at any moment."""

    @abstractmethod
    def _end(self) -> None:
        """Let the subscriber have what was told before, and nothing more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _InThread(_Subscription):
    """Calls a function in a thread of its own."""

    def __init__(self, events: Events, callback: Callable[[Event], object]) -> None:
        super().__init__(events)
        self._callback = callback
        self._pending: SimpleQueue[Event | None] = SimpleQueue()
        threading.Thread(target=self._serve, name="cross-instance-events", daemon=True).start()

    def put(self, event: Event) -> None:
        if self._pending.qsize() < MOST_PENDING:
            self._pending.put(event)
        else:
            self.dropped += 1

    def _end(self) -> None:
        self._pending.put(None)

    def _serve(self) -> None:
        while (event := self._pending.get()) is not None:
            try:
                self._callback(event)
            except (Exception, asyncio.CancelledError):
                log.exception("a subscriber failed on the event %s", event.kind)


class _InLoop(_Subscription):
    """Calls a function, or awaits a coroutine function, in the event loop that subscribed."""

    def __init__(self, events: Events, callback: Callable[[Event], Awaitable[object] | object]) -> None:
        super().__init__(events)
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Event | None] = deque()
        self._arrived = asyncio.Event()
        self._task = self._loop.create_task(self._serve())

    def put(self, event: Event) -> None:
        if len(self._pending) < MOST_PENDING:
            self._hand_over(event)
        else:
            self.dropped += 1

    def _end(self) -> None:
        self._hand_over(None)

    def _hand_over(self, event: Event | None) -> None:
        self._pending.append(event)
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop is closed: nobody is there to hear
            self._events.remove(self)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                event = self._pending.popleft()
                if event is None:
                    return
                await self._call(event)

    async def _call(self, event: Event) -> None:
        try:
            result = self._callback(event)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            if self._task.cancelling():  # the loop ends, and not only what the callback waited for
                raise
            log.exception("a subscriber failed on the event %s", event.kind)
        except Exception:
            log.exception("a subscriber failed on the event %s", event.kind)


class Collected(_Subscription):
    """Keeps events until somebody takes them; `arrived` is called with each, and must not wait."""

    passing = True

    def __init__(self, events: Events, arrived: Callable[[], object]) -> None:
        super().__init__(events)
        self._arrived = arrived
        self._pending: deque[Event] = deque()

    def put(self, event: Event) -> None:
        """See `_Subscription.put`."""
        if len(self._pending) < MOST_PENDING:
            self._pending.append(event)
            self._arrived()
        else:
            self.dropped += 1

    @property
    def has_some(self) -> bool:
        """Whether something has arrived."""
        return bool(self._pending)

    def take(self) -> list[Event]:
        """What has arrived, in order."""
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def _end(self) -> None:
        """Nobody has to be told."""


class Events:
    """The events of one instance, and who is told of them."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.recent: deque[Event] = deque(maxlen=KEPT)
        self._seqs = count(1)
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._lock = threading.RLock()

    def tell(
        self, kind: str, message: str, level: int | None = logging.WARNING, *, kept: bool = True, **fields: Any
    ) -> None:
        """Something has happened. `level` of the log line; None: none is due. `kept`: for the status; what is not, is
        told in passing, to those who want everything."""
        with self._lock:
            event = Event(kind, time.time(), self.instance_id, message, MappingProxyType(fields), next(self._seqs))
            if kept:
                self.recent.append(event)
            for subscription in self._subscriptions:
                if kept or subscription.passing:
                    subscription.put(event)
        if level is not None:
            log.log(level, "%s: %s", kind, message)

    def relay(self, event: Event) -> None:
        """Another instance has told something."""
        for subscription in self._subscriptions:
            if subscription.everyone:
                subscription.put(event)

    def subscribe(self, callback: Callable[[Event], object], *, everyone: bool = False) -> Subscription:
        """Have a function called with each event from now on, in a thread of its own. `everyone`: with those told in
        passing, and those of other instances, too."""
        return self._add(_InThread(self, callback), everyone)

    def subscribe_here(
        self, callback: Callable[[Event], Awaitable[object] | object], *, everyone: bool = False
    ) -> Subscription:
        """The same in the running event loop; a coroutine function is awaited."""
        return self._add(_InLoop(self, callback), everyone)

    def collect(self, arrived: Callable[[], object]) -> Collected:
        """Keep the events from now on for a thread that takes them; `arrived` tells it."""
        collected = Collected(self, arrived)
        self._add(collected, everyone=False)
        return collected

    def _add(self, subscription: _Subscription, everyone: bool) -> _Subscription:
        subscription.everyone = everyone
        subscription.passing = subscription.passing or everyone
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def remove(self, subscription: _Subscription) -> bool:
        """Tell a subscriber no more; whether it was still told."""
        with self._lock:
            known = subscription in self._subscriptions
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)
        return known

    def has(self, subscription: _Subscription) -> bool:
        """Whether a subscriber is told."""
        return subscription in self._subscriptions

    def become_child(self, instance_id: str) -> None:
        """Be a forked child's: its threads and loops do not exist here."""
        self.instance_id = instance_id
        self._seqs = count(1)
        self._subscriptions = ()
        self._lock = threading.RLock()
        self.recent.clear()
