"""Switching: an instance whose files say `enabled: false` stops to take part, and takes part again, while it runs.

1. From then on whoever asks for a permit has it at once, and so has whoever waits: he leaves the queue.
2. What is held ends as if nothing had happened. The instance stays in the registry until then: until its permits have
   ended, its named locks are given back, and its worker of the durable queue, if it has one, has ended.
3. Switched on again, it stays if it has not left yet; else it joins with the next permit (`Reloading.notice`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from cross_instance.events import COORDINATION_OFF

if TYPE_CHECKING:
    from cross_instance.membership.membership import Membership


class Switch:
    """What one membership needs to be switched off and on. `keepers`: what is held beside permits."""

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
        """Whether it is switched off and nothing is held; for the heartbeat thread, which looks often then."""
        if not self.is_off:
            self._is_told = False
            return False
        membership = self._membership
        membership.users.clear()  # whoever asks next is let through
        if not self._is_told:
            self.tell()
            membership.store.rouse(tuple(membership.waiters))
        return not (membership.waiters or membership.fallback.holds_some or self.keepers)
