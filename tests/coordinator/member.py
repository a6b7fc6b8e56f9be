"""A process that is told by lines what to call: `["name", [arguments], {options}]`, answered by a line of JSON.

    python member.py INSTANCE_ID

`take_all` steals until there is nothing left. The end of the input ends it, without unregistering.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from cross_instance import coordinator
from cross_instance.coordinator import DistributedLock, StealableQueueEntry

told, told_ns = time.time, time.time_ns


def take_all() -> list[str]:
    taken = []
    while (found := coordinator.steal_work()) is not None:
        taken.append(found.id)
    return taken


def offer(names: list[str]) -> list[str]:
    entries = [StealableQueueEntry(name, "tool", "normal", "", "2026-01-01T00:00:00Z") for name in names]
    return coordinator.broadcast_queue_state(len(names), 0, entries)


def shift_the_wall_clock(seconds: int) -> None:
    """Have everything in this process read another time of day; the monotonic clock goes on as it does."""
    time.time = lambda: told() + seconds
    time.time_ns = lambda: told_ns() + seconds * 1_000_000_000


def release_lock_of(shown: dict[str, Any]) -> bool:
    lock = DistributedLock(shown["lockId"], shown["acquiredAt"], shown["expiresAt"], shown["resource"], shown["fence"])
    return coordinator.release_lock(lock)


def plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value


def main() -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        call = globals().get(name) or getattr(coordinator, name)
        answer = call(*arguments)
        answer = [plain(one) for one in answer] if isinstance(answer, list) else plain(answer)
        print(json.dumps({"pid": os.getpid(), "answer": answer}), flush=True)


if __name__ == "__main__":
    main()
