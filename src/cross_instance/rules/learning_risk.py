"""How many requests met 429 lately, the risk this implies, and the cut that would answer it.

1. Twelve slots of five minutes: the counts of sent and rejected requests of the last hour, and no more.
2. The shares of the last 10, 30 and 60 minutes are weighed 5 : 3 : 2. One request in twenty that meets 429 is a certain
   risk.
3. The cut is a fifth of the risk, so at most 20 %. It is shown, and off unless chosen: the learner already stays below
   the limit it knows, and what is cut on top is only lost (measured in `bench/learning`).
"""

from __future__ import annotations

import msgspec

from cross_instance.rules.learning_values import WHOLE
from cross_instance.rules.values import MINUTE

SLOT = 5 * MINUTE
SLOTS = 12
SPANS = (2, 6, 12)
"""10, 30 and 60 minutes, in slots."""
WEIGHTS = (5, 3, 2)
CERTAIN = 50_000
"""The share of 429s at which the risk is taken to be whole."""
MOST_CUT = 200_000


class Risk(msgspec.Struct, frozen=True, array_like=True):
    """Counts by slot, the present one last; `slot` is its number."""

    slot: int = 0
    sent: tuple[int, ...] = (0,) * SLOTS
    rejected: tuple[int, ...] = (0,) * SLOTS


def counted(record: Risk, now: int, sent: int, rejected: int) -> Risk:
    """Add what was sent, and what of it was rejected."""
    record = turned(record, now)
    return Risk(
        record.slot,
        (*record.sent[:-1], record.sent[-1] + max(0, sent)),
        (*record.rejected[:-1], record.rejected[-1] + max(0, rejected)),
    )


def turned(record: Risk, now: int) -> Risk:
    """The record with the present slot last."""
    shift = min(SLOTS, max(0, now // SLOT - record.slot))
    if not shift:
        return record
    empty = (0,) * shift
    return Risk(now // SLOT, (*record.sent[shift:], *empty), (*record.rejected[shift:], *empty))


def shares(record: Risk, now: int) -> tuple[int, int, int]:
    """The ppm of requests that met 429 in the last 10, 30 and 60 minutes."""
    record = turned(record, now)
    ten, thirty, sixty = (
        min(WHOLE, sum(record.rejected[-span:]) * WHOLE // max(1, sum(record.sent[-span:]))) for span in SPANS
    )
    return ten, thirty, sixty


def risk(record: Risk, now: int) -> int:
    """The risk in ppm."""
    weighed = sum(share * weight for share, weight in zip(shares(record, now), WEIGHTS, strict=True))
    return min(WHOLE, weighed // sum(WEIGHTS) * WHOLE // CERTAIN)


def proactive_cut(record: Risk, now: int) -> int:
    """The ppm by which to reduce the rate beforehand."""
    return cut_of(risk(record, now))


def cut_of(risk: int) -> int:
    """The cut (ppm) that a risk (ppm) calls for."""
    return MOST_CUT * risk // WHOLE
