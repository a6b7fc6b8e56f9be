"""Records that nobody need take away: who watches a task, who stole from whom, named locks. They lapse.

1. Each has an entry under LAPSE, at the instant at which it is looked at. What is still in use then gets a later
   entry; what is not is forgotten. So using a record longer moves no entry.
2. Every `Sweep` looks at what is due, in steps.
3. A lock's fence is not forgotten with it: the next lock of any name has a larger one than all that were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import DAY, MINUTE
from cross_instance.rules.records import decode_lock
from cross_instance.rules.tables import FENCES, INSTANCE, LAPSE, LOCK, STEALS, WATCH, numbered
from cross_instance.rules.task_records import decode_theft

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Instant
    from cross_instance.rules.tables import Tables

WATCHED = MINUTE
"""µs for which somebody waits for a task's end, unless it asks for it again: some times as long as it rests between."""
LOCK_KEPT = MINUTE
"""µs for which a lock is remembered after its end: one that is taken again and again is one record."""
LOCK_LOOKED_AT = 60 * MINUTE
"""µs after which a lock is looked at, however long it is held: its instance may be gone."""
THEFT_KEPT = DAY
"""µs for which it is remembered who stole from whom, after the last time."""


def lapse(tables: Tables, key: bytes, at: int) -> None:
    """Have a record looked at, at an instant (mono µs)."""
    tables.put(LAPSE + at.to_bytes(8) + key, b"")


def forget_lapsed(tables: Tables, at: Instant, most: int) -> int:
    """Look at `most` records whose time has come, and forget those that are not in use any more; how many it were."""
    for looked in range(most):
        found = tables.first(LAPSE)
        if found is None or int.from_bytes(found[0][1:9]) > at.mono:
            return looked
        tables.delete(found[0])
        _look_at(tables, found[0][9:], at)
    return most


def _look_at(tables: Tables, key: bytes, at: Instant) -> None:
    value = tables.get(key)
    if value is None:
        return
    left = LEFT[key[:1]](tables, value, at)
    if left > 0:
        lapse(tables, key, at.mono + left)
        return
    tables.delete(key)
    if key[:1] == LOCK:
        fence = max(decode_lock(value).fence, int.from_bytes(tables.get(FENCES) or b""))
        tables.put(FENCES, fence.to_bytes(8))


def _watch_left(_: Tables, value: bytes, at: Instant) -> int:
    return int.from_bytes(value) - at.mono


def _lock_left(tables: Tables, value: bytes, at: Instant) -> int:
    held = decode_lock(value)
    if tables.get(numbered(INSTANCE, held.incarnation)) is None:
        return 0
    return min(held.expires_at + LOCK_KEPT - at.mono, LOCK_LOOKED_AT)


def _theft_left(_: Tables, value: bytes, at: Instant) -> int:
    return min(decode_theft(value).last_at + THEFT_KEPT - at.wall, THEFT_KEPT)


LEFT: dict[bytes, Callable[[Tables, bytes, Instant], int]] = {
    WATCH: _watch_left,
    LOCK: _lock_left,
    STEALS: _theft_left,
}
"""The µs for which a record is kept still, or looked at again after."""
