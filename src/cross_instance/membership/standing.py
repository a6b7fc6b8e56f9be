"""Standing: what an instance has to say of itself, its store and its neighbours: nothing stays silent.

1. Trouble is told when it begins, not each time it is met, and the status shows it until it is over.
2. What the store's results have to say is told once.
3. While an outage lasts (`degraded`), it says what there is to say of the store.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cross_instance.events import INSTANCE_TAKEN_OVER, KEPT, PRESENCE_UNUSABLE, level_of

if TYPE_CHECKING:
    from cross_instance.degraded.fallback import Fallback
    from cross_instance.events import Events
    from cross_instance.rules.operations import Notice, Result

log = logging.getLogger("cross_instance")


class Standing:
    """How one instance stands at the store of an address.

    `trouble` says what keeps it from the store, `unseen` from its lock file, `taken_over` that another process has its
    id (None: nothing).
    """

    def __init__(self, address: str, events: Events, fallback: Fallback) -> None:
        self.trouble: str | None = None
        self.unseen: str | None = None
        self.taken_over: str | None = None
        self._address = address
        self._events = events
        self._fallback = fallback
        self._noticed: dict[Notice, None] = {}

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the store had to say lately."""
        return tuple(self._noticed)

    def answered(self, result: Result) -> None:
        """The store answered: whatever trouble there was is over."""
        if self.trouble is not None:
            self.trouble = None
            log.warning("the store %s can be used again", self._address)
        self.report(result)

    def report(self, result: Result) -> None:
        """Tell what a result has to say; the same thing once."""
        for notice in result.notices:
            if notice not in self._noticed:
                self._events.tell(notice.topic, notice.text, level_of(notice.topic))
            self._noticed[notice] = None
        while len(self._noticed) > KEPT:
            self._noticed.pop(next(iter(self._noticed)), None)

    def note_trouble(self, error: Exception) -> None:
        """Something keeps this instance from the store."""
        if self._fallback.outage is not None:
            return
        if self.trouble is None:
            log.error("the store %s cannot be used: %s", self._address, error)
        self.trouble = str(error)

    def note_unseen(self, error: Exception) -> None:
        """The lock files cannot be used; over as soon as this instance's own can be."""
        if self.unseen is None:
            text = f"others cannot see at once when a process of this machine ends: {error}"
            self._events.tell(PRESENCE_UNUSABLE, text)
        self.unseen = str(error)

    def note_taken_over(self, message: str) -> None:
        """Another process has this instance's id; over as soon as this one has joined anew."""
        if self.taken_over is None:
            self._events.tell(INSTANCE_TAKEN_OVER, message, logging.ERROR)
        self.taken_over = message
