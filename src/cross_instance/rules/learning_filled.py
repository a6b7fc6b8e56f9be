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

from typing import TYPE_CHECKING

from cross_instance.rules.learning_values import WHOLE, Mark, part, per_minute, sane, units_in
from cross_instance.rules.learning_window import UNKNOWN, end_of

if TYPE_CHECKING:
    from cross_instance.rules.learning_rate import Rate
    from cross_instance.rules.learning_values import Stamp

FULL = 950_000
"""The share of the estimate that a window holds which is full by its count."""
ENOUGH = 10
"""Accepted requests that a count needs."""
SURE = 100
"""An end is sure enough within this part of the span."""
MORE = 1_020_000
"""The share of the estimate that a window holds which proves more."""


def full_window(record: Rate, stamp: Stamp, named: tuple[int, int] | None, *, goes_on: bool) -> tuple[int, int] | None:
    """Between which instants the window ends that a rejection shows to be full; None where it shows none. `named`:
    between which a Retry-After says that it does; `goes_on`: whether a trial in the same block was rejected."""
    if not record.window.span:
        return None
    low, high = end_of(record.window, record.block.at if goes_on else stamp.at)
    if named is not None:
        low, high = max(low, named[0]), min(high, named[1])
        return (low, high) if low <= high else None
    if high <= stamp.at or not (goes_on or _is_full(record, stamp)):
        return None
    return max(low, stamp.at), high


def _is_full(record: Rate, stamp: Stamp) -> bool:
    began = _began(record, stamp.at)
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


def wait_until(record: Rate, full: tuple[int, int], *, goes_on: bool) -> int:
    """The instant until which a full window is to be waited for."""
    low, high = full
    return high if goes_on or high - low <= record.window.span // SURE else (low + high) // 2


def boundary(full: tuple[int, int], accepted: int) -> Mark:
    """The end of a full window."""
    low, high = full
    return Mark((low + high) // 2, accepted, (high - low) // 2)


def beginning(record: Rate, at: int, accepted: int, size: int) -> Mark | None:
    """Where the window began that an instant is in, if that was seen and enough was accepted in it."""
    began = _began(record, at)
    return began if began is not None and accepted - began.count >= ENOUGH * size else None


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
