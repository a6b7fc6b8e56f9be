"""What the tests see of a store through a runtime at it, and how long they look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cross_instance.rules.operations import NodeState, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance import Runtime

DEADLINE = 40.0
"""Seconds until a test gives up."""
PAUSE = 0.001
"""Seconds between two looks: who is waited for needs the processor, and the store, too."""


def until(condition: Callable[[], bool]) -> None:
    """Look until it is so, or fail at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(PAUSE)


def names(runtime: Runtime) -> list[str]:
    """The ids of all who have joined, in the order in which they did."""
    return [instance.instance_id for instance in runtime.run(Snapshot()).instances]


def waiting(runtime: Runtime) -> int:
    """How many requests wait, of all instances."""
    return sum(instance.waiting for instance in runtime.run(Snapshot()).instances)


def node(runtime: Runtime, name: str = "acme/default") -> NodeState:
    """One account, as the store counts it."""
    (found,) = (node for node in runtime.run(Snapshot()).nodes if node.node == name)
    return found
