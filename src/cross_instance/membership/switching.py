"""Switching: an instance leaves of itself, while its process runs, and comes back.

It does where its files say `enabled: false`, and where the event loops of all its users were closed before they were:

1. From then on whoever asks for a permit has it at once, and so has whoever waits: he leaves the queue.
2. What is held ends as if nothing had happened. The instance stays in the registry until then: until its permits have
   ended, its named locks are given back, and its worker of the durable queue, if it has one, has ended.
3. Switched on again, it stays if it has not left yet; else it joins with the next permit (`Reloading.notice`).
4. A user whose event loop is closed counts no more, once nothing is held: nobody can wait there. Used again, in another
   loop, it joins anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from cross_instance.events import COORDINATION_OFF

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from cross_instance.membership.membership import Membership


class LoopUser:
    """A user of a membership that belongs to an event loop."""

    _loop: AbstractEventLoop | None = None

    def _strand(self) -> None:
        """Let go of everything, and use the membership no more, if the event loop was closed; from any thread."""


class Switch:
    """What one membership needs to leave of itself. `keepers`: what is held beside permits."""

    def __init__(self, membership: Membership) -> None:
        self.keepers: WeakSet[object] = WeakSet()
        self._membership = membership
        self._is_told = False

    @property
    def is_off(self) -> bool:
        """Whether coordination is switched off."""
        return not self._membership.settings.enabled

    def tell(self) -> None:
        """Say, once, that it is switched off."""
        if not self._is_told:
            text = "cross-instance coordination is switched off: every request passes at once"
            self._membership.events.tell(COORDINATION_OFF, text)
        self._is_told = True

    def is_to_leave(self) -> bool:
        """Whether it has no users any more, and holds nothing; for the heartbeat thread."""
        membership = self._membership
        if self.is_off:
            membership.users.clear()  # whoever asks next is let through
            if not self._is_told:
                self.tell()
                membership.store.rouse(tuple(membership.waiters))
        else:
            self._is_told = False
        if membership.waiters or membership.fallback.holds_some or self.keepers:
            return False
        self.drop_stranded()
        return not membership.users

    def drop_stranded(self) -> None:
        """Let users go whose event loops are closed."""
        for user in tuple(self._membership.users):
            if isinstance(user, LoopUser):
                user._strand()
