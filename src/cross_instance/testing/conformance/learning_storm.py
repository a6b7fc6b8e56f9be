"""The storm of random operations, on accounts that learn their limits."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from cross_instance.rules.operations import CLUSTER, Configure, Heartbeat, Keep, Learning, Source, Unlearn
from cross_instance.testing.conformance.law import Law, Need
from cross_instance.testing.conformance.storm import random_operations
from cross_instance.testing.conformance.storming import OPERATIONS, rage

if TYPE_CHECKING:
    from collections.abc import Generator

    from cross_instance.rules.operations import LimitSpec, Operation, Result
    from cross_instance.testing.conformance.scene import Scene
    from cross_instance.testing.conformance.storm import Elapse

HOW = (Learning(), Learning(), Learning(simple=True), Learning(predicts=True), Learning(lowest=5_000, highest=90_000))


def learning_operations(seed: int, operations: int) -> Generator[Operation[Any] | Elapse, Result | None, None]:
    """The storm of a seed; its accounts learn, and what they learned is kept and forgotten now and then."""
    draw = random.Random(seed)
    how = draw.choice(HOW)
    storm = random_operations(seed, operations)
    step = next(storm)
    while True:
        if isinstance(step, Configure) and step.account != CLUSTER:
            step = _learning(step, how, draw)
        result = yield step
        if isinstance(step, Heartbeat):
            yield Keep(step.incarnation)
            if draw.random() < 0.05:
                yield Unlearn(account=draw.choice(("", "nobody/nowhere")))
        try:
            step = storm.send(result)
        except StopIteration:
            return


def _learning(op: Configure, how: Learning, draw: random.Random) -> Configure:
    limits = tuple(_unconfigured(limit, draw) for limit in op.spec.limits)
    spec = msgspec.structs.replace(op.spec, limits=limits, learning=how if draw.random() < 0.95 else None)
    return msgspec.structs.replace(op, spec=spec)


def _unconfigured(limit: LimitSpec, draw: random.Random) -> LimitSpec:
    """Some limits as a preset or a guess: those are learned from the start."""
    source = draw.choice((limit.source, Source.PRESET, Source.GUESS))
    return msgspec.structs.replace(limit, source=source)


def learning_storm_law(seed: int) -> Law:
    """The law that such a storm is answered as the model answers it, for one seed."""

    def body(scene: Scene) -> None:
        rage(scene, seed, storm=learning_operations(seed, OPERATIONS))

    sentence = f"{OPERATIONS} random operations of seed {seed} on learning accounts are answered as the model does."
    return Law(f"learning_storm_{seed}", sentence, frozenset({Need.LEARNING}), body)
