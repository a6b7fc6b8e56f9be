"""Relay: what instances tell, from machine to machine, by way of the server that they share.

1. The feed's file (`feed`) serves one machine. Beside it an instance adds what it tells to the feed on the server, in
   its order, and reads there what those of other machines told.
2. Nobody waits for it: the thread that takes notes does it. While the server is out of reach, up to `MOST_WAITING`
   events wait; beyond that the oldest are left out, which shows in the numbers of the events.
3. What is seen in the store (`sights`), each machine sees by itself: who looks hears of it from there only, and who
   does not look hears of it once, from whichever machine (`Once`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cross_instance import events
from cross_instance.errors import CrossInstanceError
from cross_instance.watching.feed import of_line, to_line
from cross_instance.watching.sights import SEEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cross_instance.events import Event
    from cross_instance.stores.base import Feed

T = TypeVar("T")

log = logging.getLogger("cross_instance")

READ_EVERY = 0.5
"""Seconds between looks at the server, at least."""
RETRY_AFTER = 5.0
"""Seconds after a call that failed for which none is made."""
MOST_WAITING = 1_000
"""Events that wait to be sent."""
LONGEST = 8_192
"""Characters of one entry; a single event that is longer is left out."""
SAME_FOR = 20.0
"""Seconds between warnings for one account, within which they are one."""
MOST_KNOWN = 10_000
"""Instances, accounts and limits of which it is remembered what was said last."""


class Way(NamedTuple):
    """How events pass between machines.

    `origin`: how this machine is called. `turn` is held while the server is asked. `is_cut_off`: whether it is known
    that the server cannot be reached.
    """

    feed: Feed
    origin: Callable[[], str]
    turn: Callable[[], AbstractContextManager[object]] = nullcontext
    is_cut_off: Callable[[], bool] = lambda: False


class _Calls:
    """Calls to a feed on a server, which may fail: then none is made for a while."""

    def __init__(self, way: Way, clock: Callable[[], float]) -> None:
        self._way = way
        self._clock = clock
        self._next = 0.0
        self._failed = False

    def _may_call(self) -> bool:
        return self._clock() >= self._next and not self._way.is_cut_off()

    def _try(self, call: Callable[[], T]) -> T | None:
        """What a call gives; None: it failed."""
        try:
            with self._way.turn():
                return call()
        except CrossInstanceError as error:
            self._next = self._clock() + RETRY_AFTER
            if not self._failed:
                log.warning("events do not pass between machines for now: %s", error)
            self._failed = True
            return None


class RelayWriter(_Calls):
    """Adds the events of one instance."""

    def __init__(self, way: Way, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(way, clock)
        self._waiting: deque[str] = deque(maxlen=MOST_WAITING)

    def write(self, told: Iterable[Event]) -> None:
        """Add events, as far as the server can be reached."""
        self._waiting.extend(line for line in map(to_line, told) if len(line) <= LONGEST)
        while self._waiting and self._may_call():
            for _ in self._try(self._send) or ():
                self._waiting.popleft()

    def _send(self) -> list[str]:
        batch = self._batch()
        self._way.feed.add(self._way.origin(), batch)
        return batch

    def _batch(self) -> list[str]:
        batch, size = list[str](), 0
        for line in self._waiting:
            size += len(line) + 1
            if batch and size > LONGEST:
                break
            batch.append(line)
        return batch

    def close(self) -> None:
        """There is nothing to let go of."""


class RelayReader(_Calls):
    """Reads the events that instances of other machines tell, from now on; `whole`: also those before."""

    def __init__(self, way: Way, clock: Callable[[], float] = time.monotonic, *, whole: bool = False) -> None:
        super().__init__(way, clock)
        self._place = way.feed.beginning() if whole else way.feed.now()

    def read(self) -> list[Event]:
        """What has been told since the last time, in the order of each instance; nothing while it is too early."""
        told = self._try(lambda: self._way.feed.read(self._place)) if self._may_call() else None
        if told is None:
            return []
        self._place = told.place
        self._next = self._clock() + (0.0 if told.entries else READ_EVERY)
        own = self._way.origin()
        found = (of_line(line) for origin, lines in told.entries if origin != own for line in lines)
        return [event for event in found if event is not None]


class _Said(NamedTuple):
    """What was said last of something, and when."""

    value: object
    at: float

    def holds(self, event: Event) -> bool:
        """Whether it has not been said anew since; a warning is, after a while."""
        return event.kind != events.RATE_LIMIT_WARNING or abs(event.at - self.at) < SAME_FOR


class Once:
    """Lets what several machines see in the store pass once; of the last `MOST_KNOWN` things that they saw."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], _Said] = {}

    def is_news(self, event: Event) -> bool:
        """Whether nobody has told this before."""
        if event.kind not in SEEN:
            return True
        about, said = _said_by(event)
        before = self._last.get(about)
        if before is not None and before.value == said.value and before.holds(event):
            return False
        self._last.pop(about, None)
        self._last[about] = said
        if len(self._last) > MOST_KNOWN:
            del self._last[next(iter(self._last))]
        return True


def _said_by(event: Event) -> tuple[tuple[str, str], _Said]:
    """What an event is about, and what it says of that."""
    fields = event.fields
    if event.kind == events.RATE_LIMIT_WARNING:
        return (event.kind, str(fields.get("account"))), _Said(None, event.at)
    if event.kind == events.LIMIT_CHANGED:
        return (event.kind, str(fields.get("node"))), _Said(fields.get("new"), event.at)
    instance = fields.get("connected", fields.get("disconnected"))
    return ("instance", str(instance)), _Said(event.kind, event.at)
