"""Queues told to the others: what an instance has to do, what it offers, and who has room.

1. An instance's workload is told with its heartbeats. The queue in it counts for two heartbeat intervals.
2. Tasks of the durable queue count too: those that wait as the store has them now, those that run as their worker told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from cross_instance.asking import urgency_of
from cross_instance.coordinator.models import BroadcastQueueState, StealableQueueEntry, WorkStealingSummary
from cross_instance.coordinator.registry import Registry
from cross_instance.coordinator.views import View, in_us, queue_state_of
from cross_instance.rules.operations import SECOND, Entry
from cross_instance.spelling import wall_of

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
        """The other instances' queues that were told within two heartbeat intervals, and those of whoever has tasks of
        the durable queue waiting, or works on them, as they are now."""
        view = self._view()
        return [] if view is None else self._remote(view)

    def _remote(self, view: View) -> list[BroadcastQueueState]:
        runtime = self.runtime
        interval = 0 if runtime is None else runtime.settings.heartbeat_interval
        since = view.world.at.mono - round(2 * interval * SECOND)
        states = (queue_state_of(one, view, since) for one in view.others)
        return [state for state in states if state is not None]

    def check_remote_capacity(self) -> bool:
        """Whether another instance is idle; also true where there is no other."""
        states = self.get_remote_queue_states()
        return not states or any(state.is_idle for state in states)

    def get_work_stealing_summary(self) -> WorkStealingSummary:
        """The other instances' queues together; stealable are the entries they offer, and durable tasks."""
        view = self._view()
        if view is None:
            return WorkStealingSummary(0, 0, 0, 0, 0)
        states = self._remote(view)
        others = {one.instance_id for one in view.others}
        durable = sum(queue.stealable_tasks for name, queue in view.queues.items() if name in others)
        idle = sum(state.is_idle for state in states)
        return WorkStealingSummary(
            remote_instances=len(states),
            total_pending_tasks=sum(state.pending_task_count for state in states),
            stealable_tasks=durable + sum(len(state.stealable_entries) for state in states),
            idle_instances=idle,
            busy_instances=len(states) - idle,
        )

    def is_idle(self) -> bool:
        """Whether this instance has no pending task and no active model, and runs no task of the durable queue."""
        member = self._member()
        if member is None:
            return True
        own = member.work.whole
        if own.pending or own.active_models or member.work.tasks.orchestrations:
            return False
        view = self._view()
        return view is None or view.me is None or not view.me.workload.pending


def _entry(shown: StealableQueueEntry) -> Entry:
    return Entry(
        id=shown.id,
        tool=shown.tool_name,
        priority=urgency_of(shown.priority),
        enqueued_at=wall_of(shown.enqueued_at),
        duration=in_us(shown.estimated_duration_ms),
        rounds=shown.estimated_rounds,
    )
