"""Queues told to the others: what an instance has to do, what it offers, and who has room.

An instance's workload is told with its heartbeats. The queue in it counts for two heartbeat intervals.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from cross_instance.asking import urgency_of
from cross_instance.coordinator.models import BroadcastQueueState, StealableQueueEntry, WorkStealingSummary, wall_of
from cross_instance.coordinator.registry import Registry
from cross_instance.coordinator.views import in_us, queue_state_of
from cross_instance.rules.operations import SECOND, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.rules.operations import Workload


class QueueStates(Registry):
    """The functions on workloads and queues."""

    def update_workload_info(self, pending_task_count: int, avg_latency_ms: float | None = None) -> None:
        """Tell how much this instance has to do; a latency also says that a task was completed just now.

        Raises `ValueError` for figures that make no sense.
        """
        member = self._member()
        if member is None:
            return
        latency, now = in_us(avg_latency_ms), time.time_ns() // 1_000

        def changed(said: Workload) -> Workload:
            said = msgspec.structs.replace(said, pending=pending_task_count)
            return said if latency is None else msgspec.structs.replace(said, latency=latency, last_completed=now)

        member.work.say(changed)

    def broadcast_queue_state(
        self,
        pending_task_count: int,
        active_orchestrations: int,
        stealable_entries: Iterable[StealableQueueEntry] | None = None,
        avg_latency_ms: float | None = None,
    ) -> list[str]:
        """Tell this instance's queue; the ids of entries that others have taken since the last time.

        An entry that this instance is about to run itself is to be broadcast without first: it is its own unless its id
        is among those returned. At most 256 entries. Raises `ValueError` for what cannot be stored.
        """
        member = self._member()
        if member is None:
            return []
        entries = tuple(_entry(one) for one in stealable_entries or ())
        latency = in_us(avg_latency_ms)

        def changed(said: Workload) -> Workload:
            return msgspec.structs.replace(
                said,
                pending=pending_task_count,
                orchestrations=active_orchestrations,
                stealable=entries,
                latency=said.latency if latency is None else latency,
            )

        member.work.say(changed, broadcast=True)
        return list(member.work.lost())

    def get_remote_queue_states(self) -> list[BroadcastQueueState]:
        """The other instances' queues that were told within two heartbeat intervals."""
        runtime, view = self.runtime, self._view()
        if runtime is None or view is None:
            return []
        since = view.world.at.mono - 2 * runtime.settings.heartbeat_interval * SECOND
        told = (one for one in view.others if one.broadcast_at and one.broadcast_at >= since)
        return [queue_state_of(one, view.world) for one in told]

    def check_remote_capacity(self) -> bool:
        """Whether another instance is idle; also true where there is no other."""
        states = self.get_remote_queue_states()
        return not states or any(state.is_idle for state in states)

    def get_work_stealing_summary(self) -> WorkStealingSummary:
        """The other instances' queues together."""
        states = self.get_remote_queue_states()
        idle = sum(state.is_idle for state in states)
        return WorkStealingSummary(
            remote_instances=len(states),
            total_pending_tasks=sum(state.pending_task_count for state in states),
            stealable_tasks=sum(len(state.stealable_entries) for state in states),
            idle_instances=idle,
            busy_instances=len(states) - idle,
        )

    def is_idle(self) -> bool:
        """Whether this instance has no pending task and no active model."""
        member = self._member()
        return member is None or not (member.work.said.pending or member.work.said.active_models)


def _entry(shown: StealableQueueEntry) -> Entry:
    return Entry(
        id=shown.id,
        tool=shown.tool_name,
        priority=urgency_of(shown.priority),
        enqueued_at=wall_of(shown.enqueued_at),
        duration=in_us(shown.estimated_duration_ms),
        rounds=shown.estimated_rounds,
    )
