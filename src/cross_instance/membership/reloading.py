"""Reloading: an instance takes over what its files of settings say while it runs (`config.live`).

1. Looked at with each heartbeat, by the heartbeat's thread, and by whoever asks: who takes a permit never waits for it.
   Only where coordination is switched off, nobody beats: there a permit looks, as seldom (`switching`).
2. What has changed is told, and what of it holds only from the next start; so is what is wrong, which changes nothing.
3. What the settings now say otherwise of an account is published until the store has it, whatever store that is.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from cross_instance.errors import ConfigError
from cross_instance.events import CONFIG_PROBLEM, CONFIG_RELOADED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cross_instance.config.load import Reloaded
    from cross_instance.membership.membership import Membership

MOST_NAMED = 8
"""Keys that a message names; the event's fields have all."""


class Reloading:
    """What one membership needs to follow its settings."""

    def __init__(self, membership: Membership, clock: Callable[[], float] = time.monotonic) -> None:
        self._membership = membership
        self._clock = clock
        self._noticed_at = clock()
        self._waiting: tuple[str, ...] = ()
        self._is_checked = True
        self._due: set[str] = set()
        self._looking = threading.Lock()

    def look(self) -> None:
        """Take over what is new, and publish it. Raises `StoreUnavailable`: then the rest is published next time."""
        with self._looking:
            self._take()
            self._publish()

    def notice(self) -> None:
        """Take over what is new, where coordination is switched off: no heartbeat does it there, so whoever asks for a
        permit does, as often as there would be heartbeats."""
        with self._looking:
            if self._clock() - self._noticed_at >= self._membership.settings.heartbeat_interval:
                self._noticed_at = self._clock()
                self._take()

    def _publish(self) -> None:
        accounts = self._membership.accounts
        if not self._is_checked:
            self._is_checked = not accounts.publishing
            self._due.update(accounts.outdated())
        for account in sorted(self._due):
            self._membership.publish(account)
            self._due.discard(account)

    def _take(self) -> None:
        live, tell = self._membership.live, self._membership.events.tell
        problem = live.problem
        try:
            reloaded = live.look()
        except ConfigError as error:
            text = f"the settings were changed and are wrong now; those before stay in force: {error}"
            tell(CONFIG_PROBLEM, text, problem=str(error))
            return
        if reloaded is None:
            return
        self._membership.accounts.take(reloaded.settings)
        self._is_checked = False
        if reloaded.changed or reloaded.waiting != self._waiting or problem is not None:
            self._waiting = reloaded.waiting
            level = logging.WARNING if reloaded.waiting else logging.INFO
            tell(CONFIG_RELOADED, _text(reloaded), level, changed=reloaded.changed, waiting=reloaded.waiting)


def _text(reloaded: Reloaded) -> str:
    texts = []
    if reloaded.changed:
        texts.append(f"in force from now on: {_named(reloaded.changed)}")
    if reloaded.waiting:
        texts.append(f"from the next start of this process: {_named(reloaded.waiting)}")
    return f"the settings were changed; {'; '.join(texts) or 'what is in force stays the same'}"


def _named(keys: Sequence[str]) -> str:
    more = len(keys) - MOST_NAMED
    return ", ".join(keys[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
