"""The other side of a simulation: an account that counts what it would have rejected.

1. It is written independently of the rules: theoretical arrival times (the generic cell rate algorithm of ITU-T
   I.371) where the rules keep levels, so that a mistake in one does not hide in the other.
2. It charges on arrival what a request really costs, and says no where a limit would be passed.
3. Integers only: times are kept in µs times the limit's amount.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cross_instance.rules.operations import Costs, Kind, LimitSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.rules.operations import Instant


class Meter:
    """One rate limit: `amount` units per `period` µs, `burst` at once; or `amount` in each window from `anchor`."""

    def __init__(self, spec: LimitSpec) -> None:
        self.spec = spec
        self._due = 0
        self._window = -1
        self._used = 0

    def admits(self, units: int, mono: int, wall: int) -> bool:
        """Whether `units` more are within the limit at this instant."""
        spec = self.spec
        if spec.anchor is not None:
            used = self._used if (wall - spec.anchor) // spec.period == self._window else 0
            return used + units <= spec.burst
        return max(self._due, mono * spec.amount) + units * spec.period <= mono * spec.amount + spec.burst * spec.period

    def charge(self, units: int, mono: int, wall: int) -> None:
        """Take `units` at this instant."""
        spec = self.spec
        self._due = max(self._due, mono * spec.amount) + units * spec.period
        if spec.anchor is not None:
            window = (wall - spec.anchor) // spec.period
            self._used = units if window != self._window else self._used + units
            self._window = window


class SimulatedAccount:
    """What a provider enforces for one account (or one model group of it).

    `rejected` counts the requests beyond each kind's limit, `most_running` the most calls at one moment. A rejected
    request is not charged. `names`: whether a rejection says which limit it met.
    """

    def __init__(self, limits: Iterable[LimitSpec], *, names: bool = True) -> None:
        self.names = names
        limits = tuple(limits)
        self.slots = min((spec.amount for spec in limits if spec.kind is Kind.CONCURRENCY), default=None)
        self.meters = [Meter(spec) for spec in limits if spec.kind is not Kind.CONCURRENCY]
        self.rejected: Counter[Kind] = Counter()
        self.accepted = 0
        self.running = 0
        self.most_running = 0

    def arrive(self, costs: Costs, mono: int, wall: int) -> Kind | None:
        """Take a request in, or name the limit that it passes."""
        for meter in self.meters:
            if not meter.admits(costs.of(meter.spec.kind), mono, wall):
                self.rejected[meter.spec.kind] += 1
                return meter.spec.kind
        if self.slots is not None and self.running >= self.slots:
            self.rejected[Kind.CONCURRENCY] += 1
            return Kind.CONCURRENCY
        for meter in self.meters:
            meter.charge(costs.of(meter.spec.kind), mono, wall)
        self.accepted += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        return None

    def finish(self) -> None:
        """A call has ended, or its connection is gone."""
        self.running -= 1


@dataclass(eq=False)
class Call:
    """A granted request: sent to every account that counts it, and ended once."""

    incarnation: int
    seq: int
    usage: Costs
    accounts: tuple[SimulatedAccount, ...]
    delay: int
    running: list[SimulatedAccount] = field(default_factory=list)

    def send(self, at: Instant) -> Kind | None:
        """Send it; the kind of limit that was passed, if any."""
        for account in self.accounts:
            kind = account.arrive(self.usage, at.mono, at.wall)
            if kind is not None:
                self.end()
                return kind
            self.running.append(account)
        return None

    def end(self) -> None:
        """The answer is complete, or the connection is gone."""
        while self.running:
            self.running.pop().finish()
