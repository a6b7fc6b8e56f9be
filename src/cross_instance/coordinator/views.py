"""What a look at the store means in the reference's terms; nothing here asks or changes anything."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cross_instance.coordinator.models import (
    ActiveModelInfo,
    BroadcastQueueState,
    InstanceInfo,
    StealableQueueEntry,
)
from cross_instance.membership.lookout import is_alive
from cross_instance.membership.presence import instances_folder
from cross_instance.rules.operations import CLUSTER, SECOND, Entry, Kind
from cross_instance.rules.stealing import UNKNOWN
from cross_instance.spelling import time_text, wall_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import InstanceState, QueueState, TaskWorld, World

MS = 1_000
"""µs in a millisecond."""


@dataclass(frozen=True)
class View:
    """The store as one instance sees it: who lives, in the order of joining; `me` is None where it is not there.

    The pending tasks of each are those that it told and those in its durable queue; `queues` are these, by instance id.
    """

    world: World
    living: tuple[InstanceState, ...]
    me: InstanceState | None
    queues: Mapping[str, QueueState]

    @property
    def others(self) -> tuple[InstanceState, ...]:
        """The living without this one."""
        return tuple(instance for instance in self.living if instance is not self.me)

    @property
    def contending(self) -> tuple[InstanceState, ...]:
        """The living that have an active model, a request under way or waiting, or pending tasks; this one counts."""
        return tuple(one for one in self.living if one is self.me or is_contending(one))

    def most_slots(self, told: int) -> int:
        """How many calls may run at once: what this instance was told, or what the cluster enforces if that is less."""
        limits = [limit for node in self.world.nodes if node.node == CLUSTER for limit in node.limits]
        return min([told, *(limit.amount for limit in limits if limit.kind is Kind.CONCURRENCY)])


def view_of(membership: Membership, world: World, tasks: TaskWorld) -> View:
    """What a look at the store shows to an instance."""
    queues = {queue.queue: queue for queue in tasks.queues if queue.queue}
    living = tuple(_with_queue(one, queues) for one in world.instances if lives(membership, one, world))
    me = next((one for one in living if one.incarnation == membership.incarnation), None)
    return View(world, living, me, queues)


def _with_queue(instance: InstanceState, queues: Mapping[str, QueueState]) -> InstanceState:
    queue = queues.get(instance.instance_id)
    if queue is None:
        return instance
    work = instance.workload
    return replace(instance, workload=replace(work, pending=work.pending + sum(queue.queued)))


def lives(membership: Membership, instance: InstanceState, world: World, timeout: float | None = None) -> bool:
    """Whether an instance of the registry is alive: by its lock on this machine, elsewhere by its last beat.

    `timeout`: seconds; None: the heartbeat timeout of the settings.
    """
    if instance.incarnation == membership.incarnation:
        return True
    if instance.machine == membership.machine:
        alive = is_alive(instances_folder(membership.settings.runtime_dir), instance.instance_id)
        if alive is not None:
            return alive
    patience = membership.settings.heartbeat_timeout if timeout is None else timeout
    return world.at.mono - instance.heard_at < patience * SECOND


def info_seems_alive(info: InstanceInfo, now_ms: float | None, timeout_ms: float) -> bool:
    """Whether what was written of an instance is young enough, where the store cannot be asked."""
    now = time.time() * MS if now_ms is None else now_ms
    try:
        return now - wall_of(info.last_heartbeat) / MS < timeout_ms
    except ValueError:
        return False


def is_contending(instance: InstanceState) -> bool:
    """Whether an instance wants to make calls."""
    work = instance.workload
    return bool(work.active_models or work.pending or instance.held or instance.waiting)


def backlog(instance: InstanceState) -> int:
    """The µs that an instance's pending tasks are expected to take, one after the other."""
    return instance.workload.pending * (instance.workload.latency or UNKNOWN)


def info_of(instance: InstanceState) -> InstanceInfo:
    """An instance as the reference shows it."""
    work = instance.workload
    return InstanceInfo(
        instance_id=instance.instance_id,
        pid=instance.pid,
        session_id=instance.session_id,
        started_at=time_text(instance.joined_at),
        last_heartbeat=time_text(instance.beat_at),
        cwd=instance.cwd,
        active_models=tuple(ActiveModelInfo(name, model, time_text(at)) for name, model, at in work.active_models),
        pending_task_count=work.pending,
        avg_latency_ms=_ms(work.latency),
        last_task_completed_at=None if work.last_completed is None else time_text(work.last_completed),
    )


def queue_state_of(instance: InstanceState, view: View, since: int) -> BroadcastQueueState | None:
    """An instance's queue as it was last told, `since` (mono µs) or later, or as the store knows it where it has tasks
    of the durable queue or works on them; None where there is neither."""
    work, at = instance.workload, view.world.at
    queue = view.queues.get(instance.instance_id)
    told = bool(instance.broadcast_at) and instance.broadcast_at >= since
    known = work.at_work or (queue is not None and any(queue.queued))
    if not told and not known:
        return None
    return BroadcastQueueState(
        instance_id=instance.instance_id,
        timestamp=time_text(at.wall if known else at.wall - (at.mono - instance.broadcast_at)),
        pending_task_count=work.pending,
        active_orchestrations=work.orchestrations,
        stealable_entries=tuple(shown_entry(entry, instance.instance_id) for entry in work.stealable if told),
        avg_latency_ms=_ms(work.latency),
    )


def shown_entry(entry: Entry, owner: str) -> StealableQueueEntry:
    """An entry as the reference shows it; `owner` is the instance that offers, or offered, it."""
    return StealableQueueEntry(
        id=entry.id,
        tool_name=entry.tool,
        priority=entry.priority.name.lower(),
        instance_id=owner,
        enqueued_at=time_text(entry.enqueued_at),
        estimated_duration_ms=_ms(entry.duration),
        estimated_rounds=entry.rounds,
    )


def in_us(milliseconds: float | None) -> int | None:
    """A duration as operations have it. Raises `ValueError` where it is negative or not a number."""
    if milliseconds is None:
        return None
    if not 0 <= milliseconds < math.inf:
        raise ValueError(f"a duration is a number of milliseconds, 0 or more; not {milliseconds}")
    return round(milliseconds * MS)


def _ms(us: int | None) -> float | None:
    return None if us is None else us / MS
