"""What there is to measure in a store: for Prometheus (`metrics`) and OpenTelemetry (`otel`) alike.

1. Nothing is counted here: each reading is what the store holds at one moment, of all instances.
2. Attributes are providers, accounts, configured model patterns and kinds of limits: never models, instances or keys.
   Beyond `MOST_NODES` accounts and patterns the least used are left out, and how many is told.
3. A store that cannot be read is `up` 0 and nothing else: old figures would be wrong ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cross_instance.errors import CrossInstanceError
from cross_instance.rules.operations import CLUSTER, SECOND, Kind, Snapshot
from cross_instance.status import group_of, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import NodeState, World

MOST_NODES = 200
"""Accounts and model patterns with figures of their own."""

PLACE = ("gen_ai.provider.name", "account", "model_group")
"""The attributes of an account (`model_group` "") or one of its model patterns; the provider's is of the semantic
conventions for generative AI."""
EPOCHS = ("requests", "tokens", "concurrency")
"""What the epochs of a node count overloads of, in their order."""


class Metric(NamedTuple):
    """What is measured, in UCUM's units; `counts` up only, or is a figure that also falls."""

    name: str
    text: str
    unit: str = "1"
    attributes: tuple[str, ...] = ()
    counts: bool = False


Values = list[tuple[tuple[str, ...], float]]
"""The values of one metric, each with its attributes."""

UP = Metric("up", "Whether the store could be read.")
INSTANCES = Metric("instances", "Live instances.", "{instance}")
OMITTED = Metric("nodes_omitted", "Accounts and model groups left out of these metrics.", "{node}")
HELD = Metric("requests_in_flight", "Permits held, by all instances.", "{request}", PLACE)
WAITING = Metric("requests_waiting", "Requests that wait for a permit, of all instances.", "{request}", PLACE)
GHOSTS = Metric(
    "requests_of_lost_instances",
    "Permits of instances that fell silent, whose calls may still run.",
    "{request}",
    PLACE,
)
USED = Metric("requests_last_minute", "Permits granted in the last 60 s, to all instances.", "{request}", PLACE)
PAUSED = Metric("paused_seconds", "How long the provider's pause still lasts.", "s", PLACE)
OVERLOADS = Metric(
    "overloads", "Overloads the provider answered with, echoes left out.", "{overload}", (*PLACE, "kind"), counts=True
)
LIMIT = Metric("limit", "A limit in force; of a rate, for its period.", "1", (*PLACE, "kind"))
PERIOD = Metric("limit_period_seconds", "The period of a limit; 0: calls at once.", "s", (*PLACE, "kind"))
AVAILABLE = Metric("limit_available", "What is left of a limit now; negative: what is owed.", "1", (*PLACE, "kind"))

METRICS = (UP, INSTANCES, OMITTED, HELD, WAITING, GHOSTS, USED, PAUSED, OVERLOADS, LIMIT, PERIOD, AVAILABLE)


def read(membership: Membership) -> dict[Metric, Values]:
    """Look at the store of a membership; before it has joined, nothing is known."""
    world = _world(membership)
    found: dict[Metric, Values] = {UP: [((), int(world is not None))]}
    if world is not None:
        found |= {metric: [] for metric in METRICS[1:]}
        for metric, attributes, value in _of_world(world):
            found[metric].append((attributes, value))
    return found


def _world(membership: Membership) -> World | None:
    if not membership.incarnation:
        return None
    try:
        return membership.run(Snapshot())
    except CrossInstanceError as error:
        membership.standing.note_trouble(error)
        return None


def _of_world(world: World) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
    nodes = sorted(world.nodes, key=lambda node: (node.node != CLUSTER, -node.used, node.node))
    yield INSTANCES, (), len(world.instances)
    yield OMITTED, (), max(0, len(nodes) - MOST_NODES)
    for node in nodes[:MOST_NODES]:
        place = _place(node)
        yield HELD, place, node.held
        yield WAITING, place, node.waiting
        yield GHOSTS, place, node.ghosts
        yield PAUSED, place, max(0, node.paused_until - world.at.mono) / SECOND
        if not place[2] and node.node != CLUSTER:
            yield USED, place, node.used
        for kind, epoch in zip(EPOCHS, node.epochs, strict=True):
            yield OVERLOADS, (*place, kind), epoch
        for limit in node.limits:
            of = (*place, limit.kind.value)
            yield LIMIT, of, limit.amount
            yield PERIOD, of, 0.0 if limit.kind is Kind.CONCURRENCY else limit.period / SECOND
            yield AVAILABLE, of, limit.available


def _place(node: NodeState) -> tuple[str, str, str]:
    provider, account, _ = place_of(node.node)
    return provider, account, group_of(node.node)
