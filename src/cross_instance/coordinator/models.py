"""What the coordinator tells and is told: frozen data, in the reference's camelCase by `to_dict()`.

Times are RFC 3339 texts (UTC, milliseconds) where the reference has strings, and Unix milliseconds where it has
numbers; durations are milliseconds. What is None where the reference has an optional field is left out of `to_dict()`;
where it has `null`, it is None there too.
"""

from __future__ import annotations

from dataclasses import dataclass

from cross_instance.spelling import Plain


@dataclass(frozen=True)
class ActiveModelInfo(Plain):
    """A model that an instance uses, since when."""

    provider: str
    model: str
    since: str


@dataclass(frozen=True)
class InstanceInfo(Plain):
    """A live instance. `avg_latency_ms` and `last_task_completed_at` are None until they are known."""

    instance_id: str
    pid: int
    session_id: str
    started_at: str
    last_heartbeat: str
    cwd: str
    active_models: tuple[ActiveModelInfo, ...] = ()
    pending_task_count: int | None = None
    avg_latency_ms: float | None = None
    last_task_completed_at: str | None = None

    OPTIONAL = frozenset({"pending_task_count", "avg_latency_ms", "last_task_completed_at"})


@dataclass(frozen=True)
class CoordinatorConfig(Plain):
    """What is in force: calls at once over all instances, and when an instance beats and counts as silent."""

    total_max_llm: int
    heartbeat_interval_ms: int
    heartbeat_timeout_ms: int


@dataclass(frozen=True)
class CoordinatorStatus(Plain):
    """How the coordinator of this process stands."""

    registered: bool
    my_instance_id: str | None
    active_instance_count: int
    my_parallel_limit: int
    config: CoordinatorConfig | None
    instances: tuple[InstanceInfo, ...]


@dataclass(frozen=True)
class ModelUsage(Plain):
    """How many instances use a model."""

    provider: str
    model: str
    instance_count: int


@dataclass(frozen=True)
class ModelUsageSummary(Plain):
    """The models in use, by name, and all live instances."""

    models: tuple[ModelUsage, ...]
    instances: tuple[InstanceInfo, ...]


@dataclass(frozen=True)
class StealableQueueEntry(Plain):
    """Work that its instance offers to others. `priority`: critical, high, normal, low or background."""

    id: str
    tool_name: str
    priority: str
    instance_id: str
    enqueued_at: str
    estimated_duration_ms: float | None = None
    estimated_rounds: int | None = None

    OPTIONAL = frozenset({"estimated_duration_ms", "estimated_rounds"})


@dataclass(frozen=True)
class BroadcastQueueState(Plain):
    """An instance's queue as it was last told; `timestamp` is when."""

    instance_id: str
    timestamp: str
    pending_task_count: int
    active_orchestrations: int
    stealable_entries: tuple[StealableQueueEntry, ...] = ()
    avg_latency_ms: float | None = None

    OPTIONAL = frozenset({"avg_latency_ms"})

    @property
    def is_idle(self) -> bool:
        """No pending task, and fewer than two orchestrations."""
        return not self.pending_task_count and self.active_orchestrations < 2


@dataclass(frozen=True)
class WorkStealingSummary(Plain):
    """The other instances' queues together; each instance is idle or busy."""

    remote_instances: int
    total_pending_tasks: int
    stealable_tasks: int
    idle_instances: int
    busy_instances: int


@dataclass(frozen=True)
class DistributedLock(Plain):
    """A lock that is held until `expires_at` (Unix ms); `fence` is larger than that of any holder before."""

    lock_id: str
    acquired_at: int
    expires_at: int
    resource: str
    fence: int


@dataclass(frozen=True)
class StealingStats(Plain):
    """This process's steals since the last reset. `success_rate` is between 0 and 1, 0 without attempts;
    `avg_latency_ms` the mean of the last 100; `last_steal_at` Unix ms."""

    total_attempts: int
    successful_steals: int
    failed_attempts: int
    success_rate: float
    avg_latency_ms: float
    last_steal_at: int | None
