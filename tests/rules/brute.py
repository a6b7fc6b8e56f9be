"""Who could be granted now, and when, by brute force over every waiter: no index of the rules is used.

The order inside a class comes from the stored tags; that those are right is what `test_queue_order` shows.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tests.rules.book import UNITS, nodes_in, permits_in

from cross_instance.rules import records
from cross_instance.rules.operations import CLUSTER, MINUTE, Kind
from cross_instance.rules.records import State
from cross_instance.rules.tables import FLOW, TAG

if TYPE_CHECKING:
    from collections.abc import Collection

    from cross_instance.rules.operations import Instant
    from cross_instance.rules.records import Flow, Limit, Node, Permit, Tag
    from cross_instance.testing import DictTables

Name = tuple[int, int]
Order = tuple[bool, int, int, int, int, int]


class Claim(NamedTuple):
    """The first waiter at a node, which holds the claim on what frees there: when it fits at the earliest by time
    alone (None: it waits for a slot; now: it should not be there any more), and all that wait below the node."""

    node: str
    name: Name
    ready: int | None
    below: frozenset[Name]


class World:
    """Everything that is stored, decoded."""

    def __init__(self, tables: DictTables, at: Instant) -> None:
        self.at = at
        self.nodes = nodes_in(tables)
        self.permits = permits_in(tables)
        self.flows: dict[tuple[str, int], Flow] = {
            (key[9:-1].decode(), int.from_bytes(key[1:9])): records.decode_flow(value)
            for key, value in tables.scan(FLOW)
        }
        self.tags: dict[tuple[str, int], Tag] = {
            (key[9:-1].decode(), int.from_bytes(key[1:9])): records.decode_tag(value) for key, value in tables.scan(TAG)
        }
        self.waiters = {name: permit for name, permit in self.permits.items() if permit.state is State.WAITING}
        self._oldest: defaultdict[tuple[str, str, int], dict[int, tuple[int, int]]] = defaultdict(dict)
        for (incarnation, seq), permit in self.waiters.items():
            heads, place = self._oldest[permit.account, permit.group, incarnation], (permit.arrival, seq)
            heads[permit.rank] = min(heads.get(permit.rank, place), place)

    def claims(self, accounts: Collection[str]) -> list[Claim]:
        """Who holds back everybody else, at every node below the cluster, or below each of these accounts."""
        found: list[Claim] = []
        if CLUSTER in self.nodes and accounts:
            accounts = {permit.account for permit in self.waiters.values()}
        firsts = [first for account in sorted(accounts) if (first := self._first_of_account(account, found))]
        if firsts and CLUSTER in self.nodes:
            placed = min(self._placed(order, CLUSTER) for order in firsts)
            firsts = [placed] if self._fits(CLUSTER, placed, found) else []
        found.extend(Claim("nowhere", _name(first), self.at.mono, frozenset()) for first in firsts)
        return found

    def _first_of_account(self, account: str, found: list[Claim]) -> Order | None:
        groups = sorted({permit.group for permit in self.waiters.values() if permit.account == account})
        firsts = []
        for group in groups:
            first = self._first_of_group(account, group)
            if first is not None and self._fits(f"{account}#{group}", first, found):
                firsts.append(self._placed(first, account))
        if not firsts:
            return None
        first = min(firsts)
        return first if self._fits(account, first, found) else None

    def _first_of_group(self, account: str, group: str) -> Order | None:
        node = self.nodes[account]
        orders = []
        for (of, incarnation), flow in self.flows.items():
            heads = self._heads(account, group, incarnation) if of == account and not flow.asleep else {}
            for rank, (arrival, seq) in heads.items():
                start = self.tags[f"{account}#{group}", incarnation].heads[rank][0]
                age = (self.at.mono - arrival) // node.ageing if node.ageing else 0
                orders.append((True, max(0, rank - age), start, arrival, incarnation, seq))
            if heads and incarnation in dict(node.reserved) and self._has_reserve(flow):
                rank = min(heads)
                start = self.tags[f"{account}#{group}", incarnation].heads[rank][0]
                orders.append((False, rank, start, heads[rank][0], incarnation, heads[rank][1]))
        return min(orders, default=None)

    def _heads(self, account: str, group: str, incarnation: int) -> dict[int, tuple[int, int]]:
        """The oldest waiter of each class of one instance in one group."""
        return self._oldest[account, group, incarnation]

    def _has_reserve(self, flow: Flow) -> bool:
        most = max(1, flow.reserve // 6) * MINUTE
        return flow.reserve > 0 and min(most, flow.level + flow.reserve * (self.at.mono - flow.at)) >= MINUTE

    def _placed(self, order: Order, node: str) -> Order:
        """The same waiter among those of a wider node, by that node's own virtual time."""
        tag = self.tags.get((node, order[4]))
        virtual, busy = self.nodes[node].virtual, self.nodes[node].busy
        start = max(virtual, tag.finish) if tag is not None and tag.busy == busy else virtual
        return (*order[:2], start, *order[3:])

    def _fits(self, name: str, order: Order, found: list[Claim]) -> bool:
        """Whether a node admits its first waiter now; if not, its claim is noted."""
        node, permit = self.nodes[name], self.permits[_name(order)]
        waits = [self._wait(node, limit, permit) for limit in node.limits]
        waits.append(max(0, node.paused_until - self.at.mono))
        expired = permit.deadline < self.at.mono
        if not expired and not any(wait is None or wait > 0 for wait in waits):
            return True
        known = [wait for wait in waits if wait is not None]
        ready = self.at.mono + max(known) if len(known) == len(waits) else None
        ready = self.at.mono if expired else ready
        below = frozenset(waiter for waiter, other in self.waiters.items() if _is_below(name, other))
        found.append(Claim(name, _name(order), ready, below))
        return False

    def _wait(self, node: Node, limit: Limit, permit: Permit) -> int | None:
        """How long until a limit admits a waiter; None: until somebody gives a slot back."""
        if limit.kind is Kind.CONCURRENCY:
            return 0 if node.held < limit.amount else None
        units = min(permit.costs[UNITS[limit.kind]], limit.cap)
        if not permit.costs[UNITS[limit.kind]]:
            return 0
        if limit.anchor is not None:
            turn = limit.anchor + (limit.window + 1) * limit.period
            level = limit.cap * limit.den if self.at.wall >= turn else limit.level
            return 0 if level >= units * limit.den else max(1, turn - self.at.wall)
        level = min(limit.cap * limit.den, limit.level + limit.num * max(0, self.at.mono - limit.at))
        lack = units * limit.den - level
        return 0 if lack <= 0 else -(-lack // limit.num) + max(0, limit.at - self.at.mono)


def _name(order: Order) -> Name:
    return order[4], order[5]


def _is_below(node: str, permit: Permit) -> bool:
    return node in (f"{permit.account}#{permit.group}", permit.account, CLUSTER)
