"""Waiting long: told of by who waits, from what the store answers him anyway, and for each account once in a while."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from cross_instance import events
from cross_instance.membership.accounts import account_key
from cross_instance.rules.operations import SECOND
from cross_instance.watching.sights import label_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.events import Events
    from cross_instance.protocol import Request
    from cross_instance.rules.operations import Waiting

LONG_WAIT = 10.0
"""Seconds for which a request waits before it is told of, and between two of an account that are."""


class LongWaits:
    """The long waits of one instance."""

    def __init__(self, events: Events, clock: Callable[[], float] = time.monotonic) -> None:
        self._events = events
        self._clock = clock
        self._next: dict[str, float] = {}

    def note(self, request: Request, answer: Waiting, waited: int) -> None:
        """A request waits, for so many µs by now."""
        if waited < LONG_WAIT * SECOND:
            return
        account, now = account_key(request.provider, request.account), self._clock()
        if now < self._next.get(account, now):
            return
        self._next[account] = now + LONG_WAIT
        limit = None if answer.limit is None else answer.limit.kind.value
        held = f"held back by {limit}" if limit else "behind others"
        seconds = waited / SECOND
        self._events.tell(
            events.WAITING_LONG,
            f"a request for {label_of(account)} {request.model} waits for {seconds:.0f} s by now, {held}",
            logging.INFO,
            kept=False,
            account=account,
            model=request.model,
            seconds=seconds,
            limit=limit,
        )
