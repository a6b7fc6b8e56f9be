"""Thousands of random operations, answered like the model answers them, and adding up at every look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import CLUSTER, World
from cross_instance.testing.conformance.law import Law
from cross_instance.testing.conformance.scene import Scene, require
from cross_instance.testing.conformance.storm import Elapse, random_operations

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from cross_instance.rules.operations import Operation, Result

    Steps = Generator[Operation[Any] | Elapse, Result | None, None]

OPERATIONS = 600


def storm_law(seed: int) -> Law:
    """The law that a storm is answered as the model answers it, for one seed."""

    def body(scene: Scene) -> None:
        rage(scene, seed)

    sentence = f"{OPERATIONS} random operations of seed {seed} are answered as the model answers them."
    return Law(f"storm_{seed}", sentence, frozenset(), body)


def rage(scene: Scene, seed: int, operations: int = OPERATIONS, storm: Steps | None = None) -> None:
    """Run a storm, the usual one unless given. Where the store owns its time, time passes by itself."""
    storm = storm or random_operations(seed, operations)
    result: Result | None = None
    try:
        step = next(storm)
        while True:
            result = _take(scene, step)
            step = storm.send(result)
    except StopIteration:
        return
    except Exception as error:
        error.add_note(f"in the storm of seed {seed}")
        raise


def _take(scene: Scene, step: Operation[Any] | Elapse) -> Result | None:
    if isinstance(step, Elapse):
        if scene.clock is not None:
            scene.clock.advance(step.us)
        return None
    try:
        result: Result = scene.run(step)
    except ValueError:  # the model refuses it too
        return None
    if isinstance(result, World):
        adds_up(result)
    return result


def adds_up(world: World) -> None:
    """What instances hold and wait for is what the tree's nodes count."""
    accounts = [node for node in world.nodes if node.node != CLUSTER and "#" not in node.node]
    held = sum(instance.held for instance in world.instances)
    waiting = sum(instance.waiting for instance in world.instances)
    counted = sum(node.held - node.ghosts for node in accounts), sum(node.waiting for node in accounts)
    require(counted == (held, waiting), f"instances hold and wait for {(held, waiting)}, accounts count {counted}")
    for node in world.nodes:
        if node.node == CLUSTER:
            total = sum(account.held for account in accounts), sum(account.waiting for account in accounts)
            require((node.held, node.waiting) == total, f"the cluster counts {node}, its accounts {total}")
