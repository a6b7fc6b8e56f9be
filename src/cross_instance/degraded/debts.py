"""Debts: what an instance got without its store, and tells it afterwards; with the heartbeat thread, and on leaving.

1. A permit from the share is charged in the store as far as its buckets have anything: a provider's bucket, which they
   mirror, never holds less than nothing. A call still under way takes a slot there.
2. How a call ended decides what it is charged. Nothing is learned from that: limits that were told meanwhile were said
   long ago, and a pause is told by itself.
3. A pause that was heard of meanwhile lasts for everyone as long as it was said to: the store is told what is left of
   it, once for each account, after the charges. Where all slots are taken, that is tried again.
4. Each request is asked for at once or not at all, and is told to the store by its own name unless its instance has
   joined anew since.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cross_instance.errors import InstanceFenced, PermitError, StoreUnavailable
from cross_instance.protocol import Rejoin, Wait, drive, negotiate
from cross_instance.rules.operations import (
    SECOND,
    Acquire,
    Cancel,
    Costs,
    Kind,
    Outcome,
    Priority,
    Settle,
    Signals,
)

if TYPE_CHECKING:
    from cross_instance.membership.membership import Membership
    from cross_instance.protocol import Step
    from cross_instance.stores.base import Permit

PAUSING = frozenset({Outcome.REJECTED, Outcome.OVERLOADED})
"""How a call ends that pauses its account."""
UNTOLD = Signals(exhausted="told afterwards")
"""What a charge says of its limits: nothing is to be learned from it."""
NOTHING = Costs(requests=0)


class Loan:
    """A permit that was granted from the share: what was asked, and how it ended (None: its call is under way)."""

    __slots__ = ("ending", "question")

    def __init__(self, question: Acquire) -> None:
        self.question = question
        self.ending: Settle | None = None


class Pause(NamedTuple):
    """A pause that the store has not heard of: `until` when (its mono µs), and the call that met it."""

    until: int
    question: Acquire
    outcome: Outcome
    kind: Kind | None


class Debts:
    """What one instance owes its store."""

    def __init__(self, membership: Membership) -> None:
        self.loans: dict[Permit, Loan] = {}
        """What is still to be charged."""
        self.pauses: dict[str, Pause] = {}
        """What is still to be told, by account."""
        self.uncharged: dict[Permit, Acquire] = {}
        """Calls under way that could not be charged: the store does not know them."""
        self._membership = membership
        self._turn = threading.Lock()

    @property
    def are_due(self) -> bool:
        """Whether there is something to charge or to tell."""
        return bool(self.loans or self.pauses)

    def hear(self, question: Acquire, ending: Settle, until: int) -> None:
        """Keep a pause; of several at an account the longest holds."""
        known = self.pauses.get(question.account)
        if known is None or known.until < until:
            self.pauses[question.account] = Pause(until, question, ending.outcome, ending.signals.kind)

    def repay(self) -> None:
        """Charge and tell everything.

        Raises `StoreUnavailable`; what is left stays. `InstanceFenced` where this instance was removed and cannot join
        anew: then there is nobody to charge.
        """
        with self._turn:
            try:
                for name in list(self.loans):
                    self._charge(name)
                for account in list(self.pauses):
                    self._pause(account)
            except InstanceFenced:
                self.loans.clear()
                self.pauses.clear()
                raise

    def try_again(self, question: Acquire) -> None:
        """Ask for what could not be asked, and give it back. Raises `StoreUnavailable` where it still cannot be."""
        debt = self._ask(self._for_nothing(question))[0]
        if debt.question is not None:
            self._tell(Cancel(debt.incarnation, debt.seq))

    def _charge(self, name: Permit) -> None:
        loan = self.loans.get(name)
        if loan is None:
            return
        self._membership.insist(Cancel(*name))  # the store may have been asked before it was lost
        self._membership.store.forget(name)
        debt, _ = self._ask(loan.question)
        known = self.loans.pop(name, None)
        charged = (debt.incarnation, debt.seq)
        if debt.question is None:
            if known is not None and known.ending is None:
                self.uncharged[name] = loan.question
        elif known is None:
            self._tell(Cancel(*charged))
        elif known.ending is not None:
            self._tell(msgspec.structs.replace(known.ending, incarnation=charged[0], seq=charged[1], signals=UNTOLD))
        elif charged != name:
            self._tell(Settle(*charged, Outcome.ERROR))

    def _pause(self, account: str) -> None:
        pause = self.pauses[account]
        debt, refused = self._ask(self._for_nothing(pause.question))
        left = pause.until - self._membership.store.now()
        if refused is not None and refused.retry_after * SECOND < left:
            return  # all slots are taken, or a shorter pause is on
        if self.pauses[account] is pause:
            del self.pauses[account]
        if refused is None:
            self._tell(Settle(debt.incarnation, debt.seq, pause.outcome, signals=Signals(pause.kind, max(0, left))))

    def _for_nothing(self, question: Acquire) -> Acquire:
        """A request like another that takes nothing from a bucket."""
        seq = next(self._membership.seqs)
        return msgspec.structs.replace(question, incarnation=self._membership.incarnation, seq=seq, costs=NOTHING)

    def _ask(self, question: Acquire) -> tuple[Debt, PermitError | None]:
        """Ask the store; with the refusal, where there is one."""
        debt = Debt(self._membership, question)
        try:
            drive(negotiate(debt, None, self._membership.store.now), debt.perform)
        except PermitError as error:
            return debt, error
        return debt, None

    def _tell(self, op: Cancel | Settle) -> None:
        try:
            self._membership.insist(op)
        except StoreUnavailable:
            self._membership.later(op)
            raise


class Debt:
    """A request that is had now or never (a `protocol.Request`); `question` is None where it was refused."""

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
