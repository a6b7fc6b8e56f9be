"""Degraded mode: what becomes of permits while the store is out of reach (law 11).

1. Cut off, an instance takes permits from its last fair share (`outage`), until its last heartbeat is as old as the
   heartbeat timeout: then the others count it as gone, and it gets no more. Who never had a share gets none.
2. While the store answers, nothing is decided here. That it answers again is found out by the heartbeat thread:
   callers do not wait for that.
3. What the share is follows from a look at the store: after an account was used for the first time, then with the
   heartbeat. All instances together give such looks a hundredth of the store's time.
4. What was granted meanwhile is charged in the store afterwards, as far as its buckets have anything: a provider's
   bucket, which they mirror, never holds less than nothing. Calls still under way take slots there.
5. Ends of permits that the store granted are told to it later.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cross_instance import events
from cross_instance.errors import InstanceFenced, PermitError, StoreUnavailable
from cross_instance.outage import Outage, Sight
from cross_instance.protocol import Rejoin, Wait, drive, negotiate
from cross_instance.rules.operations import (
    FOREVER,
    SECOND,
    Acquire,
    Beaten,
    Cancel,
    Configured,
    Granted,
    Instant,
    Joined,
    Outcome,
    Priority,
    Result,
    Settle,
    Settled,
    Snapshot,
    World,
)

if TYPE_CHECKING:
    from cross_instance.membership import Membership
    from cross_instance.protocol import Step
    from cross_instance.rules.operations import Operation
    from cross_instance.stores.base import Permit

PERMITS = frozenset({Acquire, Settle, Cancel})
"""The operations that can be decided without the store."""
LOOKS = 100
"""Looks at the store are this many times longer apart than what all instances need for one."""


NO_PERMITS = "there are no permits until it answers"


class Loan:
    """A permit that was granted from the share: what was asked, and how it ended (None: its call is under way)."""

    __slots__ = ("ending", "question")

    def __init__(self, question: Acquire) -> None:
        self.question = question
        self.ending: Settle | None = None


class Fallback:
    """What one instance needs to go on without its store."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self.reset()

    def reset(self) -> None:
        """Know nothing: the instance has left, or is a forked child."""
        self.outage: Outage | None = None
        self.loans: dict[Permit, Loan] = {}
        """What is still to be charged in the store."""
        self.world: World | None = None
        """The store at the last look."""
        self.is_look_due = False
        self._held: dict[int, Acquire] = {}
        self._paused: dict[str, int] = {}
        self._contact = Instant(0, 0)
        self._silent_at = 0
        self._next_look = 0.0
        self._lock = threading.RLock()

    @property
    def is_busy(self) -> bool:
        """Whether the heartbeat thread has something to do here soon."""
        return self.outage is not None or bool(self.loans) or (self.is_look_due and self._may_look())

    def _may_look(self) -> bool:
        return self._membership.accounts.published() != () and time.monotonic() >= self._next_look

    # --- what the store answers --------------------------------------------------------------------------------

    def answered(self, op: Operation[Any], result: Result) -> None:
        """The store decided an operation: it is within reach."""
        self._contact = result.at
        kind = type(op)
        if kind is Acquire:
            if type(result) is Granted:
                self._held[op.seq] = op  # type: ignore[attr-defined, assignment]  # an Acquire
        elif kind is Settle:
            question = self._held.pop(op.seq, None)  # type: ignore[attr-defined]
            if result.paused_until and question is not None:  # type: ignore[attr-defined]  # a Settled
                self._paused[question.account] = result.paused_until  # type: ignore[attr-defined]
        elif kind is Cancel:
            self._held.pop(op.seq, None)  # type: ignore[attr-defined]
        else:
            self._note(result)
        if self.outage is not None:
            self._end()

    def _note(self, result: Result) -> None:
        if isinstance(result, Joined | Beaten):
            timeout = round(self._membership.settings.heartbeat_timeout * SECOND)
            self._silent_at = min(result.at.mono + timeout, FOREVER)
            if isinstance(result, Joined):
                self._held.clear()
        elif isinstance(result, World):
            self.world, self.is_look_due = result, False
        elif isinstance(result, Configured):
            self.is_look_due = True
            self._membership.nudge()

    # --- what is decided without it ----------------------------------------------------------------------------

    def begin(self, error: StoreUnavailable) -> bool:
        """The store cannot be reached: go on with the share. False where this instance has not joined, or left."""
        membership = self._membership
        with self._lock:
            if not membership.incarnation:
                return False
            if self.outage is None:
                self.outage = Outage(error, membership.store.now, self._sight())
                self._tell_begin(self.outage)
                membership.nudge()
            return True

    def _sight(self) -> Sight:
        under_way = (loan.question for loan in self.loans.values() if loan.ending is None)
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
            name = (op.incarnation, op.seq)
            loan = self.loans.get(name)
            if loan is None and self.outage is None:
                return None
            if loan is None:
                self._held.pop(op.seq, None)
                self._membership.later(op)
            elif isinstance(op, Settle) and op.outcome is not Outcome.IGNORED:
                loan.ending = op
            else:
                del self.loans[name]
            return Settled(at=_now(self._membership), known=True) if self.outage is None else self.outage.end(op)

    def _acquire(self, outage: Outage, question: Acquire) -> Any:
        if outage.is_over():
            self.note_stop()
        answer = outage.acquire(question)
        if type(answer) is Granted:
            outage.granted += 1
            self.loans[question.incarnation, question.seq] = Loan(question)
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
        """Say once that the share has run out, when it has."""
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

    # --- afterwards --------------------------------------------------------------------------------------------

    def _end(self) -> None:
        with self._lock:
            outage, self.outage = self.outage, None
            if outage is None:
                return
            outage.wake(self._membership.waiters)
            self._membership.events.tell(
                events.STORE_RECOVERED,
                f"the store {self._membership.address} can be used again after {outage.seconds():.1f} s; "
                f"{outage.granted} permits came from this instance's share meanwhile",
                seconds=outage.seconds(),
                permits=outage.granted,
            )
        self._membership.nudge()

    def repay(self) -> None:
        """Charge in the store what was granted without it; for the heartbeat thread.

        Raises `InstanceFenced` where this instance was removed and cannot join anew: then there is nobody to charge.
        """
        try:
            for name in list(self.loans):
                if self.outage is not None:
                    return
                self._repay(name)
                self.is_look_due = True
        except InstanceFenced:
            self.loans.clear()
            raise

    def _repay(self, name: Permit) -> None:
        membership, loan = self._membership, self.loans.get(name)
        if loan is None:
            return
        membership.insist(Cancel(*name))  # the store may have been asked before it was lost
        debt = Debt(membership, loan.question)
        with suppress(PermitError):
            drive(negotiate(debt, None, membership.store.now), debt.perform)
        with self._lock:
            known = self.loans.pop(name, None)
        charged = (debt.incarnation, debt.seq)
        if debt.question is None:
            return
        if known is None:
            self._tell(Cancel(*charged))
        elif known.ending is not None or charged != name:
            usage = None if known.ending is None else known.ending.usage
            self._tell(Settle(*charged, Outcome.ERROR, usage))

    def _tell(self, op: Cancel | Settle) -> None:
        try:
            self._membership.insist(op)
        except StoreUnavailable:
            self._membership.later(op)
            raise

    def refresh(self) -> None:
        """Look at the store to know the share, unless that was done lately; for the heartbeat thread."""
        if self.outage is not None or not self._may_look():
            return
        begun = time.monotonic()
        world = self._membership.run(Snapshot())
        ended = time.monotonic()
        self._next_look = ended + LOOKS * (ended - begun) * len(world.instances)


class Debt:
    """A request that has been sent already, asked for again (a `protocol.Request`): it is charged now or never.

    It keeps its name unless its instance has joined anew since.
    """

    timeout = 0
    task: str | None = None
    task_epoch = 0

    def __init__(self, membership: Membership, question: Acquire) -> None:
        self.membership = membership
        self.question: Acquire | None = question
        self.provider, _, self.account = question.account.partition("/")
        self.model = question.model
        self.incarnation, self.seq = question.incarnation, question.seq
        self._costs = question.costs
        if self.incarnation != membership.incarnation:
            self.rename()

    def rename(self) -> None:
        """Be of the present incarnation."""
        self.incarnation, self.seq = self.membership.incarnation, next(self.membership.seqs)

    def operation(self) -> Acquire:
        """The question for the present limits of the account."""
        route = self.membership.accounts.resolve(self.provider, self.model, self.account)
        self.question = Acquire(
            self.incarnation, self.seq, *route, self.model, Priority.CRITICAL, self._costs, timeout=0
        )
        return self.question

    def perform(self, step: Step) -> object:
        """Take a step of the protocol; none of them waits."""
        if isinstance(step, Rejoin):
            self.membership.rejoin(step.incarnation)
            return None
        assert not isinstance(step, Wait)
        return self.membership.insist(step)


def _now(membership: Membership) -> Instant:
    return Instant(membership.store.now(), time.time_ns() // 1000)
