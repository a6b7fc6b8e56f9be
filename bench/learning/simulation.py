"""One run under virtual time: clients that want to send, controllers that let them, a provider that says yes or no.

Nothing here knows a controller's method: it is asked when it would let the next request go, and told what became of
each. A rejected request goes back to the queue. A rejection is heard `lag` after the request was sent, an accepted
one's end after its latency.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bench.learning.provider import SECOND, Provider

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEVER = 1 << 60
SIGMA = 0.5
"""The spread of the latencies' logarithm."""


class Controller(Protocol):
    """Something that decides when requests may go. All times in µs."""

    def ready_at(self, now: int) -> int:
        """When the next request may go, as far as is known now; `NEVER` where an answer must come first."""

    def granted(self, now: int) -> Any:
        """A request goes; what is returned comes back with its answer."""

    def succeeded(self, now: int, stamp: Any) -> None:
        """A request's answer is complete."""

    def rejected(self, now: int, stamp: Any, retry_after: int | None) -> None:
        """A request met 429."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is simulated. `changes`: from which second on the limit is how much. `demand`: requests a minute, None for
    more than can be served. `lag`, `latency`: seconds. `slots`, `resized`: how many calls at once, and its changes.
    `outages`: from when to when (µs) everything is rejected."""

    limit: float
    seconds: int = 1_800
    lag: float = 0.1
    latency: float = 8.0
    demand: float | None = None
    changes: tuple[tuple[int, float], ...] = ()
    outages: tuple[tuple[int, int], ...] = ()
    slots: int | None = None
    resized: tuple[tuple[int, int], ...] = ()
    seed: int = 1


@dataclass(slots=True)
class Log:
    """What happened, per second of the run."""

    accepted: list[int]
    rejected: list[int]


class Simulation:
    """One provider and its clients, each with a controller (which several may share)."""

    def __init__(self, scene: Scene, provider: Provider, controllers: Sequence[Controller]) -> None:
        self.scene = scene
        self.provider = provider
        self.controllers = controllers
        self.random = random.Random(scene.seed)
        self.log = Log([0] * scene.seconds, [0] * scene.seconds)
        self._heap: list[tuple[int, int, Callable[[int, Any], None], Any]] = []
        self._order = 0
        self._waiting = [0] * len(controllers)
        self._tries = [0] * len(controllers)
        self._mean = math.log(scene.latency) - SIGMA * SIGMA / 2

    def run(self) -> Log:
        end = self.scene.seconds * SECOND
        for second, limit in self.scene.changes:
            self._push(second * SECOND, self._change, limit)
        for second, slots in self.scene.resized:
            self._push(second * SECOND, self._resize, slots)
        for index in range(len(self.controllers)):
            if self.scene.demand is None:
                self._push(self.random.randrange(SECOND), self._try, (index, 0))
            else:
                self._push(0, self._arrive, index)
        while self._heap:
            now, _, act, what = heapq.heappop(self._heap)
            if now >= end:
                break
            act(now, what)
        return self.log

    def _push(self, at: int, act: Callable[[int, Any], None], what: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, act, what))

    def _change(self, _: int, limit: float) -> None:
        self.provider.change(limit)

    def _resize(self, _: int, slots: int) -> None:
        self.provider.slots = slots

    def _arrive(self, now: int, index: int) -> None:
        self._waiting[index] += 1
        mean = 60 * SECOND * len(self.controllers) / (self.scene.demand or 1)
        self._push(now + int(self.random.expovariate(1 / mean)), self._arrive, index)
        self._look_again(now, index)

    def _look_again(self, now: int, index: int) -> None:
        self._tries[index] += 1
        at = self.controllers[index].ready_at(now)
        if at < NEVER:
            self._push(max(at, now), self._try, (index, self._tries[index]))

    def _try(self, now: int, what: tuple[int, int]) -> None:
        index, number = what
        if number != self._tries[index] or not (self._waiting[index] or self.scene.demand is None):
            return
        controller = self.controllers[index]
        if controller.ready_at(now) <= now:
            if self.scene.demand is not None:
                self._waiting[index] -= 1
            self._send(now, index, controller.granted(now))
        self._look_again(now, index)

    def _send(self, now: int, index: int, stamp: Any) -> None:
        let_in, retry_after = self.provider.arrive(now)
        second = now // SECOND
        lag = int(self.scene.lag * SECOND)
        if let_in:
            self.log.accepted[second] += 1
            latency = lag + int(self.random.lognormvariate(self._mean, SIGMA) * SECOND)
            self._push(now + latency, self._succeed, (index, stamp))
        else:
            self.log.rejected[second] += 1
            self._push(now + lag, self._reject, (index, stamp, retry_after))

    def _succeed(self, now: int, what: tuple[int, Any]) -> None:
        index, stamp = what
        self.provider.finish()
        self.controllers[index].succeeded(now, stamp)
        self._look_again(now, index)

    def _reject(self, now: int, what: tuple[int, Any, int | None]) -> None:
        index, stamp, retry_after = what
        if self.scene.demand is not None:
            self._waiting[index] += 1
        self.controllers[index].rejected(now, stamp, retry_after)
        self._look_again(now, index)
