"""Heartbeat: one thread per membership that keeps it alive and does what must not wait for its callers.

1. It beats at the configured interval, and removes with each beat who fell silent while this machine was awake; what
   was learned of limits since the last one is made durable. Then it keeps the instance's lock file; trouble with that
   is no trouble with the store, and stops no beat. As often it looks whether the files of settings have changed
   (`reloading`).
2. While somebody in this process waits for a permit, or watches who comes and goes, it looks for dead processes of this
   machine four times a second, so that what they held comes back within one.
3. It takes over what a caller could not finish: the end of a permit that was forgotten, or whose call was cut.
   Handing over never blocks and is safe from a finaliser, in any thread. What a worker noted is told, too (`workload`).
   What is sent late says of a pause how much of it is left.
4. Nothing stops it but `stop`, which it calls itself where the instance leaves of itself (`switching`).
   Trouble with the store is told once, and once more when it is over.
5. While the store is out of reach it tries four times a second to beat; when that works, it settles what came from
   the instance's share meanwhile (`degraded`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cross_instance import events
from cross_instance.errors import CrossInstanceError, DuplicateInstance, InstanceFenced
from cross_instance.membership.clocks import ClockWatch
from cross_instance.membership.learned import LearnedFile
from cross_instance.membership.presence import file_name
from cross_instance.rules.operations import Cancel, Fenced, Heartbeat, Settle, Snapshot, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cross_instance.membership.lookout import Lookout, Trace
    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import Instant, Operation, Result, World

log = logging.getLogger("cross_instance")

LOOK_EVERY = 0.25
"""Seconds between looks for dead processes while somebody waits, between tries to send what is left over, and between
tries to reach a lost store."""

REPUBLISH_EVERY = 3600.0
"""Seconds between publications of the same accounts."""


def sweep(membership: Membership, dead: Iterable[int] = ()) -> None:
    """Remove the dead and the silent, step by step where they have very many waiters, and tell who is gone."""
    more, op = True, Sweep(tuple(sorted(dead)), membership.awake_for())
    while more:
        swept = membership.run(op)
        for instance_id in swept.removed:
            text = f"instance {instance_id} is gone without leaving; what it held is given back"
            membership.events.tell(events.INSTANCE_REMOVED, text, removed=instance_id)
        more = swept.more


class Late(NamedTuple):
    """An operation that could not be sent in time; see `Pulse.later`."""

    op: Operation[Any]
    until: int

    def at(self, now: int) -> Operation[Any]:
        """What is to be said at an instant."""
        if not self.until or not isinstance(self.op, Settle):
            return self.op
        signals = msgspec.structs.replace(self.op.signals, retry_after=max(0, self.until - now))
        return msgspec.structs.replace(self.op, signals=signals)


class Pulse:
    """Beats for one membership until it is stopped."""

    def __init__(self, membership: Membership, lookout: Lookout, interval: float) -> None:
        self._membership = membership
        self._lookout = lookout
        self._interval = interval
        self._inbox: SimpleQueue[Late | None] = SimpleQueue()
        self._unsent: deque[Late] = deque()
        self._clocks = ClockWatch()
        self._stopping = False
        self.working = threading.RLock()
        """Held while it does something; who looks at the store beside it takes turns, for one connection is enough."""
        self._unkept = False
        self._learned = LearnedFile(membership)
        self._incarnation = membership.incarnation
        self._dozing = False
        self._thread = threading.Thread(target=self._run, name="cross-instance-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._incarnation = self._membership.incarnation
        self._thread.start()
        self._membership.activity.start()

    def stop(self) -> None:
        """Send what was handed over, then end."""
        self._stopping = True
        self._inbox.put(None)
        with suppress(RuntimeError):  # the process was interrupted while the thread was started
            self._thread.join()
        self._membership.activity.stop()
        self._learned.part(self._incarnation)

    def later(self, op: Operation[Any], until: int = 0) -> None:
        """Take over an operation; it is sent at once, and again until the store has answered.

        `until`: when the pause ends that it tells of (the store's µs; 0: it tells of none, or just now).
        """
        self._inbox.put(Late(op, until))

    def watch(self) -> None:
        """Somebody waits from now on."""
        if self._dozing:
            self._dozing = False
            self._inbox.put(None)

    def _run(self) -> None:
        self._safely(self.look)
        beat_at = time.monotonic() + self._interval
        publish_at = time.monotonic() + REPUBLISH_EVERY
        look_at = math.inf
        while not self._stopping:
            if self._is_to_leave() and self._membership.leave_by_itself():
                break
            look_at = min(look_at, time.monotonic() + LOOK_EVERY) if self._is_busy() else math.inf
            self._receive(min(look_at, beat_at) - time.monotonic())
            if time.monotonic() >= look_at:
                self._safely(self.tick)
                look_at = math.inf
            if time.monotonic() >= beat_at:
                self._safely(self.beat)
                self._safely(self._membership.reloading.look)
                beat_at = time.monotonic() + self._interval
            if time.monotonic() >= publish_at:
                self._safely(self._membership.republish)
                publish_at = time.monotonic() + REPUBLISH_EVERY
            self._safely(self._membership.work.tell_noted)
            self._safely(self.flush)
        self._receive(0.0)
        self._safely(self.flush)

    def _is_to_leave(self) -> bool:
        """Whether nobody uses it any more, and everything that it held has ended and was told."""
        return self._membership.switch.is_to_leave() and not self._unsent and self._inbox.empty()

    def _is_busy(self) -> bool:
        """Whether it must look around often; if not, `watch` wakes it. The flag is set first: none is missed."""
        self._dozing = True
        membership = self._membership
        busy = bool(membership.waiters or self._unsent or membership.fallback.is_busy or membership.work.is_untold)
        busy = busy or membership.activity.is_watched or membership.switch.is_off
        self._dozing = not busy
        return busy

    def _receive(self, patience: float) -> None:
        """Wait for something to do, and collect what was handed over."""
        try:
            late = self._inbox.get(timeout=max(0.0, patience))
            while True:
                if late is not None:
                    self._unsent.append(late)
                late = self._inbox.get_nowait()
        except Empty:
            return

    def _safely(self, duty: Callable[[], None]) -> None:
        try:
            with self.working:
                duty()
        except (DuplicateInstance, InstanceFenced) as error:
            self._membership.standing.note_taken_over(str(error))
        except (CrossInstanceError, OSError) as error:
            self._membership.standing.note_trouble(error)
        except Exception:
            log.exception("the heartbeat of %s met an unexpected error", self._membership.instance_id)

    def beat(self) -> None:
        """Say that the instance lives, and remove who fell silent or died."""
        try:
            self._beat()
        finally:
            self._membership.keep_presence()
        self.look()
        self._membership.fallback.refresh()
        self._safely(self._keep_learned)

    def _keep_learned(self) -> None:
        self._learned.look()
        if self._unkept:
            self._learned.keep(self._incarnation)
            self._unkept = False

    def _beat(self) -> None:
        membership = self._membership
        incarnation = membership.incarnation
        beaten = membership.run(Heartbeat(incarnation))
        if isinstance(beaten, Fenced):
            membership.rejoin(incarnation)
        else:
            self._unkept, self._incarnation = beaten.unkept, incarnation
        self._look_at_clocks(beaten.at)
        sweep(self._membership)

    def tick(self) -> None:
        """What is done often while somebody waits, or the store is out of reach or was."""
        fallback = self._membership.fallback
        if fallback.outage is not None:
            fallback.note_stop()
            self._beat()
            self._receive(0.0)
            self._send(self._membership.insist)
            fallback.recover()
        else:
            self.look()
        fallback.repay()
        if fallback.is_look_due:
            fallback.refresh()

    def _look_at_clocks(self, at: Instant) -> None:
        jump, tell = self._clocks.look(at), self._membership.events.tell
        if jump.wall:
            tell(events.CLOCK_JUMPED, f"the wall clock was set by {jump.wall:+.0f} s", seconds=jump.wall)
        if jump.slept:
            self._tell_slept(jump.slept)
        if jump.store:
            tell(events.CLOCK_BACKWARDS, f"the store's clock ran back by {jump.store:.3f} s", seconds=jump.store)

    def _tell_slept(self, seconds: float) -> None:
        text = f"this machine slept for {seconds:.0f} s; for the heartbeat timeout it takes nobody's silence for death"
        self._membership.events.tell(events.MACHINE_SLEPT, text, seconds=seconds)

    def awake_for(self) -> int:
        """For how long this machine has been awake, in µs."""
        return self._clocks.awake_for()

    def look(self) -> None:
        """Find the dead of this machine, and have the store give back what they held.

        Where the folder is not the one any more in which it is seen to live, the store may be that of the one before,
        and know nothing of who died there: that is left until it is seen there, too.
        """
        try:
            traces = self._lookout.look()
        except OSError as error:
            self._membership.standing.note_unseen(error)
            return
        if not traces or not self._membership.is_seen:
            return
        world = self._membership.run(Snapshot(counts=False))
        dead = self._known_dead(traces, world)
        if dead:
            sweep(self._membership, dead.values())
        for trace in traces:
            self._lookout.done(trace, known=trace.name in dead)

    def _known_dead(self, traces: list[Trace], world: World) -> dict[str, int]:
        names = {trace.name for trace in traces if self._lookout.confirms(trace)}
        return {
            name: instance.incarnation
            for instance in world.instances
            if instance.machine == self._membership.machine and (name := file_name(instance.instance_id)) in names
        }

    def flush(self) -> None:
        """Send what was handed over, in order; what a store out of reach does not take stays for the next time."""
        if self._membership.fallback.outage is None:
            self._send(self._membership.run)

    def _send(self, run: Callable[[Operation[Any]], Result]) -> None:
        store = self._membership.store
        while self._unsent:
            op = self._unsent[0].at(store.now())
            try:
                run(op)
            except CrossInstanceError:
                if op.durable:  # trouble with the durable file holds up no permit
                    self._unsent.rotate(-1)
                raise
            except Exception:
                self._unsent.popleft()
                raise
            self._unsent.popleft()
            if isinstance(op, Cancel):
                store.forget((op.incarnation, op.seq))
