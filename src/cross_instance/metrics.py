"""Metrics for Prometheus, read from the store: one process that is asked answers for all of them.

    from prometheus_client import REGISTRY, start_http_server
    from cross_instance.metrics import StoreCollector

    REGISTRY.register(StoreCollector(runtime))
    start_http_server(9464)

1. Nothing is counted here: each scrape looks at the store once. Instances that also serve it tell the same figures.
2. Labels are providers, accounts, configured model patterns and kinds of limits: never models, instances or keys.
   Beyond `MOST_NODES` accounts and patterns the least used are left out, and how many is told.
3. A store that cannot be read is `cross_instance_up` 0 and nothing else: old figures would be wrong ones.

It needs the extra `prometheus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cross_instance.errors import CrossInstanceError
from cross_instance.rules.operations import CLUSTER, SECOND, Kind, Snapshot
from cross_instance.status import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from cross_instance.rules.operations import LimitState, NodeState, World
    from cross_instance.runtime import AsyncRuntime, Runtime

__all__ = ["StoreCollector"]

MOST_NODES = 200
"""Accounts and model patterns with series of their own."""

PLACE = ("gen_ai_provider_name", "account", "model_group")
"""The labels of an account (`model_group` "") or one of its model patterns; the provider's is OpenTelemetry's
`gen_ai.provider.name` (semantic conventions for generative AI)."""
OTHER_MODELS = "(other models)"
"""The group of an account's models that no pattern fits."""
EPOCHS = ("requests", "tokens", "concurrency")
"""What the epochs of a node count overloads of, in their order."""


class StoreCollector(Collector):
    """What the store of a runtime holds at the moment of a scrape; before the runtime has joined, nothing is known."""

    def __init__(self, runtime: Runtime | AsyncRuntime) -> None:
        self._membership = runtime._membership

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering asks no store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        world = self._world()
        yield _gauge("up", "Whether the store could be read.", int(world is not None))
        if world is not None:
            yield from _of_world(world)

    def _world(self) -> World | None:
        membership = self._membership
        if not membership.incarnation:
            return None
        try:
            return membership.run(Snapshot())
        except CrossInstanceError as error:
            membership.standing.note_trouble(error)
            return None


def _of_world(world: World) -> Iterator[Metric]:
    nodes = sorted(world.nodes, key=lambda node: (node.node != CLUSTER, -node.used, node.node))
    kept = nodes[:MOST_NODES]
    yield _gauge("instances", "Live instances.", len(world.instances))
    yield _gauge("nodes_omitted", "Accounts and model groups left out of these metrics.", len(nodes) - len(kept))
    yield from _of_nodes(world, kept)
    yield from _of_limits(kept)


def _of_nodes(world: World, nodes: list[NodeState]) -> Iterator[Metric]:
    held = _family("requests_in_flight", "Permits held, by all instances.")
    waiting = _family("requests_waiting", "Requests that wait for a permit, of all instances.")
    ghosts = _family("requests_of_lost_instances", "Permits of instances that fell silent, whose calls may still run.")
    used = _family("requests_last_minute", "Permits granted in the last 60 s, to all instances.")
    paused = _family("paused_seconds", "How long the provider's pause still lasts.")
    overloads = CounterMetricFamily(
        "cross_instance_overloads", "Overloads the provider answered with, echoes left out.", labels=(*PLACE, "kind")
    )
    for node in nodes:
        place = _labels(node)
        held.add_metric(place, node.held)
        waiting.add_metric(place, node.waiting)
        ghosts.add_metric(place, node.ghosts)
        paused.add_metric(place, max(0, node.paused_until - world.at.mono) / SECOND)
        if not place[2] and node.node != CLUSTER:
            used.add_metric(place, node.used)
        for kind, epoch in zip(EPOCHS, node.epochs, strict=True):
            overloads.add_metric([*place, kind], epoch)
    yield from (held, waiting, ghosts, used, paused, overloads)


def _of_limits(nodes: list[NodeState]) -> Iterator[Metric]:
    amount = _family("limit", "A limit in force; of a rate, for its period.", "kind")
    period = _family("limit_period_seconds", "The period of a limit; 0: calls at once.", "kind")
    available = _family("limit_available", "What is left of a limit now; negative: what is owed.", "kind")
    for node in nodes:
        for limit in node.limits:
            labels = [*_labels(node), limit.kind.value]
            amount.add_metric(labels, limit.amount)
            period.add_metric(labels, _period(limit))
            available.add_metric(labels, limit.available)
    yield from (amount, period, available)


def _period(limit: LimitState) -> float:
    return 0.0 if limit.kind is Kind.CONCURRENCY else limit.period / SECOND


def _labels(node: NodeState) -> list[str]:
    provider, account, pattern = place_of(node.node)
    return [provider, account, OTHER_MODELS if node.node.endswith("#") else pattern]


def _family(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cross_instance_{name}", text, labels=(*PLACE, *more))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cross_instance_{name}", text, value=value)
