"""Pace: when an idle worker looks for work without being woken, and how small a gain is worth a theft.

1. Wakes are what brings work; looks are the backup, and what finds a backlog that has become worth taking.
2. A worker that has just become idle looks soon, for a large gain only; the longer it finds nothing, the later it
   looks, and the less it asks for. So a short lull moves no work, and a worker at rest hardly looks. It is time that
   counts: a wake that brings nothing makes it neither more modest nor slower.
3. Looks are spread at random, so that workers that became idle together do not look together.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from cross_instance.rules.operations import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_LOOK, LAST_LOOK = SECOND // 10, 15 * SECOND
"""µs until the first look of an idle worker, and between those of one at rest; each is twice the one before."""
FIRST_GAIN = SECOND
"""µs of expected work that a victim that serves its queue has to have, at the first look; each asks for half of it."""
ASKS_NOTHING = 7
"""From this look on any backlog is enough."""


class Pace:
    """The looks of one worker; instants are the store's (mono µs). `draw` gives numbers in [0, 1)."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._looks = self._look_at = 0

    def found(self) -> None:
        """There was work."""
        self._looks = self._look_at = 0

    def nothing(self, now: int) -> int:
        """There was none: when to look next, between a half and the whole of its time from now on; unless this was
        before the next look was due."""
        if now >= self._look_at:
            whole = min(FIRST_LOOK << min(self._looks, 20), LAST_LOOK)
            self._looks += 1
            self._look_at = now + whole // 2 + int(self._draw() * (whole // 2))
        return self._look_at

    @property
    def min_gain(self) -> int:
        """µs of backlog that make a theft worthwhile now."""
        return FIRST_GAIN >> self._looks if self._looks < ASKS_NOTHING else 0
