"""Named locks with a time to live.

1. A lock is released and renewed only with the token that took it.
2. An expired lock goes to exactly one contender, and so does one whose holder's incarnation is gone.
3. Each new holder gets a larger fence: the wall clock's µs, so that fences rise also over a reboot, when the records
   are gone. Until then they rise whatever the clock does.
4. Who takes a lock that was not given back says so: its holder's time was over, or its instance gone.
5. A lock that nobody holds is forgotten after a while, and one of an instance that is gone (`lapses`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import checks, records
from cross_instance.rules.lapses import LOCK_KEPT, LOCK_LOOKED_AT, lapse
from cross_instance.rules.ledger import Ledger
from cross_instance.rules.operations import Fenced, Lock, Locked, LockState, Notice, Unlock, Unlocked
from cross_instance.rules.records import HeldLock
from cross_instance.rules.tables import FENCES, LOCK, named

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant
    from cross_instance.rules.tables import Tables


def lock(tables: Tables, op: Lock, at: Instant) -> Locked | Fenced:
    """Decide a `Lock`."""
    checks.lock(op)
    ledger = Ledger(tables, at)
    if ledger.instance(op.incarnation) is None:
        return Fenced(at=at)
    key = named(LOCK, op.resource)
    value = tables.get(key)
    held = None if value is None else records.decode_lock(value)
    notices: tuple[Notice, ...] = ()
    if held is not None and _valid(ledger, held):
        if held.token != op.token:
            return Locked(at=at, lock=_shown(op.resource, held), mine=False)
        held.expires_at = at.mono + op.ttl
    else:
        if held is None:
            lapse(tables, key, at.mono + min(op.ttl + LOCK_KEPT, LOCK_LOOKED_AT))
        last = int.from_bytes(tables.get(FENCES) or b"") if held is None else held.fence
        fence = max(at.wall, last + 1)
        if held is not None and held.token:
            notices = (Notice("lock-taken-over", _taken_over(op.resource, fence)),)
        held = HeldLock(op.incarnation, op.token, fence, at.mono, at.mono + op.ttl)
    tables.put(key, records.encode(held))
    return Locked(at=at, lock=_shown(op.resource, held), mine=True, notices=notices)


def unlock(tables: Tables, op: Unlock, at: Instant) -> Unlocked:
    """Decide an `Unlock`."""
    key = named(LOCK, op.resource)
    value = tables.get(key)
    held = None if value is None else records.decode_lock(value)
    if held is None or held.token != op.token or not _valid(Ledger(tables, at), held):
        return Unlocked(at=at, known=False)
    held.expires_at, held.token = at.mono, ""
    tables.put(key, records.encode(held))
    return Unlocked(at=at, known=True)


def held_locks(ledger: Ledger) -> tuple[LockState, ...]:
    """All locks that are held, by name."""
    locks = []
    for key, value in ledger.tables.scan(LOCK):
        held = records.decode_lock(value)
        if _valid(ledger, held):
            locks.append(_shown(key[1:-1].decode(), held))
    return tuple(locks)


def _valid(ledger: Ledger, held: HeldLock) -> bool:
    return held.expires_at > ledger.now and ledger.instance(held.incarnation) is not None


def _taken_over(resource: str, fence: int) -> str:
    return f'the lock "{resource}" was not given back in time; it is taken over with the fence {fence}'


def _shown(resource: str, held: HeldLock) -> LockState:
    return LockState(resource, held.incarnation, held.token, held.fence, held.acquired_at, held.expires_at)
