"""What is new between two looks at the store: who came and went, what nears its limit, which limits have changed.

1. The first look is where it begins: who is there then did not come, and no limit has changed but by a first overload
   just before.
2. A warning is told once when the use of an account crosses 80 % of its requests per minute, and again only after it
   fell below 70 %.
3. What was seen last is plain data, so that who looks next need not be who looked before (`shared_sights`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance import events
from cross_instance.rules.learning_values import UNIT
from cross_instance.rules.operations import CLUSTER, MINUTE, Kind
from cross_instance.status import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import NodeState, World

WARN_FROM = 0.8
CALM_BELOW = 0.7

SEEN = frozenset(
    {events.INSTANCE_CONNECTED, events.INSTANCE_DISCONNECTED, events.RATE_LIMIT_WARNING, events.LIMIT_CHANGED}
)
"""The kinds of what is new."""

Usage = tuple[int, int | None]
News = tuple[str, str, dict[str, Any]]
"""The kind of an event, its message and its fields."""


def label_of(node: str) -> str:
    """An account, or a group of its models, as people know it: "openai", "openai/batch", "openai gpt-4o"."""
    place = place_of(node)
    return f"{place.label} {place.pattern}".strip()


def usage_of(world: World) -> dict[str, Usage]:
    """The requests of the last 60 s of each account, and how many it may have a minute (None: not known)."""
    nodes = (node for node in world.nodes if node.node != CLUSTER and "#" not in node.node)
    return {node.node: (node.used, _amount(node)[0]) for node in nodes}


class Sights:
    """What was seen last; `seen` is what `state` gave."""

    def __init__(self, seen: dict[str, Any] | None = None) -> None:
        seen = seen or {}
        there = seen.get("there")
        self._there: set[str] | None = None if there is None else set(there)
        self._warned: set[str] = set(seen.get("warned", ()))
        self._amounts: dict[str, int] = dict(seen.get("amounts", {}))

    def look(self, world: World) -> list[News]:
        """What is new in a store since the last look."""
        return [*self._instances(world), *self._use(world), *self._limits(world)]

    def state(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        there = None if self._there is None else sorted(self._there)
        return {"there": there, "warned": sorted(self._warned), "amounts": self._amounts}

    def _instances(self, world: World) -> Iterator[News]:
        there = {instance.instance_id for instance in world.instances}
        before, self._there = self._there, there
        if before is None:
            return
        for name in sorted(there - before):
            yield events.INSTANCE_CONNECTED, f"instance {name} connected", {"connected": name}
        for name in sorted(before - there):
            yield events.INSTANCE_DISCONNECTED, f"instance {name} disconnected", {"disconnected": name}

    def _use(self, world: World) -> Iterator[News]:
        seen = set()
        for node in world.nodes:
            amount, _ = _amount(node)
            if amount is None or node.node == CLUSTER or "#" in node.node:
                continue
            usage = node.used / amount
            if usage >= (CALM_BELOW if node.node in self._warned else WARN_FROM):
                seen.add(node.node)
                if node.node not in self._warned:
                    fields = {"provider": label_of(node.node), "account": node.node, "usage": usage}
                    text = f"{label_of(node.node)} has used {usage:.0%} of its requests per minute"
                    yield events.RATE_LIMIT_WARNING, text, fields
        self._warned = seen

    def _limits(self, world: World) -> Iterator[News]:
        amounts = {}
        for node in world.nodes:
            amount, source = _amount(node)
            if amount is None:
                continue
            amounts[node.node] = amount
            old = self._amounts.get(node.node) or _before_its_first_overload(node, world.at.wall) or amount
            if old != amount:
                word = "Reduced" if amount < old else "Raised"
                text = f"{word} requests per minute from {old} to {amount} ({label_of(node.node)}, {source})"
                yield events.LIMIT_CHANGED, text, {"node": node.node, "old": old, "new": amount, "source": source}
        self._amounts = amounts


def _before_its_first_overload(node: NodeState, now: int) -> int | None:
    """A node's requests per minute before what was learned within the last minute from the only overload it has met."""
    learned = node.learned
    if learned is None or max(node.epochs) != 1 or learned.estimate or now - learned.changed_at >= MINUTE:
        return None
    return round(learned.started / UNIT)


def _amount(node: NodeState) -> tuple[int | None, str]:
    """A node's requests per minute, and where the figure comes from."""
    limit = next((limit for limit in node.limits if limit.kind is Kind.REQUESTS), None)
    return (None, "") if limit is None else (max(1, round(limit.amount * MINUTE / limit.period)), limit.source.value)
