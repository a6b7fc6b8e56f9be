"""The figures of a run, as `learning.md` defines them: t95, share used, share of 429s, recoveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.learning.simulation import Log

WINDOW = 60


def reached(log: Log, limit: float, share: float, start: int = 0, most_rejected: float = 1.0) -> int | None:
    """Seconds from `start` to the end of the first minute in which `share` of the limit was let in and at most
    `most_rejected` of what was sent was not; None where there was none."""
    accepted, rejected = sum(log.accepted[start : start + WINDOW]), sum(log.rejected[start : start + WINDOW])
    for end in range(start + WINDOW, len(log.accepted) + 1):
        if accepted >= share * limit and rejected <= most_rejected * (accepted + rejected):
            return end - start
        if end < len(log.accepted):
            accepted += log.accepted[end] - log.accepted[end - WINDOW]
            rejected += log.rejected[end] - log.rejected[end - WINDOW]
    return None


def used(log: Log, limit: float, start: int, end: int | None = None) -> float:
    """The share of the limit that was let in."""
    taken = log.accepted[start:end]
    return sum(taken) / (limit / 60 * len(taken))


def refused(log: Log, start: int, end: int | None = None) -> float:
    """The share of the requests that met 429."""
    accepted, rejected = sum(log.accepted[start:end]), sum(log.rejected[start:end])
    return rejected / max(1, accepted + rejected)
