"""What the events of a storm prove: how many permits were held at once, and how many were granted in any interval.

Events are told so that nothing seems worse than it was (see `runtime_parts`), so what is found here really happened.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.processes.runtime_herd import Event


class Use(NamedTuple):
    """One permit: asked for, granted, and certainly held until `ended`; µs."""

    provider: str
    pid: int
    asked: int
    granted: int
    ended: int


def uses(events: Iterable[Event], killed: Mapping[int, int]) -> list[Use]:
    """Every permit that was held. `killed`: when a process was killed; what it held then was held until then."""
    asked: dict[tuple[int, str], list[int]] = {}
    open_uses: dict[tuple[int, str], Use] = {}
    found: list[Use] = []
    for event in events:
        if event.word == "asking":
            asked.setdefault((event.pid, event.rest[0]), []).append(event.at)
        elif event.word == "granted":
            provider, name = event.rest
            first = asked[event.pid, provider].pop(0)  # the earliest of one process: never later than its own
            open_uses[event.pid, name] = Use(provider, event.pid, first, event.at, event.at)
        elif event.word == "ending":
            found.append(open_uses.pop((event.pid, event.rest[1]))._replace(ended=event.at))
    found += [use._replace(ended=max(use.granted, killed[pid])) for (pid, _), use in open_uses.items() if pid in killed]
    return found


def most_at_once(held: Sequence[Use]) -> int:
    """The largest number of permits held at one instant."""
    changes = sorted([(use.granted, 1) for use in held] + [(use.ended, -1) for use in held])
    count = most = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most


def worst_excess(held: Sequence[Use], burst: int, per_second: float) -> float:
    """The largest number of grants in any interval beyond `burst` and what the interval allows."""
    ends: list[int] = []
    worst = float("-inf")
    for use in sorted(held, key=lambda use: use.asked, reverse=True):
        insort(ends, use.granted)
        for count, end in enumerate(ends, 1):
            worst = max(worst, count - burst - per_second * (end - use.asked) / 1e6)
    return worst
