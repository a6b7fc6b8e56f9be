"""Clock trouble: a wall clock that was set, and a store whose clock runs backwards.

1. Decisions rest on the store's monotonic clock; a wall clock that jumps moves what is anchored to it (a day's quota,
   the age of what was learned) and the times that people see.
2. The wall clock is held against one that counts the machine's sleep, so that waking up is no jump.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.operations import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Instant

JUMP = 5.0
"""Seconds that a wall clock may move against the other between two looks; NTP slews by 0.5 ms each second (adjtime(3),
MAXPHASE), so what is more within a heartbeat was set."""


def steady_seconds() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Jump(NamedTuple):
    """By how many seconds the wall clock was set, and by how many the store's clock ran backwards."""

    wall: float = 0.0
    store: float = 0.0


class ClockWatch:
    """Looks at the clocks now and then."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady_seconds) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._at = 0

    def look(self, at: Instant) -> Jump:
        """What has happened to the clocks since the last look; `at` is when the store decided something just now."""
        offset = self._wall() - self._steady()
        jumped, self._offset = offset - self._offset, offset
        back, self._at = self._at - at.mono, at.mono
        return Jump(jumped if abs(jumped) > JUMP else 0.0, max(0, back) / SECOND)
