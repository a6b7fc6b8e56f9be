"""Broadcast entries: work that an application keeps itself, and that others may take.

1. An instance offers entries with its workload. Each is taken by one thief, in one operation: the oldest of the highest
   class that anybody else offers.
2. What was taken is not offered any more, however often its former owner still lists it, until that has been told.
   It is told with every heartbeat until it says so: an answer that was lost on its way changes nothing. Who was removed
   for its silence, and lives, is told when it has joined anew.
3. To run an entry itself, its owner first broadcasts its queue without it: if it is not among those taken then, nobody
   else has it.
4. A queue that was not told for as long as its instance may be silent is nobody's to take from.
5. A thief that repeats its question, because the answer was lost, gets the same entry.
6. A workload has its bounds: it is written with each of its instance's heartbeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules import records
from cross_instance.rules.checks import name, within
from cross_instance.rules.ledger import Ledger
from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import DAY, Fenced, Stolen
from cross_instance.rules.records import Lost
from cross_instance.rules.tables import INSTANCE, LOST, named, unpack_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import Entry, Heartbeat, Instant, Steal, Workload
    from cross_instance.rules.records import Instance
    from cross_instance.rules.tables import Tables

MOST_ENTRIES = 256
"""Entries that an instance can offer at once, and that may be taken from it before it has been told."""
MOST_MODELS = 64
"""Models that one instance can say it uses."""


def check(op: Heartbeat) -> None:
    """Raise `ValueError` for a workload that cannot be stored."""
    if op.workload is not None:
        _check_figures(op.workload)
        _check_models(op.workload)
        _check_entries(op.workload.stealable)


def _check_figures(workload: Workload) -> None:
    for what in ("pending", "orchestrations", "latency", "last_completed"):
        within(what, getattr(workload, what) or 0, 0, EXACT - 1)


def _check_models(workload: Workload) -> None:
    within("active models", len(workload.active_models), 0, MOST_MODELS)
    for provider, model, since in workload.active_models:
        name("provider", provider)
        name("model", model)
        within("since", since, 0, EXACT - 1)


def _check_entries(entries: tuple[Entry, ...]) -> None:
    within("stealable entries", len(entries), 0, MOST_ENTRIES)
    for entry in entries:
        name("entry id", entry.id)
        name("tool name", entry.tool or "-")
        for what in ("enqueued_at", "duration", "rounds"):
            within(what, getattr(entry, what) or 0, 0, EXACT - 1)
    twice = len(entries) - len({entry.id for entry in entries})
    if twice:
        raise ValueError(f"stealable entries: {twice} of the ids are there twice")


def receive(instance: Instance, op: Heartbeat, at: Instant) -> tuple[str, ...]:
    """Keep what an instance says of its work; the ids of its entries that others have."""
    instance.taken = [taken for taken in instance.taken if taken not in op.told]
    if op.workload is not None:
        offered = tuple(entry for entry in op.workload.stealable if entry.id not in instance.taken)
        instance.workload = msgspec.structs.replace(op.workload, stealable=offered)
        if op.broadcast:
            instance.broadcast_at = at.mono
    return tuple(instance.taken)


def part(ledger: Ledger, instance: Instance, *, certain: bool) -> None:
    """An instance is removed; one that may live (`certain`: it does not) will have to be told what it lost."""
    for key, value in [*ledger.tables.scan(LOST)]:
        if records.decode_lost(value).at < ledger.at.wall - DAY:
            ledger.tables.delete(key)
    if instance.taken and not certain:
        ledger.tables.put(named(LOST, instance.instance_id), records.encode(Lost(ledger.at.wall, instance.taken)))


def come_back(ledger: Ledger, instance: Instance) -> None:
    """An instance joins: what it lost before it was removed is told to it."""
    key = named(LOST, instance.instance_id)
    value = ledger.tables.get(key)
    if value is not None:
        instance.taken = records.decode_lost(value).taken
        ledger.tables.delete(key)


def steal(tables: Tables, op: Steal, at: Instant) -> Stolen | Fenced:
    """Decide a `Steal`."""
    within("seq", op.seq, 0, EXACT - 1)
    ledger = Ledger(tables, at)
    thief = ledger.instance(op.incarnation)
    if thief is None:
        return Fenced(at=at)
    if thief.stolen is not None and thief.stolen[0] == op.seq:
        return Stolen(at=at, entry=thief.stolen[1], victim=thief.stolen[2])
    found = min(_offers(ledger, op.incarnation), default=None)
    if found is None:
        return Stolen(at=at)
    *_, entry_id, incarnation = found
    victim = ledger.live_instance(incarnation)
    entry = _give_up(victim, entry_id)
    thief.stolen = (op.seq, entry, victim.instance_id)
    ledger.close()
    return Stolen(at=at, entry=entry, victim=victim.instance_id)


def _offers(ledger: Ledger, thief: int) -> Iterator[tuple[int, int, str, int]]:
    """What others offer, in a form whose smallest goes first: class, age, id, whose."""
    for key, value in ledger.tables.scan(INSTANCE):
        incarnation = unpack_one(key[1:])[0]
        instance = records.decode_instance(value)
        if incarnation != thief and _may_lose(instance, ledger.now):
            for entry in instance.workload.stealable:
                yield entry.priority, entry.enqueued_at, entry.id, incarnation


def _may_lose(instance: Instance, now: int) -> bool:
    fresh = instance.broadcast_at and now - instance.broadcast_at <= instance.timeout
    return bool(fresh) and len(instance.taken) < MOST_ENTRIES


def _give_up(victim: Instance, entry_id: str) -> Entry:
    """Take an entry out of what an instance offers."""
    workload = victim.workload
    taken = next(entry for entry in workload.stealable if entry.id == entry_id)
    victim.workload = msgspec.structs.replace(
        workload,
        pending=max(0, workload.pending - 1),
        stealable=tuple(entry for entry in workload.stealable if entry is not taken),
    )
    victim.taken.append(entry_id)
    return taken
