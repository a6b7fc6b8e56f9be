"""Which fault, if any, befalls the next request: scripted by number, by time and by chance, repeatable by its seed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from cross_instance.testing.provider.config import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from cross_instance.testing.provider.config import Fault


class FaultPlan:
    """The faults in force since `started` (µs). Numbers and times count from then; the first fault that fits is it."""

    def __init__(self, faults: Sequence[Fault], random: Random, started: int) -> None:
        self.faults = tuple(faults)
        self._random = random
        self._started = started
        self._number = 0

    def next(self, model: str, now: int) -> Fault | None:
        """The fault of the next request, which is for `model`, at `now` (µs)."""
        self._number += 1
        return next((fault for fault in self.faults if self._befalls(fault, model, now)), None)

    def _befalls(self, fault: Fault, model: str, now: int) -> bool:
        elapsed = (now - self._started) / SECOND
        return (
            fault.first <= self._number
            and (fault.last is None or self._number <= fault.last)
            and fault.after <= elapsed
            and (fault.until is None or elapsed < fault.until)
            and fnmatchcase(model, fault.models)
            and (fault.probability >= 1.0 or self._random.random() < fault.probability)
        )
