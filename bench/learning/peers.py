"""What others do, re-made from their published sources so that they run under virtual time.

All begin with 60 requests per minute or their own initial concurrency, and are told nothing. A Retry-After pauses the
rate-based ones as a whole, which is kinder than their originals. In flight are at most `workers` calls.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.learning.simulation import NEVER
from cross_instance.rules import learning_simple as simple
from cross_instance.rules.values import MINUTE, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START = 60.0


class Paced:
    """Requests at a rate (per minute), evenly spaced. What a rate-based controller is made of."""

    def __init__(self, workers: int) -> None:
        self.rate = START
        self.workers = workers
        self.in_flight = 0
        self._next = 0
        self._paused = 0

    def ready_at(self, now: int) -> int:
        return NEVER if self.in_flight >= self.workers else max(now, self._next, self._paused)

    def granted(self, now: int) -> Any:
        self.in_flight += 1
        self._next = max(now, self._next) + int(MINUTE / max(self.rate, 0.1))
        return now

    def succeeded(self, now: int, stamp: Any) -> None:  # noqa: ARG002
        self.in_flight -= 1
        self.raised(now)

    def rejected(self, now: int, stamp: Any, retry_after: int | None) -> None:  # noqa: ARG002
        self.in_flight -= 1
        self._paused = max(self._paused, now + (retry_after or 0))
        self.cut(now)

    def raised(self, now: int) -> None:
        """A request succeeded."""

    def cut(self, now: int) -> None:
        """A request met 429."""


class Told(Paced):
    """Who is told of each change at once and paces evenly just below the limit: what no learner that paces can beat.

    `limits`: from which second on the limit is how much. Without a Retry-After it tries again each second.
    """

    SHARE = 0.99

    def __init__(self, limits: Sequence[tuple[int, float]]) -> None:
        super().__init__(1 << 30)
        self._limits = limits

    def ready_at(self, now: int) -> int:
        self.rate = self.SHARE * next(limit for second, limit in reversed(self._limits) if now >= second * SECOND)
        return super().ready_at(now)

    def granted(self, now: int) -> Any:
        self._next = max(self._next, now - SECOND)
        return super().granted(now)

    def cut(self, now: int) -> None:
        if self._paused <= now:
            self._paused = now + SECOND


class PerResponse(Paced):
    """The guide's factors, a step for each response."""

    def raised(self, now: int) -> None:  # noqa: ARG002
        self.rate *= 1.05

    def cut(self, now: int) -> None:  # noqa: ARG002
        self.rate = max(1.0, self.rate * 0.9)


class PerSecond(Paced):
    """Mode `simple` of the rules: the guide's factors, a step a second at most."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._record = simple.Simple(int(START * 1_000))
        self._cut = -SECOND

    def raised(self, now: int) -> None:
        self._record = simple.accepted(self._record, now)
        self.rate = self._record.rate / 1_000

    def cut(self, now: int) -> None:
        if now - self._cut >= SECOND:
            self._record, self._cut = simple.rejected(self._record, now), now
            self.rate = self._record.rate / 1_000


class Botocore(Paced):
    """botocore's `adaptive` retry mode: a cubic rate, at most twice what was measured (retries/adaptive.py)."""

    SCALE, BETA, SMOOTH, BUCKET = 0.4, 0.7, 0.8, SECOND // 2

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.rate = 60_000.0
        self._measured = 0.0
        self._bucket = 0
        self._count = 0
        self._w_max = 0.0
        self._k = 0.0
        self._failed_at = 0
        self._enabled = False

    def _measure(self, now: int) -> None:
        self._count += 1
        if now // self.BUCKET > self._bucket:
            current = self._count / ((now // self.BUCKET - self._bucket) * 0.5)
            self._measured = current * self.SMOOTH + self._measured * (1 - self.SMOOTH)
            self._count, self._bucket = 0, now // self.BUCKET

    def raised(self, now: int) -> None:
        self._measure(now)
        if self._enabled:
            cubic = self.SCALE * ((now - self._failed_at) / SECOND - self._k) ** 3 + self._w_max
            self.rate = 60 * max(0.5, min(cubic, 2 * self._measured))

    def cut(self, now: int) -> None:
        self._measure(now)
        base = min(self._measured, self.rate / 60) if self._enabled else self._measured
        self._w_max, self._failed_at, self._enabled = base, now, True
        self._k = (base * (1 - self.BETA) / self.SCALE) ** (1 / 3)
        self.rate = 60 * max(0.5, base * self.BETA)


class Gated:
    """At most `limit` calls at once. What Netflix' concurrency-limits are made of."""

    def __init__(self, workers: int, initial: float = 20.0) -> None:
        self.limit = initial
        self.workers = workers
        self.in_flight = 0

    def ready_at(self, now: int) -> int:
        return now if self.in_flight < min(int(self.limit), self.workers) else NEVER

    def granted(self, now: int) -> Any:
        self.in_flight += 1
        return now, self.in_flight

    def succeeded(self, now: int, stamp: Any) -> None:
        self.in_flight -= 1
        self.sampled((now - stamp[0]) / SECOND, stamp[1], dropped=False)

    def rejected(self, now: int, stamp: Any, retry_after: int | None) -> None:  # noqa: ARG002
        self.in_flight -= 1
        self.sampled((now - stamp[0]) / SECOND, stamp[1], dropped=True)

    def sampled(self, rtt: float, in_flight: int, *, dropped: bool) -> None:
        """A call has ended."""


class Aimd(Gated):
    """AIMDLimit: one more while at least half is used, a tenth less after a drop. Its timeout of 5 s is left out."""

    def sampled(self, rtt: float, in_flight: int, *, dropped: bool) -> None:  # noqa: ARG002
        if dropped:
            self.limit *= 0.9
        elif in_flight * 2 >= self.limit:
            self.limit += 1
        self.limit = min(max(self.limit, 1.0), float(self.workers))


class Vegas(Gated):
    """VegasLimit: a queue estimated from the shortest round trip; less by log10 when it is long, or after a drop."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._shortest = math.inf

    def sampled(self, rtt: float, in_flight: int, *, dropped: bool) -> None:
        step = max(1.0, math.log10(max(self.limit, 1.0)))
        if dropped:
            self.limit = max(1.0, self.limit - step)
            return
        self._shortest = min(self._shortest, rtt)
        if in_flight * 2 < self.limit:
            return
        queue = math.ceil(self.limit * (1 - self._shortest / rtt))
        if queue <= step:
            self.limit += 6 * step
        elif queue < 3 * step:
            self.limit += step
        elif queue > 6 * step:
            self.limit -= step
        self.limit = min(max(self.limit, 1.0), float(self.workers))


class Gradient2(Gated):
    """Gradient2Limit: follows the long against the present round trip; drops are not looked at."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._long = 0.0

    def sampled(self, rtt: float, in_flight: int, *, dropped: bool) -> None:  # noqa: ARG002
        self._long = rtt if not self._long else self._long + (rtt - self._long) * 2 / 601
        if self._long / rtt > 2:
            self._long *= 0.95
        if in_flight < self.limit / 2:
            return
        gradient = max(0.5, min(1.0, 1.5 * self._long / rtt))
        self.limit = self.limit * 0.8 + (self.limit * gradient + 4) * 0.2
        self.limit = min(max(self.limit, 20.0), float(self.workers))


PEERS: dict[str, Callable[[int], Any]] = {
    "guide, a step per response": PerResponse,
    "guide, a step per second (mode simple)": PerSecond,
    "botocore adaptive": Botocore,
    "Netflix AIMD": Aimd,
    "Netflix Vegas": Vegas,
    "Netflix Gradient2": Gradient2,
}
