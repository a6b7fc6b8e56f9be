"""What is known of one permit: the request, its state, and how it went. `permits` adds the waiting and the telling.

1. `sent` and `settle` only record; the end makes one operation of what was recorded, once. The delay from grant to
   send counts from the instant at which the store charged: also the way back and the wake-up are part of it.
2. Nothing is told of a permit that the store does not know, or no longer: of another life of its instance.
3. A permit that is forgotten warns, and has the heartbeat thread give it back.
"""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from random import getrandbits
from typing import TYPE_CHECKING

from cross_instance.errors import StoreUnavailable
from cross_instance.providers.requests import OPERATIONS, OTHER
from cross_instance.providers.signals import outcome_of, read_signals
from cross_instance.providers.tokens import charged
from cross_instance.rules.checks import is_storable
from cross_instance.rules.operations import FOREVER, NO_SIGNALS, SECOND, Acquire, Cancel, Granted, Outcome, Settle
from cross_instance.watching.notes import Begun, Ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cross_instance.membership.membership import Membership
    from cross_instance.providers.tokens import Usage
    from cross_instance.rules.operations import Costs, Priority, Result, Signals
    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.stores.base import AsyncStore, Store

NEW, WAITING, HELD, CLOSED = "new", "waiting", "held", "closed"
_PAUSING = (Outcome.REJECTED, Outcome.OVERLOADED)


class PermitRecord:
    """What both kinds of permit have in common.

    `timeout` in µs; `account` is its name. `waited`: seconds between asking and the grant, by the store's clock.
    """

    __slots__ = (
        "_first_token",
        "_granted_ns",
        "_late",
        "_operation",
        "_outcome",
        "_sent_ns",
        "_signals",
        "_tokens",
        "_usage",
        "account",
        "costs",
        "incarnation",
        "membership",
        "model",
        "priority",
        "provider",
        "question",
        "runtime",
        "seq",
        "state",
        "task",
        "task_epoch",
        "timeout",
        "waited",
    )

    def __init__(
        self,
        runtime: Runtime | AsyncRuntime,
        membership: Membership,
        provider: str,
        model: str,
        account: str,
        priority: Priority,
        costs: Costs,
        timeout: int,
        task: str | None,
        task_epoch: int,
    ) -> None:
        self.runtime = runtime
        self.membership = membership
        self.provider = provider
        self.model = model
        self.account = account
        self.priority = priority
        self.costs = costs
        self.timeout = timeout
        self.task = task
        self.task_epoch = task_epoch
        self.incarnation = self.seq = 0
        self.question: Acquire | None = None
        self.state = NEW
        self.waited = 0.0
        self._granted_ns = self._sent_ns = self._late = 0
        self._outcome: Outcome | None = None
        self._usage: Costs | None = None
        self._signals = NO_SIGNALS
        self._first_token: int | None = None
        self._operation = OTHER
        self._tokens: Usage | None = None

    def sent(self) -> None:
        """The request goes out now: durations count from here."""
        if not self._sent_ns:
            self._sent_ns = time.monotonic_ns()

    def settle(
        self,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        usage: Usage | None = None,
        outcome: Outcome | str | None = None,
        signals: Signals | None = None,
        first_token: float | None = None,
        operation: str | None = None,
    ) -> None:
        """Record how the request went; the end of the permit tells the store. Later calls add to earlier ones.

        `status`, `headers` and the first bytes of an error's `body` are read for what the provider says about
        its limits, unless `signals` holds that already; `outcome` overrides what they mean: "ignored" says that the
        request was never sent and costs nothing. `usage`: the tokens really used. `first_token`: seconds from
        sending to the first token. `operation`: what was asked for, for metrics: "chat", "text_completion",
        "embeddings", "generate_content" or, if nothing is said, "other". Raises `ValueError` for an outcome or
        operation that does not exist and a time that cannot be, `RuntimeError` after the permit was closed. Token
        counts that cannot be (negative, beyond 2^30) are taken as unknown.
        """
        if self.state is CLOSED:
            raise RuntimeError("the permit is closed: settle it before")
        if status is not None:
            if signals is None:
                signals = read_signals(self.provider, status, headers or {}, body, time.time_ns() // 1000)
            self._outcome = outcome_of(status, signals)
        if signals is not None:
            self._signals = signals
        if outcome is not None:
            self._outcome = Outcome(outcome)
        if usage is not None:
            used = charged(self.provider, usage, self.model)
            self._usage, self._tokens = (used, usage) if is_storable(used) else (None, None)
        if first_token is not None:
            if not 0 <= first_token <= FOREVER / SECOND:
                raise ValueError(f"first_token is a number of seconds, not {first_token}")
            self._first_token = round(first_token * SECOND)
        if operation is not None:
            self._operation = _known(operation)

    # --- what the protocol asks for (`Request`) --------------------------------------------------------------

    def rename(self) -> None:
        """Take a new name, of the present incarnation. Raises `RuntimeError` where the instance has left."""
        self.incarnation = self.membership.incarnation
        if not self.incarnation:
            raise RuntimeError("this runtime is closed")
        self.seq = next(self.membership.seqs)

    def operation(self) -> Acquire:
        """The question to the store, for the present limits of the account."""
        accounts = self.membership.accounts
        asked = self.provider, self.model, self.account
        account, group, revision = accounts.routes.get(asked) or accounts.resolve(*asked)
        self.question = Acquire(
            self.incarnation,
            self.seq,
            account,
            group,
            revision,
            self.model,
            self.priority,
            self.costs,
            self.timeout,
            self.task,
            self.task_epoch,
        )
        return self.question

    # --- what the two kinds share ----------------------------------------------------------------------------

    def _open(self) -> None:
        if self.state is not NEW:
            raise RuntimeError(f"this permit is {self.state} already; take a new one for each request")
        self.state = WAITING

    def _begin(self) -> Acquire:
        self.rename()
        return self.operation()

    def _hold(self, granted: Granted | None) -> None:
        if granted is None:
            self._hold_uncoordinated()
            return
        self._granted_ns = time.monotonic_ns()
        self._late = max(0, self.membership.store.now() - granted.at.mono) + granted.age
        self.waited = granted.waited / SECOND
        self.state = HELD
        question = self.question
        assert question is not None
        self.membership.activity.began(Begun(question.account, self.provider, self.model))
        self._heard(granted)

    def _hold_uncoordinated(self) -> None:
        """Coordination is switched off: held without the store's knowledge, so nothing is told to it either."""
        self.incarnation = 0
        self._granted_ns = time.monotonic_ns()
        self.state = HELD

    def _is_let_through(self, error: BaseException) -> bool:
        """Whether a request failed that needs no permit any more: coordination was switched off meanwhile."""
        membership = self.membership
        is_lost = isinstance(error, StoreUnavailable) or not membership.incarnation
        return isinstance(error, Exception) and is_lost and membership.switch.is_off and not self.runtime._closed

    def _end(self, error: BaseException | None) -> Settle | None:
        """Close; what the store is to be told. None where it knows nothing of this permit, or no longer."""
        held, self.state = self.state is HELD, CLOSED
        if not held or not self.incarnation:
            return None
        now = time.monotonic_ns()
        sent = self._sent_ns or self._granted_ns
        outcome = self._outcome or self._unsettled(error)
        if self.incarnation >= self.membership.activity.since:
            self._note_end(outcome, now, (now - sent) // 1000)
        if not self._is_known():
            return None
        return Settle(
            self.incarnation,
            self.seq,
            outcome,
            self._usage,
            self._signals,
            self._late + (sent - self._granted_ns) // 1000,
            (now - sent) // 1000,
            self._first_token,
            getrandbits(32) if outcome in _PAUSING else 0,
        )

    def _note_end(self, outcome: Outcome, now: int, duration: int) -> None:
        question = self.question
        assert question is not None
        account, group, granted_at = question.account, question.group, self._granted_ns
        self.membership.activity.ended(
            Ended(
                account,
                group,
                self.provider,
                self.model,
                outcome,
                self._signals,
                granted_at,
                now,
                duration,
                self._first_token,
                self._operation,
                self._tokens,
            )
        )

    def _unsettled(self, error: BaseException | None) -> Outcome:
        """What a body that did not settle says by the way it ended; its request may have gone out in any case."""
        if error is None:
            return Outcome.SUCCESS
        return Outcome.TIMEOUT if isinstance(error, TimeoutError) else Outcome.ERROR

    def _withdrawal(self, error: BaseException) -> Cancel | None:
        """Close without a grant; what the store is to be told now."""
        self.state = CLOSED
        if self.question is None or not self._is_known():
            return None
        if isinstance(error, StoreUnavailable):
            self.membership.standing.note_trouble(error)
        cancel = Cancel(self.incarnation, self.seq)
        if isinstance(error, GeneratorExit):  # a coroutine that was thrown away cannot await any more
            self.membership.later(cancel)
            return None
        return cancel

    def _is_known(self) -> bool:
        """Whether the store may know this permit: it belongs to the present life of the instance."""
        return self.incarnation != 0 and self.incarnation == self.membership.incarnation

    def _forget_wakes(self, store: Store | AsyncStore) -> None:
        with suppress(StoreUnavailable):  # closed meanwhile: it has forgotten everything
            store.forget((self.incarnation, self.seq))

    def _heard(self, result: Result) -> None:
        if result.notices:
            self.membership.standing.report(result)

    def _untold(self, op: Cancel | Settle, error: BaseException) -> None:
        """The store did not answer, or the call was interrupted: have the operation sent again."""
        if isinstance(error, Exception) and not isinstance(error, StoreUnavailable):
            raise error
        self.membership.later(op)
        if not isinstance(error, StoreUnavailable):
            raise error
        self.membership.standing.note_trouble(error)

    def __del__(self) -> None:
        if getattr(self, "state", CLOSED) is not HELD:
            return
        forgotten = f"a permit for {self.provider}/{self.model} was never closed"
        settle = self._end(None)
        if settle is not None:
            self.membership.later(settle)
            warnings.warn(forgotten, ResourceWarning, source=self, stacklevel=1)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self.provider}/{self.model}: {self.state}>"


def _known(operation: str) -> str:
    if operation not in OPERATIONS:
        raise ValueError(f"operation is one of {', '.join(OPERATIONS)}, not {operation!r}")
    return operation
