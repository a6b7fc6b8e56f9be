"""The coordinator: the reference's `cross-instance-coordinator`, name for name in snake_case.

    from cross_instance import coordinator

    coordinator.register_instance("session-1", "/home/me/project")
    limit = coordinator.get_my_parallel_limit()

1. The functions of this module act on one instance of this process, made by `register_instance`. Each is a method of
   `Coordinator` too, for those who want several.
2. They may be called from any thread, and from any event loop: each is one or two operations of the store. Heartbeats
   are sent by a thread of the runtime, so that a blocked event loop does not end an instance.
3. Nothing is kept here but what this process says of itself: all else is the store's, and the same for everybody.

Data flows one way: `seat` asks the store → `views` tells what a look at it means → `shares`, `registry`,
`queue_states`, `stealing` and `locking` answer in the terms of `models`.
"""

from __future__ import annotations

from cross_instance.coordinator.locking import Locking
from cross_instance.coordinator.models import (
    ActiveModelInfo,
    BroadcastQueueState,
    CoordinatorConfig,
    CoordinatorStatus,
    DistributedLock,
    InstanceInfo,
    ModelUsage,
    ModelUsageSummary,
    StealableQueueEntry,
    StealingStats,
    WorkStealingSummary,
)
from cross_instance.coordinator.stealing import Stealing


class Coordinator(Stealing, Locking):
    """An instance at the coordinator; nothing is done before `register_instance`.

    Its arguments are those of `Runtime`: `instance_id`, `store`, `settings`, and any setting by its name.
    """


this_process = Coordinator()
"""What the functions of this module act on."""

register_instance = this_process.register_instance
unregister_instance = this_process.unregister_instance
update_heartbeat = this_process.update_heartbeat
cleanup_dead_instances = this_process.cleanup_dead_instances
is_instance_alive = this_process.is_instance_alive
get_active_instance_count = this_process.get_active_instance_count
get_active_instances = this_process.get_active_instances
get_my_parallel_limit = this_process.get_my_parallel_limit
get_dynamic_parallel_limit = this_process.get_dynamic_parallel_limit
should_attempt_work_stealing = this_process.should_attempt_work_stealing
get_work_stealing_candidates = this_process.get_work_stealing_candidates
update_workload_info = this_process.update_workload_info
get_coordinator_status = this_process.get_coordinator_status
is_coordinator_initialized = this_process.is_coordinator_initialized
get_total_max_llm = this_process.get_total_max_llm
get_env_overrides = this_process.get_env_overrides
set_active_model = this_process.set_active_model
clear_active_model = this_process.clear_active_model
clear_all_active_models = this_process.clear_all_active_models
get_active_instances_for_model = this_process.get_active_instances_for_model
get_model_parallel_limit = this_process.get_model_parallel_limit
matches_model_pattern = this_process.matches_model_pattern
get_model_usage_summary = this_process.get_model_usage_summary
broadcast_queue_state = this_process.broadcast_queue_state
get_remote_queue_states = this_process.get_remote_queue_states
check_remote_capacity = this_process.check_remote_capacity
steal_work = this_process.steal_work
get_work_stealing_summary = this_process.get_work_stealing_summary
cleanup_queue_states = this_process.cleanup_queue_states
try_acquire_lock = this_process.try_acquire_lock
release_lock = this_process.release_lock
is_idle = this_process.is_idle
find_steal_candidate = this_process.find_steal_candidate
safe_steal_work = this_process.safe_steal_work
get_stealing_stats = this_process.get_stealing_stats
reset_stealing_stats = this_process.reset_stealing_stats
cleanup_expired_locks = this_process.cleanup_expired_locks
enhanced_heartbeat = this_process.enhanced_heartbeat

__all__ = [
    "ActiveModelInfo",
    "BroadcastQueueState",
    "Coordinator",
    "CoordinatorConfig",
    "CoordinatorStatus",
    "DistributedLock",
    "InstanceInfo",
    "ModelUsage",
    "ModelUsageSummary",
    "StealableQueueEntry",
    "StealingStats",
    "WorkStealingSummary",
    "broadcast_queue_state",
    "check_remote_capacity",
    "cleanup_dead_instances",
    "cleanup_expired_locks",
    "cleanup_queue_states",
    "clear_active_model",
    "clear_all_active_models",
    "enhanced_heartbeat",
    "find_steal_candidate",
    "get_active_instance_count",
    "get_active_instances",
    "get_active_instances_for_model",
    "get_coordinator_status",
    "get_dynamic_parallel_limit",
    "get_env_overrides",
    "get_model_parallel_limit",
    "get_model_usage_summary",
    "get_my_parallel_limit",
    "get_remote_queue_states",
    "get_stealing_stats",
    "get_total_max_llm",
    "get_work_stealing_candidates",
    "get_work_stealing_summary",
    "is_coordinator_initialized",
    "is_idle",
    "is_instance_alive",
    "matches_model_pattern",
    "register_instance",
    "release_lock",
    "reset_stealing_stats",
    "safe_steal_work",
    "set_active_model",
    "should_attempt_work_stealing",
    "steal_work",
    "this_process",
    "try_acquire_lock",
    "unregister_instance",
    "update_heartbeat",
    "update_workload_info",
]
