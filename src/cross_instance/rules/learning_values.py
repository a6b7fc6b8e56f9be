"""What the learner counts in: integers below 2^53, so that Lua's doubles hold them too.

Rates are thousandths of a unit per minute, shares and factors millionths (ppm), times µs of the store's clock.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules.values import MINUTE

WHOLE = 1_000_000
"""The share that is all of it."""

UNIT = 1_000
"""A rate of one unit per minute."""

LOWEST = UNIT
HIGHEST = 1_000_000_000 * UNIT
"""Rates outside are absurd."""

_EXACT = 1 << 53
_MANY = 100_000_000


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """What a permit remembers of its grant, for the day it is rejected.

    `serial`: the units granted before it, ever (requests, or tokens where those are learned); `at`: when; `held`: how
    many were in flight besides it; `size`: its own units.
    """

    serial: int
    at: int
    held: int = 0
    size: int = 1


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """An instant, and how many units had been accepted by then. `idle`: the µs by which `at` may be too early."""

    at: int
    count: int
    idle: int = 0


def part(rate: int, ppm: int) -> int:
    """A rate times a factor."""
    return rate * ppm // WHOLE if rate * ppm < _EXACT else rate // WHOLE * ppm


def per_minute(units: int, us: int) -> int:
    """The rate of `units` in `us`; more than 10^8 units are counted in pairs, fours and so on."""
    units, ms = max(0, units), max(1, us // 1_000)
    while units > _MANY:
        units, ms = units // 2, max(1, ms // 2)
    return min(HIGHEST, units * (MINUTE // 1_000) * UNIT // ms)


def ahead(units: int, us: int, rate: int) -> int:
    """How many µs longer than `us` the rate would have taken to give `units`, at most as long again."""
    return max(0, us) * max(0, min(per_minute(units, us) - rate, rate)) // rate


def units_in(rate: int, us: int) -> int:
    """How many units a rate gives in `us`, at most a day."""
    return rate // UNIT * (us // 1_000) // (MINUTE // 1_000)


def sane(rate: int) -> int:
    """A rate within what is not absurd."""
    return max(LOWEST, min(rate, HIGHEST))
