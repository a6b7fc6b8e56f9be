"""The worker: claims tasks, runs them, tells the store how they ended; one for each instance.

1. Everything is decided in one event loop, turn by turn: what ended is reported, free slots are filled, running tasks
   are renewed. In between it waits for a wake of the store, the end of an attempt, or the next time something is due.
2. A claim whose answer was lost is sent again under its seq; an end until the store has answered.
3. What the store does not count as this instance's any more is dropped: its function is stopped, its end not told.
4. Draining: nothing new is claimed, and the store told so, what runs may end in its time; the rest is given back.
5. What it runs is told to the other instances, by the heartbeat thread (`workload`).
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from cross_instance.errors import CrossInstanceError, StoreUnavailable
from cross_instance.membership.workload import note_stolen
from cross_instance.rules.operations import SECOND, Claim, Claimed, Fenced, Finish, Finished, Renew, Renewed
from cross_instance.rules.task_checks import MOST_CLAIMED, MOST_TOGETHER
from cross_instance.tasks.attempts import Attempt
from cross_instance.tasks.load import Load
from cross_instance.tasks.pace import Pace

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import Operation, TaskEnd, Wake
    from cross_instance.stores.base import AsyncStore
    from cross_instance.tasks.registry import Kinds

RENEW_EVERY = SECOND // 2
"""µs between renewals: how soon progress is shown, and a running task hears that it is cancelled or lost."""
LONGEST_REST = 60 * SECOND
TELL_EVERY = SECOND
"""µs between messages to the other instances of what this worker is at, where that has changed."""
RETRY_AFTER = SECOND // 4
"""µs after which a store out of reach is tried again, about."""
MOST_ENDED = 500
"""Ends told at once; of as many results as fit into one operation."""

_at_work: WeakKeyDictionary[Membership, int] = WeakKeyDictionary()
"""The instances with a worker, each with the process that it works in."""


class Job(NamedTuple):
    """What a worker was asked to do. `steal` None: as the settings in force say; `drain_timeout` in µs; `tags` without
    those of the kinds."""

    concurrency: int
    steal: bool | None
    tags: tuple[str, ...]
    drain_timeout: int
    until_idle: bool


class Worker:
    """Serves one instance's tasks at a store until it is drained."""

    def __init__(self, membership: Membership, store: AsyncStore, kinds: Kinds, job: Job, executor: Executor) -> None:
        self._membership = membership
        self._store = store
        self._kinds = kinds
        self._job = job
        self._executor = executor
        self._pace = Pace()
        self._attempts: dict[int, Attempt] = {}
        """By epoch, those that are not over."""
        self._ends: list[tuple[int, TaskEnd]] = []
        """What the store is to be told, each with the incarnation that says it."""
        self._free = job.concurrency
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._permit = (0, 0)
        """The (incarnation, seq) of the last claim: the name by which the store wakes this worker."""
        self._unanswered = False
        self._idle = False
        """Whether the store has said that there is nothing, and will wake this worker."""
        self._retired_as = 0
        """The incarnation that has told the store that it claims no more."""
        self._load = Load(membership.work.tasks)
        self._look_at = self._renew_at = self._try_at = self._tell_at = 0
        self._drained_by: int | None = None
        self._listener: asyncio.Task[None] | None = None
        self._listening: tuple[tuple[int, int], int] = ((0, 0), 0)

    # --- from outside ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Claim nothing more, and end when what runs has ended; a second time: give it back now. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        now = self._store.now()
        self._drained_by = now + self._job.drain_timeout if self._drained_by is None else now
        self._changed.set()

    async def run(self) -> None:
        """Work until it is drained. Raises `InstanceFenced` where the instance was removed and cannot join anew."""
        if _at_work.get(self._membership) == os.getpid():
            raise RuntimeError(f"instance {self._membership.instance_id} is at work already, in this process")
        _at_work[self._membership] = os.getpid()
        self._membership.switch.keepers.add(self)
        try:
            try:
                while not self._is_done():
                    await self._turn()
            finally:
                await self._stop()
        finally:
            self._membership.switch.keepers.discard(self)
            del _at_work[self._membership]

    def _is_done(self) -> bool:
        if self._drained_by is not None and not self._attempts and self._store.now() >= self._drained_by:
            return True
        if self._attempts or self._ends:
            return False
        return self._drained_by is not None or (self._job.until_idle and self._idle)

    # --- one turn ----------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        self._changed.clear()
        self._drop_those_of_old()
        self._look_at_the_time()
        if self._store.now() >= self._try_at:
            try:
                await self._report()
                await (self._fill() if self._drained_by is None else self._retire())
                await self._renew()
            except StoreUnavailable as error:
                self._membership.standing.note_trouble(error)
                self._try_at = self._store.now() + int(RETRY_AFTER * (1 + random.random()))
        self._tell()
        if not self._is_done():
            await self._rest()

    def _drop_those_of_old(self) -> None:
        """Drop what an earlier incarnation of this instance has claimed. Raises `RuntimeError` after `close`."""
        present = self._membership.incarnation
        if not present:
            raise RuntimeError("this runtime is closed")
        for attempt in list(self._attempts.values()):
            if attempt.permit[0] != present:
                self._drop(attempt)
        self._ends = [(incarnation, end) for incarnation, end in self._ends if incarnation == present]
        if self._permit[0] != present:
            self._unanswered = False
            self._be_idle(False)

    def _look_at_the_time(self) -> None:
        now = self._store.now()
        if now >= self._look_at:
            self._be_idle(False)
        for attempt in list(self._attempts.values()):
            if now >= attempt.deadline:
                attempt.expire()
            elif self._drained_by is not None and now >= self._drained_by:
                attempt.release()
            self._note_end(attempt)

    async def _retire(self) -> None:
        """Be woken for no task any more: others are, instead. What a claim had taken whose answer was lost is given
        back."""
        self._be_idle(False)
        if self._retired_as == self._membership.incarnation or self._permit[0] != self._membership.incarnation:
            return
        retirement = self._retirement()
        if isinstance(await self._run(retirement), Claimed):
            self._retired_as, self._unanswered = retirement.incarnation, False

    def _retirement(self) -> Claim:
        """The last claim, for no task: as the one before where its answer was lost."""
        if not self._unanswered:
            self._next_permit()
        self._unanswered = True
        return Claim(*self._permit, most=0)

    async def _report(self) -> None:
        """Tell how attempts ended."""
        while self._ends:
            told = self._portion()
            finished = await self._run(Finish(told[0][0], tuple(end for _, end in told)))
            if isinstance(finished, Finished):
                del self._ends[: len(told)]
                self._load.reported(finished)
                if self._job.until_idle:  # one that failed may be ready again
                    self._be_idle(False)

    def _portion(self) -> list[tuple[int, TaskEnd]]:
        size = 0
        told: list[tuple[int, TaskEnd]] = []
        for incarnation, end in self._ends[:MOST_ENDED]:
            size += len(end.result)
            if told and size > MOST_TOGETHER:
                break
            told.append((incarnation, end))
        return told

    async def _fill(self) -> None:
        """Claim tasks for the free slots, until there are none of either."""
        while self._free > 0 and not self._idle:
            claimed = await self._claim()
            if not isinstance(claimed, Claimed):
                continue
            if claimed.tasks:
                self._pace.found()
            else:
                self._be_idle(True)
                due = self._pace.nothing(claimed.at.mono)
                self._look_at = due if claimed.check_at is None else min(due, claimed.check_at)

    def _be_idle(self, idle: bool) -> None:
        """Who is idle looks after its neighbours, so that the tasks of one that dies come back at once."""
        self._idle = idle
        if idle:
            self._membership.begin_waiting(self._permit)
        else:
            self._membership.waiters.discard(self._permit)

    async def _claim(self) -> Claimed | None:
        if not self._unanswered:
            self._next_permit()
        self._unanswered = True
        most, tags = min(self._free, MOST_CLAIMED), (*self._kinds.tags(), *self._job.tags)
        steals = self._membership.settings.work_stealing if self._job.steal is None else self._job.steal
        claimed = await self._run(Claim(*self._permit, most, steals, self._pace.min_gain, tags))
        self._unanswered = False
        if not isinstance(claimed, Claimed):
            return None
        if claimed.victim:
            note_stolen(self._membership, claimed.victim, len(claimed.tasks))
        for task in claimed.tasks:
            self._begin(Attempt(self._membership, self._permit, task, claimed.at))
        return claimed

    def _next_permit(self) -> None:
        self._store.forget(self._permit)
        self._permit = (self._membership.incarnation, next(self._membership.seqs))

    def _begin(self, attempt: Attempt) -> None:
        if not self._attempts:
            self._renew_at = self._store.now() + RENEW_EVERY
        self._attempts[attempt.claimed.epoch] = attempt
        self._load.changed = True
        if attempt.claimed.cancel:
            attempt.refuse()
            self._note_end(attempt)
            return
        self._free -= 1
        attempt.start(self._kinds.by_name.get(attempt.claimed.spec.kind), self._executor, self._returned)

    def _returned(self, attempt: Attempt) -> None:
        """An attempt's function has returned: its slot is free."""
        self._free += 1
        self._note_end(attempt)
        if attempt.permit != self._permit:
            with suppress(StoreUnavailable):
                self._store.forget(attempt.permit)
        self._changed.set()

    def _note_end(self, attempt: Attempt) -> None:
        if not attempt.is_over or attempt.claimed.epoch not in self._attempts:
            return
        del self._attempts[attempt.claimed.epoch]
        self._load.returned(attempt, self._store.now())
        if attempt.end is not None:
            self._ends.append((attempt.permit[0], attempt.end))

    def _drop(self, attempt: Attempt) -> None:
        attempt.drop()
        self._note_end(attempt)

    async def _renew(self) -> None:
        """Report progress, and hear what is asked of the running tasks."""
        now = self._store.now()
        if not self._attempts or now < self._renew_at:
            return
        self._renew_at = now + RENEW_EVERY
        by_name = {attempt.claimed.spec.task: attempt for attempt in self._attempts.values()}
        held = tuple(attempt.held() for attempt in by_name.values())
        renewed = await self._run(Renew(self._membership.incarnation, held))
        if isinstance(renewed, Renewed):
            for told in held:
                by_name[told.task].running.told(told.progress)
            for task in renewed.cancelled:
                by_name[task].cancel()
            for task in renewed.lost:
                self._drop(by_name[task])

    def _tell(self) -> None:
        """Have the other instances told what this worker is at."""
        now = self._store.now()
        if self._load.changed and now >= self._tell_at:
            self._tell_at, self._load.changed = now + TELL_EVERY, False
            self._membership.work.note_tasks(self._load.shown(self._attempts.values()))

    async def _run(self, op: Operation[Any]) -> Any:
        """Have the store decide; a fenced instance loses what it ran, and joins anew."""
        result = await self._store.run(op)
        self._membership.standing.answered(result)
        if isinstance(result, Fenced):
            await asyncio.to_thread(self._membership.rejoin, self._permit[0])
            self._drop_those_of_old()
        return result

    # --- resting -----------------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait until something may have to be done."""
        now = self._store.now()
        if self._free > 0 and not self._idle and self._drained_by is None and self._try_at <= now:
            return
        cut_off = self._membership.fallback.outage is not None  # then no wake can come
        until = [now + (RETRY_AFTER if cut_off else LONGEST_REST)]
        if self._try_at > now:
            until.append(self._try_at)
        elif self._attempts:
            until.append(self._renew_at)
        if self._idle:
            until.append(self._look_at)
        if self._load.changed:
            until.append(self._tell_at)
        if self._drained_by is not None and self._drained_by > now:
            until.append(self._drained_by)
        until += [attempt.deadline for attempt in self._attempts.values()]
        self._listen(min(until))
        await self._changed.wait()

    def _listen(self, until: int) -> None:
        """Have a wake of the store, or the time, end the rest."""
        permit, known = self._listening
        if self._listener is None or self._listener.done() or permit != self._permit or until < known:
            if self._listener is not None:
                self._listener.cancel()
            self._listening = (self._permit, until)
            self._listener = self._loop.create_task(self._hear(self._permit, until))

    async def _hear(self, permit: tuple[int, int], until: int) -> None:
        wake: Wake | None = None
        try:
            wake = await self._store.wait(permit, max(0, until - self._store.now()) / SECOND)
        except StoreUnavailable:
            await asyncio.sleep(RETRY_AFTER / SECOND)
        if wake is not None:
            self._renew_at = 0
        if wake is not None and permit == self._permit:
            self._look_at = min(self._look_at, wake.at)
        self._changed.set()

    # --- the end -----------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Give back what still runs; what the store cannot be told now, the heartbeat thread tells it later."""
        if self._listener is not None:
            self._listener.cancel()
        try:
            stopped = self._release_all()
            with suppress(CrossInstanceError):
                await self._retire()
            await asyncio.gather(*(attempt.returned() for attempt in stopped))
            with suppress(CrossInstanceError):
                await self._report()
        finally:
            if self._unanswered and self._permit[0] == self._membership.incarnation:
                self._membership.later(self._retirement())
            self._membership.work.note_tasks(self._load.at_rest())
            while self._ends:
                told = self._portion()
                self._membership.later(Finish(told[0][0], tuple(end for _, end in told)))
                del self._ends[: len(told)]
            with suppress(StoreUnavailable):
                self._store.forget(self._permit)

    def _release_all(self) -> list[Attempt]:
        stopped = list(self._attempts.values())
        for attempt in stopped:
            attempt.release()
            self._note_end(attempt)
        return stopped
