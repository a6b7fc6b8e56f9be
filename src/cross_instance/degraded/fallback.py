"""Degraded mode: what becomes of permits while the store is out of reach (law 11).

1. Cut off, an instance takes permits from its last fair share (`outage`), until its last heartbeat is as old as the
   heartbeat timeout: then the others count it as gone, and it gets no more. Who never had a share gets none.
2. While the store answers, nothing is decided here. That it answers again is found out by the heartbeat thread, which
   tries what failed: a store that takes heartbeats and no requests is still out of reach. Callers do not wait for that.
3. What the share is follows from a look at the store: after an account was used for the first time, then with the
   heartbeat. All instances together give such looks a hundredth of the store's time.
4. What was granted meanwhile is charged in the store before the outage is over, and pauses are told (`debts`).
5. Ends of permits that the store granted, or may have granted, are told to it later.
6. Trouble with what must be durable is no outage: permits need no durable file.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from cross_instance import events
from cross_instance.degraded.debts import PAUSING, Debts, Loan
from cross_instance.degraded.outage import Outage, Sight
from cross_instance.rules.operations import (
    FOREVER,
    SECOND,
    Acquire,
    Beaten,
    Cancel,
    Claim,
    Configured,
    Fenced,
    GetTask,
    Granted,
    Instant,
    Joined,
    ListTasks,
    Outcome,
    Refused,
    Result,
    Settle,
    Settled,
    Snapshot,
    Sweep,
    TaskSnapshot,
    Waiting,
    World,
)

if TYPE_CHECKING:
    from cross_instance.errors import StoreUnavailable
    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import Operation

PERMITS = frozenset({Acquire, Settle, Cancel})
"""The operations that can be decided without the store."""
OF_TASKS = frozenset({Claim, GetTask, ListTasks, TaskSnapshot, Sweep})
"""Operations that use the durable file too: trouble with it is none of the permits'."""
LOOKS = 100
"""Looks at the store are this many times longer apart than what all instances need for one."""

NO_PERMITS = "there are no permits until it answers"


class Fallback:
    """What one instance needs to go on without its store."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Know nothing: the instance has left."""
        self.outage: Outage | None = None
        self.debts = Debts(self._membership)
        self.loans = self.debts.loans
        self.world: World | None = None
        """The store at the last look."""
        self.is_look_due = False
        self._held: dict[int, Acquire] = {}
        self._asked: set[int] = set()
        self._paused: dict[str, int] = {}
        self._contact = Instant(0, 0)
        self._silent_at = 0
        self._next_look = 0.0

    def become_child(self) -> None:
        """Know nothing in a forked child, where a thread that does not exist may have held the lock."""
        self._lock = threading.RLock()
        self.reset()

    @property
    def is_busy(self) -> bool:
        """Whether the heartbeat thread has something to do here soon."""
        return self.outage is not None or self.debts.are_due or (self.is_look_due and self._may_look())

    @property
    def holds_some(self) -> bool:
        """Whether permits are held, or something is owed for those that were."""
        return bool(self._held or self.loans or self.debts.are_due)

    def _may_look(self) -> bool:
        return self._membership.accounts.published() != () and time.monotonic() >= self._next_look

    # --- what the store answers --------------------------------------------------------------------------------

    def answered(self, op: Operation[Any], result: Result) -> None:
        """The store decided an operation: it is within reach."""
        self._contact = result.at
        kind = type(op)
        if kind is Acquire:
            self._note_asked(op.seq, op, result)  # type: ignore[attr-defined, arg-type]  # an Acquire
        elif kind is Settle:
            self._note_settled(op, result)  # type: ignore[arg-type]  # each operation is paired with its result
        elif kind is Cancel:
            self._held.pop(op.seq, None)  # type: ignore[attr-defined]
            self._asked.discard(op.seq)  # type: ignore[attr-defined]
        else:
            self._note(result)

    def interrupted(self, op: Operation[Any]) -> None:
        """Nobody waits for an answer any more: the store may have decided the operation."""
        if isinstance(op, Acquire):
            self._asked.add(op.seq)

    def _note_asked(self, seq: int, question: Acquire, answer: Result) -> None:
        kind = type(answer)
        if kind is Granted:
            self._held[seq] = question
        if kind is Waiting:
            self._asked.add(seq)
        elif self._asked:
            self._asked.discard(seq)

    def _note_settled(self, op: Settle, settled: Settled) -> None:
        question = self._held.pop(op.seq, None)
        if settled.paused_until and question is not None:
            self._paused[question.account] = settled.paused_until
        if not settled.known and self.debts.uncharged:
            question = self.debts.uncharged.pop((op.incarnation, op.seq), None)
            if question is not None:
                self._hear(question, op, _said_until(op, settled.at.mono))
                self._membership.nudge()

    def _note(self, result: Result) -> None:
        if isinstance(result, Joined | Beaten):
            timeout = round(self._membership.settings.heartbeat_timeout * SECOND)
            self._silent_at = min(result.at.mono + timeout, FOREVER)
            if isinstance(result, Joined):
                self._held.clear()
                self._asked.clear()
                self.debts.uncharged.clear()
        elif isinstance(result, World):
            self.world, self.is_look_due = result, False
        elif isinstance(result, Configured):
            self.is_look_due = True
            self._membership.nudge()
        if isinstance(result, Joined | Fenced):  # the share was another incarnation's
            self._end()

    # --- what is decided without it ----------------------------------------------------------------------------

    def begin(self, error: StoreUnavailable, op: Operation[Any] | None = None) -> bool:
        """The store cannot be reached, with `op`: go on with the share.

        False where this instance has not joined, or left, and where others than permits may be at fault.
        """
        membership = self._membership
        with self._lock:
            if not membership.incarnation or (op is not None and (op.durable or type(op) in OF_TASKS)):
                return False
            if self.outage is None:
                self.outage = Outage(error, membership.store.now, self._sight())
                self._tell_begin(self.outage)
                membership.nudge()
            if op is not None:
                self.outage.failed[type(op)] = op
                self.interrupted(op)
            return True

    def _sight(self) -> Sight:
        under_way = [loan.question for loan in list(self.loans.values()) if loan.ending is None]
        return Sight(
            incarnation=self._membership.incarnation,
            contact=self._contact.mono,
            silent_at=self._silent_at,
            world=self.world,
            published=self._membership.accounts.specs,
            held=(*self._held.values(), *under_way),
            paused=self._paused,
        )

    def decide(self, op: Operation[Any]) -> Any:
        """Decide an operation on a permit, or None where that is the store's business.

        Raises `StoreUnavailable` where it is not, and the share does not allow it.
        """
        with self._lock:
            if isinstance(op, Acquire):
                return None if self.outage is None else self._acquire(self.outage, op)
            assert isinstance(op, Settle | Cancel)
            return self._close(op)

    def _close(self, op: Settle | Cancel) -> Any:
        name, outage = (op.incarnation, op.seq), self.outage
        loan = self.loans.get(name)
        if loan is None:
            if outage is None:
                return None
            self._hand_over(op)
            return outage.end(op)
        at = _now(self._membership)
        answer = Settled(at=at, known=True) if outage is None else outage.end(op)
        if isinstance(op, Cancel) or op.outcome is Outcome.IGNORED:
            del self.loans[name]
        else:
            loan.ending = op
            until = _said_until(op, at.mono) if outage is None else answer.paused_until  # type: ignore[union-attr]
            self._hear(loan.question, op, until)
        return answer

    def _hand_over(self, op: Settle | Cancel) -> None:
        """Have the store told later, unless it cannot know the permit."""
        known = self._held.pop(op.seq, None) is not None or op.seq in self._asked
        if isinstance(op, Settle):
            said = op.signals.retry_after
            self._membership.later(op, 0 if said is None else self._membership.store.now() + said)
        elif known:
            self._membership.later(op)

    def _hear(self, question: Acquire, op: Settle, until: int) -> None:
        """A call has ended that the store does not know: it is to be told of the pause, where that is news."""
        if op.outcome not in PAUSING or op.signals.exhausted is not None:
            return
        account, nodes = question.account, () if self.world is None else self.world.nodes
        seen = max((node.paused_until for node in nodes if node.node == account), default=0)
        if until > max(seen, self._paused.get(account, 0), self._membership.store.now()):
            self._paused[account] = until
            self.debts.hear(question, op, until)

    def _acquire(self, outage: Outage, question: Acquire) -> Any:
        if outage.is_over():
            self.note_stop()
        answer = outage.acquire(question)
        if type(answer) is Granted:
            outage.granted += 1
            self.loans[question.incarnation, question.seq] = Loan(question)
        elif type(answer) is Refused and question.seq in self._asked:  # nobody will ask the store again
            self._asked.discard(question.seq)
            self._membership.later(Cancel(question.incarnation, question.seq))
        return answer

    def _tell_begin(self, outage: Outage) -> None:
        shares = {account: share.fraction for account, share in outage.shares.items()}
        left = outage.seconds_left()
        outage.is_told_stopped = not left
        what = f"permits come from this instance's last fair share for {left:.0f} s at most" if left else NO_PERMITS
        self._membership.events.tell(
            events.STORE_DEGRADED if left else events.STORE_STOPPED,
            f"the store {self._membership.address} cannot be used: {outage.error}; {what}",
            logging.ERROR,
            shares=shares,
            seconds=left,
        )

    def note_stop(self) -> None:
        """Say once that the share has run out, when it has, to waiters too."""
        outage = self.outage
        if outage is not None and outage.is_over() and not outage.is_told_stopped:
            outage.is_told_stopped = True
            self._membership.events.tell(
                events.STORE_STOPPED,
                f"the store {self._membership.address} is out of reach for {outage.seconds():.0f} s: {NO_PERMITS}",
                logging.ERROR,
                shares={},
                seconds=0.0,
            )
            outage.wake(self._membership.waiters)

    # --- afterwards --------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """The store takes heartbeats again: charge, try what failed, and be as before; for the heartbeat thread.

        Raises `StoreUnavailable` where something still fails, and what `Debts.repay` raises.
        """
        outage = self.outage
        if outage is None:
            return
        self.debts.repay()
        asked = outage.failed.get(Acquire)
        if isinstance(asked, Acquire):
            self.debts.try_again(asked)
        if Snapshot in outage.failed:
            self._membership.insist(Snapshot(counts=False))
        self._end()
        self.is_look_due = True

    def _end(self) -> None:
        with self._lock:
            outage, self.outage = self.outage, None
            if outage is None:
                return
            self._membership.events.tell(
                events.STORE_RECOVERED,
                f"the store {self._membership.address} can be used again after {outage.seconds():.1f} s; "
                f"{outage.granted} permits came from this instance's share meanwhile",
                seconds=outage.seconds(),
                permits=outage.granted,
            )
        outage.wake(self._membership.waiters)
        self._membership.nudge()

    def repay(self) -> None:
        """Tell the store what it does not know yet; for the heartbeat thread. Raises what `Debts.repay` raises."""
        if self.outage is None and self.debts.are_due:
            self.debts.repay()
            self.is_look_due = True

    def refresh(self) -> None:
        """Look at the store to know the share, unless that was done lately; for the heartbeat thread."""
        if self.outage is not None or not self._may_look():
            return
        begun = time.monotonic()
        world = self._membership.run(Snapshot(counts=False))
        ended = time.monotonic()
        self._next_look = ended + LOOKS * (ended - begun) * len(world.instances)


def _now(membership: Membership) -> Instant:
    return Instant(membership.store.now(), time.time_ns() // 1000)


def _said_until(op: Settle, now: int) -> int:
    """How long the end of a call pauses its account; at least a moment, where it was not said for how long."""
    said = op.signals.retry_after
    return now + (SECOND if said is None else said)
