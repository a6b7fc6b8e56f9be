"""Shares: what a fair share of the limits in force comes to, for one instance on its own.

1. At an account an instance's share is its weight among the live instances that use the account; at the limit across
   all accounts, its weight among all. The shares of those who looked at the same registry add up to one.
2. A bucket gets that share of its rate and its burst, rounded down, so that the shares never add up to more than the
   limit. It is empty when the store was last heard of: what was left may be gone. What was owed then stays owed.
3. A bucket that takes longer than a minute to fill (requests per day) starts with the share of what was left.
4. Slots are dealt out whole, in the order of joining, at least one to each: they add up to the limit, or to the number
   of instances where these are more.
5. No limit is called configured or told: a request larger than the share of a bucket waits until that is full, and
   owes the rest (law 7, as against a guessed limit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import CLUSTER, FOREVER, MINUTE, AccountSpec, Kind, LimitSpec, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cross_instance.rules.operations import LimitState, NodeState, World

LONGEST = FOREVER // 4
"""The longest period of a share, in µs (36 years); its products stay exact."""


class Share(NamedTuple):
    """One instance among others: their weights in the order of joining, and its place among them."""

    weights: tuple[int, ...]
    place: int

    @property
    def weight(self) -> int:
        """Its own weight."""
        return self.weights[self.place]

    @property
    def total(self) -> int:
        """The weights of all."""
        return sum(self.weights)

    @property
    def fraction(self) -> float:
        """The share, between 0 and 1, for people."""
        return self.weight / self.total

    def of(self, units: int) -> int:
        """The share of so many units, rounded down, also below zero."""
        return units * self.weight // self.total

    def slots(self, amount: int) -> int:
        """The slots that are this instance's when all are dealt out; at least one."""
        before, total = sum(self.weights[: self.place]), self.total
        return max(1, amount * (before + self.weight) // total - amount * before // total)


def shares_in(world: World, incarnation: int) -> dict[str, Share]:
    """The share of an instance at each account it uses, and at the cluster."""
    weights = {instance.incarnation: 1 for instance in world.instances}
    weights |= {flow.incarnation: flow.weight for node in world.nodes for flow in node.flows}
    groups = {node.node: [flow.incarnation for flow in node.flows] for node in world.nodes if "#" not in node.node}
    groups[CLUSTER] = [instance.incarnation for instance in world.instances]
    return {
        name: Share(tuple(weights[one] for one in members), members.index(incarnation))
        for name, members in groups.items()
        if incarnation in members
    }


def scaled_spec(account: str, nodes: Mapping[str, NodeState], share: Share, published: AccountSpec) -> AccountSpec:
    """An account's limits in force, and its groups', cut to a share.

    What only a publication says of a limit (how it is charged, when its window begins) is taken from `published`.
    """
    groups = dict(published.groups)
    return AccountSpec(
        limits=_scaled(nodes[account], share, published.limits),
        groups=tuple(
            (pattern, _scaled(nodes[name], share, groups.get(pattern, ())))
            for pattern in nodes[account].patterns
            if (name := f"{account}#{pattern}") in nodes
        ),
        origin=published.origin,
        ageing=published.ageing,
        spread=published.spread,
    )


def _scaled(node: NodeState, share: Share, published: Iterable[LimitSpec]) -> tuple[LimitSpec, ...]:
    known = {limit.kind: limit for limit in published}
    return tuple(_share_of_limit(state, share, known.get(state.kind)) for state in node.limits)


def _share_of_limit(state: LimitState, share: Share, published: LimitSpec | None) -> LimitSpec:
    like = published or LimitSpec(state.kind, state.amount)
    if state.kind is Kind.CONCURRENCY:
        return LimitSpec(state.kind, share.slots(state.amount), source=Source.LEARNED)
    amount, period = share.of(state.amount), state.period
    if not amount:  # less than one in a period is one in a longer period
        amount, period = 1, min(-(-period * share.total // (state.amount * share.weight)), LONGEST)
    return LimitSpec(
        kind=state.kind,
        amount=amount,
        burst=max(1, min(share.of(state.burst), (EXACT - amount) // period - 2)),
        period=period,
        source=Source.LEARNED,
        correct=like.correct,
        refund=like.refund,
        anchor=like.anchor if period == like.period else None,
    )


def first_level(state: LimitState, share: Share) -> int:
    """The units with which the share of a bucket starts."""
    return share.of(state.available) if state.period > MINUTE else min(0, share.of(state.available))
