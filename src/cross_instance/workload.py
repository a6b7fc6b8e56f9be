"""What this process says of its own work; it is sent with heartbeats, and seen by every other instance.

1. One workload is sent at a time: the store never gets an older one after a newer one.
2. An entry that was taken is not listed again until its application offers it anew. What was taken is told to the
   application once, and acknowledged to the store.
3. An instance that had to join anew says everything again. One that left, or is a forked child, has nothing to say.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Beaten, Heartbeat, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.membership import Membership

NOTHING = Workload()


class OwnWork:
    """The workload of one membership; every method may be called from any thread. `said` is what was sent last."""

    def __init__(self, membership: Membership) -> None:
        self.said = NOTHING
        self._membership = membership
        self._said_as = 0
        self._queue_told = False
        self._told: tuple[str, ...] = ()
        self._lost: list[str] = []
        self._lock = threading.RLock()

    def say(self, change: Callable[[Workload], Workload], *, broadcast: bool = False) -> None:
        """Change what is said, and send it; `broadcast`: it is news of the queue.

        Raises `ValueError` for what cannot be stored, `StoreUnavailable` where the store cannot be reached; then what
        was said before holds.
        """
        with self._lock:
            before = self.said
            self.said = change(before)
            try:
                self._send(broadcast)
            except BaseException:
                self.said = before
                raise

    def beat(self) -> None:
        """Send a heartbeat. Raises `StoreUnavailable`."""
        with self._lock:
            self._send(False)

    def say_again(self) -> None:
        """The instance has joined anew: whoever looks is to see what it does."""
        with self._lock:
            if self._said_as not in (0, self._membership.incarnation):
                try:
                    self._send(False)
                except StoreUnavailable as error:
                    self._membership.note_trouble(error)

    def lost(self) -> tuple[str, ...]:
        """The ids of entries that others have taken, each told once."""
        with self._lock:
            lost, self._lost = tuple(self._lost), []
            return lost

    def _send(self, broadcast: bool) -> None:
        asked = 0

        def heartbeat(incarnation: int) -> Heartbeat:
            nonlocal asked
            asked, anew = incarnation, incarnation != self._said_as
            told = () if anew else tuple(taken for taken in self._told if taken not in self._lost)
            return Heartbeat(incarnation, self.said, broadcast or (anew and self._queue_told), told)

        answer = self._membership.ask(heartbeat)
        assert isinstance(answer, Beaten)
        self._said_as = asked
        self._queue_told = self._queue_told or broadcast
        self._lost += [taken for taken in answer.taken if taken not in self._told]
        self._told = answer.taken
        kept = tuple(entry for entry in self.said.stealable if entry.id not in answer.taken)
        self.said = msgspec.structs.replace(self.said, stealable=kept)
