"""Our side of the simulation: a store with its own operations, decided by the rules at the simulation's instants.

A grant is an `Acquire`, what becomes of it a `Settle`: nothing of the learner, its pause or its bucket is repeated.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from bench.learning.simulation import NEVER
from cross_instance.rules.learning_limits import allowed
from cross_instance.rules.learning_records import decode_learned
from cross_instance.rules.ledger import Ledger, group_node, learned_key
from cross_instance.rules.limits import hold_of
from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Configure,
    Granted,
    Join,
    Joined,
    Kind,
    Learning,
    LimitSpec,
    Outcome,
    Settle,
    Signals,
    Source,
)
from cross_instance.testing import ModelStore

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCOUNT = "openai/default"
COSTS = (1, 0, 0, 0)
DRAWS = 1 << 32


class Step(NamedTuple):
    """A change of the paced rate, for the picture: when (µs), rate and estimate in requests per minute."""

    at: int
    rate: float
    estimate: float


class Ours:
    """One store with one account, whose preset of `start` requests per minute is only a start.

    `models`: those that have such a preset of their own, instead of the account; each has a record of its own then.
    """

    def __init__(
        self, start: float = 60.0, seed: int = 1, *, predicts: bool = False, models: Sequence[str] = ()
    ) -> None:
        self.random = random.Random(seed)
        self.steps: list[Step] = []
        self._store = ModelStore()
        self._began = self._store.now()
        joined = self._store.run(Join("bench", "nonce", 1, "machine", "host"))
        assert isinstance(joined, Joined)
        self._incarnation, self._seq, self._seen = joined.incarnation, 0, b""
        preset = LimitSpec(Kind.REQUESTS, int(start), max(1, int(start / 60)), source=Source.PRESET)
        groups = tuple((model, (preset,)) for model in models)
        spec = AccountSpec(() if groups else (preset,), groups, learning=Learning(predicts=predicts))
        self._store.run(Configure(joined.incarnation, ACCOUNT, spec))
        self._note()

    def ready_at(self, now: int, model: str = "") -> int:
        """When the next request fits, by its limits and the pause."""
        self._move(now)
        ledger = Ledger(self._store.tables, self._store.clock())
        node = ledger.new_node(group_node(ACCOUNT, model) if model else ACCOUNT)
        hold = hold_of(node, COSTS, ledger.at)
        paused_until = ledger.new_node(ACCOUNT).paused_until
        return NEVER if hold.slots is not None else max(now + hold.delay, paused_until - self._began)

    def granted(self, now: int, model: str = "") -> int:
        """Take a permit; its number stands for it."""
        self._move(now)
        self._seq += 1
        answer = self._store.run(Acquire(self._incarnation, self._seq, ACCOUNT, model, revision=1, timeout=0))
        assert isinstance(answer, Granted), answer
        self._note()
        return self._seq

    def succeeded(self, now: int, stamp: int) -> None:
        """Settle it as a success."""
        self._move(now)
        self._store.run(Settle(self._incarnation, stamp))
        self._note()

    def rejected(self, now: int, stamp: int, retry_after: int | None) -> None:
        """Settle it as a 429."""
        self._move(now)
        signals, draw = Signals(retry_after=retry_after), self.random.randrange(DRAWS)
        self._store.run(Settle(self._incarnation, stamp, Outcome.REJECTED, signals=signals, draw=draw))
        self._note()

    def _move(self, now: int) -> None:
        self._store.clock.advance(now + self._began - self._store.now())

    def _note(self) -> None:
        """Keep the picture's line, where the record has changed."""
        value = self._store.tables.get(learned_key(ACCOUNT)) or b""
        if value != self._seen:
            self._seen = value
            learned = decode_learned(value)
            step = Step(
                self._store.now() - self._began, allowed(learned) / 1_000, learned.learner.requests.estimate / 1_000
            )
            if not self.steps or self.steps[-1][1:] != step[1:]:
                self.steps.append(step)


class OneModel:
    """One of the models of an account that have records of their own."""

    def __init__(self, account: Ours, model: str) -> None:
        self._account, self._model = account, model
        self.succeeded, self.rejected = account.succeeded, account.rejected

    def ready_at(self, now: int) -> int:
        """When this model's next request fits."""
        return self._account.ready_at(now, self._model)

    def granted(self, now: int) -> int:
        """Take a permit for this model."""
        return self._account.granted(now, self._model)
