"""Locks as the reference has them: tried once, held for a time, given back by their holder only.

They are the same locks as those of `Runtime.lock`, which waits for them and renews them.
"""

from __future__ import annotations

import uuid

from cross_instance.coordinator.models import DistributedLock
from cross_instance.coordinator.seat import Seat
from cross_instance.coordinator.views import MS
from cross_instance.locks import resource_name, ttl_in_us
from cross_instance.rules.operations import Lock, Unlock


class Locking(Seat):
    """The functions on locks."""

    def try_acquire_lock(self, resource: str, ttl_ms: float = 30_000) -> DistributedLock | None:
        """Take a lock, or None where another holds it. Any name is accepted.

        Raises `ValueError` for a time to live that is not positive.
        """
        member = self._member()
        if member is None:
            return None
        token, ttl = uuid.uuid4().hex, ttl_in_us(ttl_ms / 1_000)
        answer = member.ask(lambda incarnation: Lock(incarnation, resource_name(resource), token, ttl))
        if not answer.mine:
            return None
        lasts = answer.lock.expires_at - answer.lock.acquired_at
        return DistributedLock(
            lock_id=token,
            acquired_at=answer.at.wall // MS,
            expires_at=(answer.at.wall + lasts) // MS,
            resource=resource,
            fence=answer.lock.fence,
        )

    def release_lock(self, lock: DistributedLock) -> bool:
        """Give a lock back; False where it was lost before: its time was over, or its instance was removed."""
        member = self._member()
        return member is not None and member.run(Unlock(resource_name(lock.resource), lock.lock_id)).known
