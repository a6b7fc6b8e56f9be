"""How many instances share a model: those of the coordinator's registry that have it active.

1. A look goes through everything in the store. All instances together give such looks a hundredth of its time: the more
   there are, the older the count may be.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from cross_instance.errors import CrossInstanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger("cross_instance")

LOOKS = 100
"""Looks are this many times longer apart than what all instances need for one."""


class Registry:
    """The registry that `coordinator.register_instance` joins, as one adjuster follows it; `clock` tells ms."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looked_at = -math.inf
        self._apart = 0.0

    def count(self, keys: Iterable[str]) -> dict[str, int]:
        """How many instances use each model, at least 1; nothing where this process is not registered, the store is out
        of reach, or it is too early for another look: then what was known goes on to hold."""
        from cross_instance.coordinator import this_process  # which rests on runtimes, as these do on their health
        from cross_instance.coordinator.shares import users_of

        begun = self._clock()
        if 0 <= begun - self._looked_at < self._apart:
            return {}
        try:
            view = this_process._view()
        except CrossInstanceError as error:
            log.info("the instances that share a model are not counted: %s", error)
            return {}
        if view is None:
            return {}
        self._looked_at = self._clock()
        self._apart = LOOKS * (self._looked_at - begun) * len(view.living)
        return {key: max(1, len(users_of(view, *key.split(":", 1)))) for key in keys}
