"""Stealing: an idle instance takes over queued tasks of another.

1. Only queued tasks are stolen, and only those that may be; the oldest of the highest class first, one operation each.
2. The victim is the instance with the largest backlog: the time that what may be stolen now is expected to take, by
   the mean duration of each kind. At most half of those tasks (rounded up) go at once.
3. An instance that serves its queue itself is robbed only where its backlog reaches the minimum gain. Where nobody
   serves a queue, waiting would not help, and any backlog is enough.
4. Nothing is stolen that would only wait elsewhere: where others wait for a permit of the account it spends from, or
   its provider has asked for a pause, the account's limit is what holds everyone back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import records, task_records
from cross_instance.rules.lapses import THEFT_KEPT, lapse
from cross_instance.rules.ledger import node_key
from cross_instance.rules.operations import FOREVER, SECOND
from cross_instance.rules.tables import CLAIMER, INSTANCE_ID, STEALS, named, numbered
from cross_instance.rules.task_lines import first_of, is_paused
from cross_instance.rules.task_records import Theft, account_of, may_take

if TYPE_CHECKING:
    from cross_instance.rules.operations import Claim
    from cross_instance.rules.task_desk import Desk
    from cross_instance.rules.task_lines import Found
    from cross_instance.rules.task_records import LaneName

UNKNOWN = SECOND
"""How long a task is taken to last (µs) while none of its kind was done."""


class Victim:
    """Another instance's queue, as a thief sees it."""

    def __init__(self) -> None:
        self.lanes: list[LaneName] = []
        self.tasks = 0
        self.backlog = 0


def steal(desk: Desk, op: Claim, own: str) -> tuple[str, list[Found]]:
    """Claim tasks of the instance with the largest backlog; its id and what was taken, or ("", [])."""
    victims = _victims(desk, own, frozenset(op.tags))
    if victims:
        _note(desk, own, "", 1)
    for queue, victim in sorted(victims.items(), key=lambda item: (-item[1].backlog, item[0])):
        if is_paused(desk.tables, queue) or (victim.backlog < op.min_gain and _serves(desk, queue)):
            continue
        found = first_of(desk, victim.lanes, (op.incarnation, op.seq), own, min(op.most, (victim.tasks + 1) // 2))
        if found:
            _note(desk, own, queue, len(found))
            return queue, found
    return "", []


def _victims(desk: Desk, own: str, tags: frozenset[str]) -> dict[str, Victim]:
    victims: dict[str, Victim] = {}
    durations: dict[str, int] = {}
    held_back: dict[str, bool] = {"": False}
    for lane in desk.lanes():
        if lane[0] in ("", own) or not may_take(lane[1], tags, steal=True):
            continue
        tasks, account = queued(desk, lane), account_of(lane)
        if account not in held_back:
            held_back[account] = _holds_back(desk, account)
        if tasks and not held_back[account]:
            victim = victims.setdefault(lane[0], Victim())
            victim.lanes.append(lane)
            victim.tasks += tasks
            victim.backlog = min(victim.backlog + backlog(desk, lane, durations), FOREVER)
    return victims


def queued(desk: Desk, lane: LaneName) -> int:
    """How many tasks of a lane nobody has claimed."""
    return sum(queued_by_rank(desk, lane))


def queued_by_rank(desk: Desk, lane: LaneName) -> list[int]:
    """The same for each class."""
    pairs = zip(desk.lane(lane).ranks, desk.taken(lane).ranks, strict=True)
    return [max(0, there - taken) for there, taken in pairs]


def backlog(desk: Desk, lane: LaneName, durations: dict[str, int]) -> int:
    """The µs that they are expected to take; `durations` keeps what was read of kinds."""
    total, taken = 0, desk.taken(lane).kinds
    for kind, there in desk.lane(lane).kinds.items():
        if kind not in durations:
            known = desk.duration(kind)
            durations[kind] = max(1, known.mean) if known.done else UNKNOWN
        tasks = max(0, there - taken.get(kind, 0))
        total += FOREVER if tasks > FOREVER // durations[kind] else tasks * durations[kind]
        total = min(total, FOREVER)
    return total


def _serves(desk: Desk, queue: str) -> bool:
    """Whether a live instance claims for itself."""
    incarnation = desk.tables.get(named(INSTANCE_ID, queue))
    value = None if incarnation is None else desk.tables.get(numbered(CLAIMER, int.from_bytes(incarnation)))
    return value is not None and not task_records.has_retired(value)


def _holds_back(desk: Desk, account: str) -> bool:
    """Whether others wait for a permit of an account, or it is paused."""
    value = desk.tables.get(node_key(account))
    node = None if value is None else records.decode_node(value)
    return node is not None and (node.waiting > 0 or node.paused_until > desk.at.mono)


def _note(desk: Desk, thief: str, victim: str, tasks: int) -> None:
    key = named(STEALS, thief) + named(b"", victim)
    value = desk.tables.get(key)
    if value is None:
        lapse(desk.tables, key, desk.at.mono + THEFT_KEPT)
    theft = Theft() if value is None else task_records.decode_theft(value)
    theft.tasks += tasks
    theft.last_at = desk.at.wall
    desk.tables.put(key, records.encode(theft))
