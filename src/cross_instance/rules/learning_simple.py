"""The guide's own rule, mode `simple`: times 0.9 after an overload, times 1.05 while things go well.

1. One reduction per overload: echoes change nothing.
2. One recovery a second at most, and only after something was accepted: a step for each response would grow the faster
   the more is sent, and meets 429 with a third of its requests, whatever the limit is.
3. The lowest and the highest rate hold only where they are set.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules.learning_values import HIGHEST, LOWEST, WHOLE, part, sane
from cross_instance.rules.values import SECOND

REDUCTION = 900_000
RECOVERY = 1_050_000
"""`reductionFactor` and `recoveryFactor` of the guide."""


class Factors(msgspec.Struct, frozen=True, array_like=True):
    """How to change a rate, and within which bounds. Raises `ValueError` for factors on the wrong side of 1."""

    reduction: int = REDUCTION
    recovery: int = RECOVERY
    lowest: int = LOWEST
    highest: int = HIGHEST

    def __post_init__(self) -> None:
        if not 0 < self.reduction < WHOLE < self.recovery <= 10 * WHOLE:
            raise ValueError("reductionFactor must be between 0 and 1, recoveryFactor between 1 and 10")
        if not LOWEST <= self.lowest <= self.highest <= HIGHEST:
            raise ValueError("minRequestsPerMinute must be 1 or more and not above maxRequestsPerMinute")


GUIDE = Factors()


class Simple(msgspec.Struct, frozen=True, array_like=True):
    """The rate, and when it last changed."""

    rate: int
    changed: int = 0


def accepted(record: Simple, now: int, factors: Factors = GUIDE) -> Simple:
    """A request succeeded."""
    if now - record.changed < SECOND:
        return record
    return Simple(_bounded(part(record.rate, factors.recovery), factors), now)


def rejected(record: Simple, now: int, factors: Factors = GUIDE) -> Simple:
    """The first rejection of an epoch."""
    return Simple(_bounded(part(record.rate, factors.reduction), factors), now)


def _bounded(rate: int, factors: Factors) -> int:
    return max(factors.lowest, min(sane(rate), factors.highest))
