"""Our learner beside the peers: the rules' own code, the rules' own bucket with its guard, the pause of the rules.

What a store operation does at a grant and at a settlement is done here in the same order; nothing else is simulated.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from bench.learning.simulation import NEVER
from cross_instance.rules.learning import Learner, Stamp, granted, new_learner, pause, rejected, row_of, succeeded
from cross_instance.rules.learning_risk import Risk, counted, proactive_cut
from cross_instance.rules.limits import carry_over, charge, hold_of, new_limit, refill, set_guard, take
from cross_instance.rules.operations import MINUTE, Instant, Kind, LimitSpec, Source
from cross_instance.rules.records import Node

COSTS = (1, 0, 0, 0)
DRAWS = 1 << 32


class Step(NamedTuple):
    """A change of the paced rate, for the picture: when (µs), rate and estimate in requests per minute."""

    at: int
    rate: float
    estimate: float


class Ours:
    """One shared record, and the node that it paces."""

    def __init__(self, start: float = 60.0, seed: int = 1, *, predicts: bool = False) -> None:
        self.random = random.Random(seed)
        self.node = Node()
        self.record = new_learner(int(start * 1_000), 0)
        self.risk = Risk()
        self.predicts = predicts
        self.epoch = 0
        self.steps: list[Step] = []
        self._retune(0)

    def _retune(self, now: int) -> None:
        at, rate = Instant(now, now), self.record.requests.rate
        if self.predicts:
            rate -= rate * proactive_cut(self.risk, now) // 1_000_000
        spec = LimitSpec(Kind.REQUESTS, max(1, rate // 100), max(1, rate // 60_000), 10 * MINUTE, Source.LEARNED)
        limit = new_limit(spec, at)
        if self.node.limits:
            carry_over(limit, self.node.limits[0], at)
        else:
            limit.level = limit.den
        set_guard(limit, self.node.spread)
        self.node.limits = [limit]
        if self.record.slots.cap:
            self.node.limits.append(new_limit(LimitSpec(Kind.CONCURRENCY, self.record.slots.cap), at))
        self.steps.append(Step(now, rate / 1_000, self.record.requests.estimate / 1_000))

    def _keep(self, record: Learner, now: int) -> None:
        old, self.record = self.record, record
        if (old.requests.rate, old.slots.cap) != (record.requests.rate, record.slots.cap):
            self._retune(now)

    def ready_at(self, now: int) -> int:
        at = Instant(now, now)
        refill(self.node.limits[0], at)
        hold = hold_of(self.node, COSTS, at)
        return NEVER if hold.slots is not None else max(now + hold.delay, self.node.paused_until)

    def granted(self, now: int) -> tuple[int, Stamp]:
        stamp = Stamp(self.node.limits[0].charges, now, self.node.held)
        charge(self.node, COSTS)
        if self.predicts:
            self.risk = counted(self.risk, now, 1, 0)
        self._keep(granted(self.record, now, stamp), now)
        return self.epoch, stamp

    def succeeded(self, now: int, stamp: tuple[int, Stamp]) -> None:
        self.node.held -= 1
        self._keep(succeeded(self.record, stamp[1]), now)

    def rejected(self, now: int, stamp: tuple[int, Stamp], retry_after: int | None) -> None:
        node, (epoch, given) = self.node, stamp
        node.held -= 1
        told, moved = retry_after is not None, epoch == self.epoch
        if moved and retry_after is None:
            retry_after = pause(row_of(self.record, given), self.random.randrange(DRAWS), DRAWS)
        if retry_after is not None:
            node.paused_until = max(node.paused_until, now + retry_after)
        if moved:
            self.epoch += 1
            self._drain(now)
        if self.predicts:
            self.risk = counted(self.risk, now, 0, 1)
        self._keep(rejected(self.record, now, given, node.paused_until, moved=moved, told=told), now)

    def _drain(self, now: int) -> None:
        """As the rules drain a bucket after an overload: one request may go first."""
        limit = self.node.limits[0]
        refill(limit, Instant(now, now))
        take(limit, max(0, -(-(limit.level - limit.den) // limit.den)))
        limit.at = max(limit.at, self.node.paused_until)
