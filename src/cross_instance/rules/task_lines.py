"""Whose turn it is: the first tasks of some lanes that nobody has claimed.

1. A smaller rank goes first, then the place; places are numbered over all lanes.
2. A returned place comes before everything that was never handed out.
3. What a process that died between two commits left behind among the returned places is dropped when it is met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.tables import QUEUE, READY, RETURNED, named
from cross_instance.rules.task_records import RANKS, TaskClaim, lane_key, may_take, place_key

if TYPE_CHECKING:
    from cross_instance.rules.tables import Tables
    from cross_instance.rules.task_desk import Desk
    from cross_instance.rules.task_records import LaneName

Found = tuple[str, TaskClaim]
"""A task's id with its new claim."""
Head = tuple[int, int, str]
"""Rank, place and id of the first task of a lane."""


def is_paused(tables: Tables, queue: str) -> bool:
    """Whether nobody takes tasks from a queue."""
    return tables.get(named(QUEUE, queue)) is not None


def lanes_of(desk: Desk, queue: str, tags: frozenset[str]) -> list[LaneName]:
    """The lanes of a queue with tasks in them that its own instance may take."""
    return [lane for lane in desk.lanes(queue) if may_take(lane[1], tags, steal=False)]


def first_of(desk: Desk, lanes: list[LaneName], owner: tuple[int, int], instance_id: str, most: int) -> list[Found]:
    """Claim the first tasks of these lanes, as (incarnation, seq)."""
    heads = {lane: head for lane in lanes if (head := head_of(desk, lane)) is not None}
    found: list[Found] = []
    while heads and len(found) < most:
        lane = min(heads, key=lambda lane: heads[lane][:2])
        name = heads.pop(lane)[2]
        found.append((name, desk.take(desk.listed(name), (*owner, len(found)), instance_id)))
        head = head_of(desk, lane) if len(found) < most else None
        if head is not None:
            heads[lane] = head
    return found


def head_of(desk: Desk, lane: LaneName) -> Head | None:
    """The first unclaimed task of a lane."""
    there = desk.lane(lane).ranks
    for rank in range(RANKS):
        if there[rank]:  # a count of those taken may include some of a process that died between two commits
            head = _returned(desk, lane, rank) or _next(desk, lane, rank)
            if head is not None:
                return head
    return None


def _returned(desk: Desk, lane: LaneName, rank: int) -> Head | None:
    prefix = lane_key(RETURNED, lane) + bytes((rank,))
    while (found := desk.tables.first(prefix)) is not None:
        place = int.from_bytes(found[0][-8:])
        if desk.tables.get(place_key(READY, lane, rank, place)) is not None:
            return rank, place, found[1].decode()
        desk.tables.delete(found[0])
    return None


def _next(desk: Desk, lane: LaneName, rank: int) -> Head | None:
    prefix = lane_key(READY, lane) + bytes((rank,))
    found = desk.tables.after(prefix, place_key(READY, lane, rank, desk.taken(lane).cursors[rank]))
    return None if found is None else (rank, int.from_bytes(found[0][-8:]), found[1].decode())
