"""The records that one operation on tasks works on, and the few moves that tasks make between them.

1. What is durable decides: a task is ready as long as it has a place in a READY list. A claim only hides that place.
2. Places rise for ever. All of a list up to its cursor are claimed or returned; all beyond it are neither.
3. Records that tell nothing new are not written, so that what changes nothing durable syncs nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cross_instance.rules import records, task_records
from cross_instance.rules.operations import DAY, Wake
from cross_instance.rules.tables import (
    CLAIM,
    DELAYED,
    DURATION,
    EPOCH,
    EPOCHS,
    IDLE,
    INSTANCE,
    INSTANCE_ID,
    LANE,
    OWNED,
    PAYLOAD,
    READY,
    RESULT,
    RETURNED,
    TAKEN,
    TASK,
    TASK_KEY,
    TOTALS,
    WATCH,
    named,
    numbered,
)
from cross_instance.rules.task_records import (
    Duration,
    Idle,
    Lane,
    Phase,
    Taken,
    Task,
    TaskClaim,
    Totals,
    delayed_key,
    expires_key,
    lane_key,
    lane_name,
    lane_of,
    may_take,
    owned_key,
    phase_key,
    place_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import Instant
    from cross_instance.rules.records import Instance
    from cross_instance.rules.tables import Tables
    from cross_instance.rules.task_records import LaneName

EPOCHS_AT_ONCE = 4096
"""Epochs are reserved durably in blocks, so that they rise over a reboot though a claim syncs nothing."""

USUAL = 8
"""A mean duration forgets: beyond so many tasks each new one counts for an eighth."""


class Desk:
    """What one operation has read and changed; `close` writes it. `wakes` go into the result."""

    def __init__(self, tables: Tables, at: Instant) -> None:
        self.tables = tables
        self.at = at
        self.wakes: list[Wake] = []
        self._lanes: dict[LaneName, Lane] = {}
        self._taken: dict[LaneName, Taken] = {}
        self._changed: set[tuple[bytes, LaneName]] = set()
        self._totals: Totals | None = None
        self._fresh: Counter[LaneName] = Counter()
        self._later: dict[LaneName, int] = {}
        self._timer_is_free = False

    # --- looking -----------------------------------------------------------------------------------------------

    def instance(self, incarnation: int) -> Instance | None:
        """A live instance, or None."""
        value = self.tables.get(numbered(INSTANCE, incarnation))
        return None if value is None else records.decode_instance(value)

    def task(self, task: str) -> Task | None:
        """A task that is kept, or None."""
        value = self.tables.get(named(TASK, task))
        return None if value is None else task_records.decode_task(value)

    def listed(self, task: str) -> Task:
        """A task that stands in a list, and so is kept."""
        found = self.task(task)
        assert found is not None, f"task {task!r} is listed but unknown"
        return found

    def due(self, table: bytes, most: int) -> Iterator[Task]:
        """The tasks of DELAYED or EXPIRES whose time has come, the longest due first; each is taken from there before
        the next is asked for."""
        for _ in range(most):
            found = self.tables.first(table)
            if found is None or int.from_bytes(found[0][1:9]) > self.at.wall:
                return
            yield self.listed(found[1].decode())

    def claim(self, task: str) -> TaskClaim | None:
        """Who runs a task, or None."""
        value = self.tables.get(named(CLAIM, task))
        return None if value is None else task_records.decode_claim(value)

    def lane(self, name: LaneName) -> Lane:
        """How many tasks stand in a lane's lists."""
        lane = self._lanes.get(name)
        if lane is None:
            value = self.tables.get(lane_key(LANE, name))
            lane = self._lanes[name] = Lane() if value is None else task_records.decode_lane(value)
        return lane

    def lanes(self, queue: str | None = None) -> list[LaneName]:
        """The lanes with tasks in them, of one queue or of all."""
        prefix = LANE if queue is None else named(LANE, queue)
        stored = {lane_name(key) for key, _ in self.tables.scan(prefix)}
        fresh = {lane for lane in self._fresh if queue in (None, lane[0])}
        return sorted(stored | fresh)

    def taken(self, name: LaneName) -> Taken:
        """How many of them are claimed."""
        taken = self._taken.get(name)
        if taken is None:
            value = self.tables.get(lane_key(TAKEN, name))
            taken = self._taken[name] = Taken() if value is None else task_records.decode_taken(value)
        return taken

    def duration(self, kind: str) -> Duration:
        """How long the tasks of a kind take."""
        value = self.tables.get(named(DURATION, kind))
        return Duration() if value is None else task_records.decode_duration(value)

    def totals(self) -> Totals:
        """The counts of everything; who changes them calls `number` or `count`."""
        value = self.tables.get(TOTALS)
        return Totals() if value is None else task_records.decode_totals(value)

    # --- the durable side --------------------------------------------------------------------------------------

    def number(self) -> int:
        """A number larger than any before."""
        totals = self._changing_totals()
        totals.number += 1
        return totals.number

    def keep(self, task: Task) -> None:
        """Write a task."""
        self.tables.put(named(TASK, task.spec.task), records.encode(task))

    def enter(self, task: Task) -> None:
        """Keep a new task, which is neither ready nor delayed yet."""
        self._count(Phase.OPEN, 1)
        self.tables.put(phase_key(Phase.OPEN, task.number), task.spec.task.encode())

    def ready(self, task: Task) -> None:
        """Put a task at the end of its list."""
        spec, lane = task.spec, lane_of(task.spec)
        task.place = self.number()
        self.tables.put(place_key(READY, lane, spec.priority, task.place), spec.task.encode())
        self.lane(lane).count(spec.priority, spec.kind, 1)
        self._changed.add((LANE, lane))
        self._fresh[lane] += 1

    def delay(self, task: Task, run_at: int) -> None:
        """Let a task be ready later, at a wall time."""
        task.run_at = run_at
        self.tables.put(delayed_key(run_at, task.number), task.spec.task.encode())
        self._changing_totals().delayed += 1
        lane = lane_of(task.spec)
        self._later[lane] = min(self._later.get(lane, run_at), run_at)

    def undelay(self, task: Task) -> None:
        """Take a task from those that are delayed."""
        self.tables.delete(delayed_key(task.run_at, task.number))
        self._changing_totals().delayed -= 1

    def unready(self, task: Task) -> None:
        """Take a task from where it waits for its turn."""
        if not task.place:
            self.undelay(task)
            return
        spec, lane = task.spec, lane_of(task.spec)
        for table in (READY, RETURNED):
            self.tables.delete(place_key(table, lane, spec.priority, task.place))
        self.lane(lane).count(spec.priority, spec.kind, -1)
        self._changed.add((LANE, lane))
        task.place = 0

    def end(self, task: Task, phase: Phase) -> None:
        """Take an open task from its queue for good, or until it is sent back."""
        self.unready(task)
        self._move(task, phase)
        task.finished_at = self.at.wall
        if phase is not Phase.DEAD:
            self.tables.put(self._expiry(task), task.spec.task.encode())
        for key, _ in [*self.tables.scan(named(WATCH, task.spec.task))]:
            self.wakes.append(Wake(int.from_bytes(key[-16:-8]), int.from_bytes(key[-8:]), self.at.mono))
            self.tables.delete(key)

    def reopen(self, task: Task) -> None:
        """Put a task that is over at the end of its list."""
        if task.phase is not Phase.DEAD:
            self.tables.delete(self._expiry(task))
        self.tables.delete(named(RESULT, task.spec.task))
        self._move(task, Phase.OPEN)
        task.failures = task.deaths = task.finished_at = 0
        task.cancel = False
        self.ready(task)

    def forget(self, task: Task) -> None:
        """Remove a task that is over."""
        name = task.spec.task
        self._count(task.phase, -1)
        if task.phase is not Phase.DEAD:
            self.tables.delete(self._expiry(task))
        self.tables.delete(phase_key(task.phase, task.number))
        for table in (TASK, PAYLOAD, RESULT):
            self.tables.delete(named(table, name))
        if task.spec.key:
            self.tables.delete(named(TASK_KEY, task.spec.key))

    def learn(self, kind: str, took: int) -> None:
        """Bring a kind's mean duration up to date."""
        known = self.duration(kind)
        weight = min(known.done, USUAL - 1)
        known.mean = (known.mean * weight + min(max(took, 0), DAY)) // (weight + 1)
        known.done += 1
        self.tables.put(named(DURATION, kind), records.encode(known))

    def _expiry(self, task: Task) -> bytes:
        return expires_key(task.finished_at + task.spec.retention, task.number)

    def _move(self, task: Task, phase: Phase) -> None:
        self._count(task.phase, -1)
        self._count(phase, 1)
        self.tables.delete(phase_key(task.phase, task.number))
        self.tables.put(phase_key(phase, task.number), task.spec.task.encode())
        task.phase = phase

    def _count(self, phase: Phase, by: int) -> None:
        self._changing_totals().phases[phase] += by

    def _changing_totals(self) -> Totals:
        if self._totals is None:
            self._totals = self.totals()
        return self._totals

    # --- claims ------------------------------------------------------------------------------------------------

    def take(self, task: Task, owner: tuple[int, int, int], instance_id: str) -> TaskClaim:
        """Hand a ready task to its owner (incarnation, seq, turn)."""
        spec, lane = task.spec, lane_of(task.spec)
        left = self.claim(spec.task)
        if left is not None:  # of a process that died between the two commits of a `Finish`
            self.drop(spec.task, left, back=False)
        claim = TaskClaim(
            self._epoch(), *owner, instance_id, self.at.mono, self.at.wall, *lane, spec.priority, task.place, spec.kind
        )
        self.keep_claim(spec.task, claim)
        self.tables.put(owned_key(*owner), spec.task.encode())
        self.tables.delete(place_key(RETURNED, lane, claim.rank, claim.place))
        taken = self.taken(lane)
        taken.count(claim.rank, claim.kind, 1)
        taken.cursors[claim.rank] = max(taken.cursors[claim.rank], claim.place)
        self._changed.add((TAKEN, lane))
        return claim

    def keep_claim(self, task: str, claim: TaskClaim) -> None:
        """Write a claim."""
        self.tables.put(named(CLAIM, task), records.encode(claim))

    def drop(self, name: str, claim: TaskClaim, *, back: bool) -> None:
        """End a claim; `back`: its place is free again."""
        lane = (claim.queue, claim.lane)
        self.tables.delete(named(CLAIM, name))
        self.tables.delete(owned_key(claim.incarnation, claim.seq, claim.turn))
        self.taken(lane).count(claim.rank, claim.kind, -1)
        self._changed.add((TAKEN, lane))
        if back:
            self.tables.put(place_key(RETURNED, lane, claim.rank, claim.place), name.encode())
            self._fresh[lane] += 1

    def owned(self, incarnation: int, seq: int | None = None) -> list[tuple[str, TaskClaim]]:
        """What an incarnation runs, in the order in which it claimed it; with `seq`, by that claim."""
        prefix = numbered(OWNED, incarnation) + (b"" if seq is None else seq.to_bytes(8))
        names = [value.decode() for _, value in self.tables.scan(prefix)]
        return [(name, claim) for name in names if (claim := self.claim(name)) is not None]

    def _epoch(self) -> int:
        value = self.tables.get(EPOCH) or bytes(16)
        epoch, end = int.from_bytes(value[:8]), int.from_bytes(value[8:])
        if epoch == end:
            epoch = int.from_bytes(self.tables.get(EPOCHS) or b"\x01")
            end = epoch + EPOCHS_AT_ONCE
            self.tables.put(EPOCHS, end.to_bytes(8))
        self.tables.put(EPOCH, (epoch + 1).to_bytes(8) + end.to_bytes(8))
        return epoch

    def announce(self, lane: LaneName, tasks: int) -> None:
        """So many tasks of a lane can be taken, and perhaps nobody who can knows of it."""
        if tasks:
            self._fresh[lane] = max(tasks, self._fresh[lane])

    def list_idle(self, incarnation: int, idle: Idle) -> None:
        """Wake an incarnation from now on; what it was to see to before, it still is."""
        key = numbered(IDLE, incarnation)
        before = self.tables.get(key)
        idle.timed = before is not None and task_records.decode_idle(before).timed
        self.tables.put(key, records.encode(idle))

    def unlist_idle(self, incarnation: int) -> None:
        """Wake an incarnation no more; what it was to see to at its time is another's then."""
        key = numbered(IDLE, incarnation)
        idle = self.tables.get(key)
        if idle is not None:
            self.tables.delete(key)
            self._timer_is_free = self._timer_is_free or task_records.decode_idle(idle).timed

    # --- closing -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what was changed, and wake idle workers for what became ready."""
        if self._totals is not None:
            self.tables.put(TOTALS, records.encode(self._totals))
        for lane in sorted({lane for _, lane in self._changed}):
            self._write(lane)
        if self._fresh or self._later or self._timer_is_free:
            self._wake()

    def _write(self, name: LaneName) -> None:
        lane = self.lane(name)
        if (LANE, name) in self._changed:
            self._put_or_delete(lane_key(LANE, name), lane, any(lane.ranks))
        taken = self.taken(name)
        if (TAKEN, name) in self._changed or not any(lane.ranks):
            self._put_or_delete(lane_key(TAKEN, name), taken, any(lane.ranks) or any(taken.ranks))

    def _put_or_delete(self, key: bytes, lane: Lane, keep: bool) -> None:
        if keep:
            self.tables.put(key, records.encode(lane))
        else:
            self.tables.delete(key)

    def _wake(self) -> None:
        """One idle worker for each task that became ready, its queue's own first; for the first of a lane that will
        be, one stays idle until then."""
        idle = [(int.from_bytes(key[1:]), task_records.decode_idle(value)) for key, value in self.tables.scan(IDLE)]
        for lane, count in self._fresh.items():
            for incarnation, worker in self._fitting(idle, lane)[:count]:
                idle.remove((incarnation, worker))
                self.unlist_idle(incarnation)
                self.wakes.append(Wake(incarnation, worker.seq, self.at.mono))
        if self._timer_is_free:
            self._pass_the_timer_on()
        for lane, run_at in self._later.items():
            for incarnation, worker in self._fitting(idle, lane)[:1]:
                self.wakes.append(Wake(incarnation, worker.seq, self.at.mono + max(0, run_at - self.at.wall)))
                worker.timed = True
                self.tables.put(numbered(IDLE, incarnation), records.encode(worker))

    def _pass_the_timer_on(self) -> None:
        """Who was told when the next delayed task will be ready is not idle any more."""
        found = self.tables.first(DELAYED)
        if found is not None:
            task = self.listed(found[1].decode())
            self._later.setdefault(lane_of(task.spec), task.run_at)

    def _fitting(self, idle: list[tuple[int, Idle]], lane: LaneName) -> list[tuple[int, Idle]]:
        own = int.from_bytes(self.tables.get(named(INSTANCE_ID, lane[0])) or b"")
        fit = [one for one in idle if _would_take(own, *lane, *one)]
        return sorted(fit, key=lambda one: one[0] != own)


def _would_take(own: int, queue: str, lane: str, incarnation: int, idle: Idle) -> bool:
    steal = queue != "" and incarnation != own
    return (idle.steal or not steal) and may_take(lane, frozenset(idle.tags), steal=steal)
