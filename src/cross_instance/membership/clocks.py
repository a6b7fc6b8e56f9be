"""Clock trouble: a wall clock that was set, and a store whose clock runs backwards.

1. Decisions rest on the store's monotonic clock; a wall clock that jumps moves what is anchored to it (a day's quota,
   the age of what was learned) and the times that people see.
2. The wall clock is held against one that counts the machine's sleep, so that waking up is no jump.
3. Sleep is what that clock counts and another does not. Who has slept knows nothing of others' silence (`awake_for`).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.operations import FOREVER, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Instant

JUMP = 5.0
"""Seconds that a wall clock may move against the other between two looks; NTP slews by 0.5 ms each second (adjtime(3),
MAXPHASE), so what is more within a heartbeat was set."""


def steady_seconds() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


NAP = 1.0
"""Seconds of sleep that are noticed; the clocks are read one after the other."""


class Jump(NamedTuple):
    """By how many seconds the wall clock was set, by how many the store's clock ran backwards, and how many the machine
    has slept."""

    wall: float = 0.0
    store: float = 0.0
    slept: float = 0.0


class ClockWatch:
    """Looks at the clocks now and then."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_seconds,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._awake = awake
        self._offset = wall() - steady()
        self._at = 0
        self._slept = self._told = steady() - awake()
        self._woke = -math.inf

    def look(self, at: Instant) -> Jump:
        """What has happened to the clocks since the last look; `at` is when the store decided something just now."""
        offset = self._wall() - self._steady()
        jumped, self._offset = offset - self._offset, offset
        back, self._at = self._at - at.mono, at.mono
        self.awake_for()
        slept, self._told = self._slept - self._told, self._slept
        return Jump(jumped if abs(jumped) > JUMP else 0.0, max(0, back) / SECOND, slept)

    def awake_for(self) -> int:
        """For how long the machine has been awake, as far as it was watched, in µs; from any thread."""
        awake = self._awake()
        slept = self._steady() - awake
        if slept - self._slept > NAP:
            self._slept, self._woke = slept, awake
        return FOREVER if self._woke == -math.inf else round((awake - self._woke) * SECOND)
