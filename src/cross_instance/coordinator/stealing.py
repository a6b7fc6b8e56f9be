"""Stealing: an idle instance takes an entry that another offers.

1. An entry moves to the thief in one operation of the store, or the answer is None: nobody else gets it, and its former
   owner learns that it is gone.
2. A steal that was cancelled, or whose answer was lost, has not taken anything away: the next one gets what it took.
3. Tasks of the durable queue are stolen by `work()`; this is for work that an application keeps itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cross_instance.coordinator.models import InstanceInfo, StealableQueueEntry, StealingStats
from cross_instance.coordinator.queue_states import QueueStates
from cross_instance.coordinator.views import backlog, info_of, shown_entry
from cross_instance.membership.workload import note_stolen
from cross_instance.rules.operations import Steal

if TYPE_CHECKING:
    from cross_instance.membership.membership import Membership

WORTH_STEALING = 2
"""Who has more pending tasks than this is worth stealing from."""
LATENCIES = 100
"""How many of the last steals the mean latency is of."""


class Tally:
    """The steals of one process since the last reset."""

    def __init__(self) -> None:
        self.attempts = 0
        self.successes = 0
        self.last_at: int | None = None
        self.latencies: deque[float] = deque(maxlen=LATENCIES)

    def note(self, success: bool, seconds: float) -> None:
        """A steal was tried."""
        self.attempts += 1
        if success:
            self.successes += 1
            self.last_at = time.time_ns() // 1_000_000
            self.latencies.append(seconds * 1_000)

    def stats(self) -> StealingStats:
        """The figures."""
        return StealingStats(
            total_attempts=self.attempts,
            successful_steals=self.successes,
            failed_attempts=self.attempts - self.successes,
            success_rate=self.successes / self.attempts if self.attempts else 0.0,
            avg_latency_ms=sum(self.latencies) / len(self.latencies) if self.latencies else 0.0,
            last_steal_at=self.last_at,
        )


class Stealing(QueueStates):
    """The functions on stealing."""

    def __init__(self, instance_id: str | None = None, **options: Any) -> None:
        super().__init__(instance_id, **options)
        self._tally = Tally()
        self._stealing = threading.Lock()
        self._fetched: deque[StealableQueueEntry] = deque()
        self._question: int | None = None

    def should_attempt_work_stealing(self) -> bool:
        """Whether this instance is idle, and another has more than 2 tasks pending."""
        view = self._view() if self._may_steal() and self.is_idle() else None
        return view is not None and any(one.workload.pending > WORTH_STEALING for one in view.others)

    def get_work_stealing_candidates(self, top_n: int = 3) -> list[str]:
        """The ids of other instances with pending tasks, most first."""
        view = self._view()
        found = [] if view is None else [one for one in view.others if one.workload.pending]
        return [one.instance_id for one in sorted(found, key=lambda one: -one.workload.pending)[: max(0, top_n)]]

    def find_steal_candidate(self) -> InstanceInfo | None:
        """Another instance with more than 2 tasks pending: the one whose tasks are expected to take the longest."""
        view = self._view()
        found = [] if view is None else [one for one in view.others if one.workload.pending > WORTH_STEALING]
        return info_of(max(found, key=backlog)) if found else None

    def steal_work(self) -> StealableQueueEntry | None:
        """Take an entry that another instance offers, the oldest of the highest class; `instance_id` says whose it was.

        None where there is nothing to take, or stealing is switched off (`PI_ENABLE_WORK_STEALING=false`).
        """
        while self._fetch():
            with suppress(IndexError):  # another thread was faster
                return self._fetched.popleft()
        return None

    async def safe_steal_work(self) -> StealableQueueEntry | None:
        """The same, without blocking the event loop. Cancelled, it leaves what it took to the next steal."""
        while await asyncio.to_thread(self._fetch):
            with suppress(IndexError):
                return self._fetched.popleft()
        return None

    def get_stealing_stats(self) -> StealingStats:
        """This process's steals since the last reset."""
        with self._stealing:
            return self._tally.stats()

    def reset_stealing_stats(self) -> None:
        """Begin to count anew."""
        with self._stealing:
            self._tally = Tally()

    def _may_steal(self) -> bool:
        runtime = self.runtime
        return runtime is not None and runtime.settings.work_stealing

    def _fetch(self) -> bool:
        """Have an entry at hand for whoever is first to take it; False where there is none."""
        member = self._member()
        if member is None or not self._may_steal():
            return False
        with self._stealing:
            if not self._fetched:
                begun, taken = time.monotonic(), None
                try:
                    taken = self._steal(member)
                finally:
                    self._tally.note(taken is not None, time.monotonic() - begun)
                if taken is not None:
                    self._fetched.append(taken)
            return bool(self._fetched)

    def _steal(self, member: Membership) -> StealableQueueEntry | None:
        if self._question is None:
            self._question = next(member.seqs)
        question = self._question
        answer = member.ask(lambda incarnation: Steal(incarnation, question))
        self._question = None
        if answer.entry is not None:
            note_stolen(member, answer.victim, 1)
        return None if answer.entry is None else shown_entry(answer.entry, answer.victim)
