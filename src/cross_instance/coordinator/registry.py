"""Who is there: the living instances, the dead ones' removal, and the whole coordinator's status.

1. An instance of this machine is alive while it holds its lock, whatever its pid is now; any other while it was heard
   of within the timeout, on the store's clock: one that stood still with its machine was not silent.
2. What has expired is seen by nobody: an old queue goes with its instance, a lock with its next holder or a while
   later. What is left to clean up are instances.
"""

from __future__ import annotations

from cross_instance.coordinator.models import CoordinatorStatus, InstanceInfo
from cross_instance.coordinator.seat import config_of
from cross_instance.coordinator.shares import Shares
from cross_instance.coordinator.views import info_of, info_seems_alive, lives
from cross_instance.membership.heartbeat import sweep
from cross_instance.rules.operations import Snapshot

USUAL_TIMEOUT_MS = 60_000


class Registry(Shares):
    """The functions on instances."""

    def is_instance_alive(
        self, info: InstanceInfo, now_ms: float | None = None, timeout_ms: float | None = None
    ) -> bool:
        """Whether an instance lives.

        `timeout_ms`: how long it may have been silent on another machine; None: the heartbeat timeout in force.
        `now_ms` (Unix ms) counts only before registration, when the store cannot be asked.
        """
        member = self._member()
        if member is None:
            return info_seems_alive(info, now_ms, USUAL_TIMEOUT_MS if timeout_ms is None else timeout_ms)
        world = member.run(Snapshot())
        found = next((one for one in world.instances if one.instance_id == info.instance_id), None)
        seconds = None if timeout_ms is None else timeout_ms / 1_000
        return found is not None and found.pid == info.pid and lives(member, found, world, seconds)

    def cleanup_dead_instances(self) -> None:
        """Remove who died or fell silent; what they held is given back."""
        member = self._member()
        if member is not None:
            world = member.run(Snapshot())
            here = [one for one in world.instances if one.machine == member.machine]
            sweep(member, (one.incarnation for one in here if not lives(member, one, world)))

    def cleanup_queue_states(self) -> None:
        """Remove who fell silent, and their queues with them.

        A queue that was told more than two heartbeat intervals ago is seen by nobody, also without this.
        """
        member = self._member()
        if member is not None:
            sweep(member)

    def cleanup_expired_locks(self) -> None:
        """Remove who fell silent, and free their locks with them.

        An expired lock is held by nobody, also without this.
        """
        self.cleanup_queue_states()

    def enhanced_heartbeat(self) -> None:
        """A heartbeat, then all that the three cleanups do."""
        self.update_heartbeat()
        self.cleanup_dead_instances()

    def get_active_instance_count(self) -> int:
        """How many instances live; 1 before registration."""
        view = self._view()
        return 1 if view is None else max(1, len(view.living))

    def get_active_instances(self) -> list[InstanceInfo]:
        """The living instances in the order of joining, this one among them."""
        view = self._view()
        return [] if view is None else [info_of(one) for one in view.living]

    def get_coordinator_status(self) -> CoordinatorStatus:
        """Everything at one instant."""
        runtime, view = self.runtime, self._view()
        if runtime is None or view is None:
            return CoordinatorStatus(False, None, 1, 1, None, ())
        return CoordinatorStatus(
            registered=True,
            my_instance_id=runtime.instance_id,
            active_instance_count=max(1, len(view.living)),
            my_parallel_limit=self._share_in(view),
            config=config_of(runtime.settings),
            instances=tuple(info_of(one) for one in view.living),
        )
