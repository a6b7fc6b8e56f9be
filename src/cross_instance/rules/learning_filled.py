"""What a full window tells: when it ends, and how many it holds.

1. A rejection in a recognised window says that it is full: where it may hold as many as the estimate gives, where the
   provider's Retry-After names its end, or where a trial was rejected as well. One alone, early in a window, may have
   another cause.
2. A full window is waited for until its end; where that is not sure enough, first until the middle of the doubt.
3. What was accepted in a full window is the limit, but for what went while it may have begun. An estimate within that
   doubt stays, a little lower when it was met while cruising; one that a climb has met goes to the middle at least.
4. More than that accepted in one window proves a limit that has grown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.learning_values import WHOLE, Mark, part, per_minute, sane, units_in
from cross_instance.rules.learning_window import UNKNOWN, end_of

if TYPE_CHECKING:
    from cross_instance.rules.learning_rate import Rate
    from cross_instance.rules.learning_values import Stamp

FULL = 950_000
"""The share of the estimate that a window holds which is full by its count."""
SURE = 100
"""An end is sure enough within this part of the span."""
MORE = 1_020_000
"""The share of the estimate that a window holds which proves more."""


class Full(NamedTuple):
    """A full window: between which instants it ends, and where it began; None where that was not seen."""

    low: int
    high: int
    began: Mark | None


def full_window(record: Rate, stamp: Stamp, named: tuple[int, int] | None, *, goes_on: bool) -> Full | None:
    """The window that a rejection shows to be full; None where it shows none. `named`: between which instants a
    Retry-After says that it ends; `goes_on`: whether a trial in the same block was rejected."""
    if not record.window.span:
        return None
    at = record.block.at if goes_on else stamp.at
    (low, high), began = end_of(record.window, at), _began(record, at)
    if named is not None:
        low, high = max(low, named[0]), min(high, named[1])
        return Full(low, high, began) if low <= high else None
    if high <= stamp.at or not (goes_on or _is_full(record, stamp, began)):
        return None
    return Full(max(low, stamp.at), high, began)


def _is_full(record: Rate, stamp: Stamp, began: Mark | None) -> bool:
    if began is None:
        return False
    held = stamp.serial - record.rejections - began.count + units_in(record.rate, 2 * began.idle)
    return held >= part(units_in(record.estimate, record.window.span), FULL)


def _began(record: Rate, at: int) -> Mark | None:
    """The beginning of the window that an instant is in, the present or the one before, if it was seen."""
    window = record.window
    for began in (window.began, window.previous):
        if began.count != UNKNOWN and began.at <= at <= began.at + began.idle + window.span:
            return began
    return None


def wait_until(record: Rate, full: Full, *, goes_on: bool) -> int:
    """The instant until which a full window is to be waited for."""
    low, high, _ = full
    return high if goes_on or high - low <= record.window.span // SURE else (low + high) // 2


def boundary(full: Full, accepted: int) -> Mark:
    """The end of a full window."""
    low, high, _ = full
    return Mark((low + high) // 2, accepted, (high - low) // 2)


def is_counted(record: Rate) -> bool:
    """Whether the interval of a record is its window."""
    return bool(record.window.span) and record.start in (record.window.began, record.window.previous)


def counted(record: Rate, *, cruised: bool, kept: int) -> int:
    """The estimate that follows from the count of a full window, `kept` being the one until then."""
    first, last, span = record.start, record.end, record.window.span
    assert first is not None
    assert last is not None
    lowest = per_minute(last.count - first.count, span)
    highest = lowest + part(record.block.met, 2 * first.idle * WHOLE // span)
    return sane(max(lowest if cruised else (lowest + highest) // 2, min(kept, highest)))


def is_outgrown(record: Rate, accepted: int) -> bool:
    """Whether more was accepted in one window than the estimate gives."""
    window = record.window
    present = accepted - window.began.count if window.began.count != UNKNOWN else 0
    return max(window.passed, present) > 1 + part(units_in(record.estimate, window.span), MORE)
