"""What the tests see of a store through a runtime at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import NodeState, Snapshot

if TYPE_CHECKING:
    from cross_instance import Runtime


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
