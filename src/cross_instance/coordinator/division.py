"""Dividing whole slots among instances, who are told of in the order of joining.

1. What does not divide evenly goes to those who joined first, one each.
2. Shares add up to all there is, unless there is less than one for each: nobody gets less than one.
3. By demand (max-min fair): nobody gets more than it wants; what it leaves goes to the others, evenly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def equal_share(total: int, among: int, place: int) -> int:
    """The share of the one at `place` when all want as much as they can get."""
    each, left = divmod(total, among)
    return max(1, each + (place < left))


def shares_by_demand(total: int, demands: Sequence[int]) -> list[int]:
    """The share of each; 0 for who wants nothing, at least 1 for who wants something."""
    given, left = [0] * len(demands), total
    wanting = [place for place, demand in enumerate(demands) if demand]
    while wanting and left >= len(wanting):
        level = min(left // len(wanting), *(demands[place] - given[place] for place in wanting))
        for place in wanting:
            given[place] += level
        left -= level * len(wanting)
        wanting = [place for place in wanting if given[place] < demands[place]]
    for place in wanting[:left]:
        given[place] += 1
    return [max(1, share) if demand else 0 for share, demand in zip(given, demands, strict=True)]
