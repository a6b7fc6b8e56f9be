"""An independent account of what the rules did, kept from the outside: which permits stand where after each operation.

It knows the laws, not the rules: charges are dated at their grant, corrected when the truth is known, and added up
anew. It reads permits (who, where, what it costs) and the figures of the limits in force; of levels and indices it
takes nothing on trust.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from tests.rules.support import place_of

from cross_instance.rules import records
from cross_instance.rules.operations import CLUSTER, Costs, Kind, Outcome, Settle, Source
from cross_instance.rules.records import State
from cross_instance.rules.tables import NODE, PERMIT

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant, Operation
    from cross_instance.rules.records import Limit, Node, Permit
    from cross_instance.testing import DictTables

Name = tuple[int, int]
TAKEN = (State.OFFERED, State.HELD, State.GHOST)
UNITS = {Kind.REQUESTS: 0, Kind.REQUESTS_DAY: 0, Kind.TOKENS: 1, Kind.INPUT_TOKENS: 2, Kind.OUTPUT_TOKENS: 3}


def path_of(permit: Permit) -> list[str]:
    """The names of the nodes whose limits hold for a permit."""
    names = [permit.account]
    if permit.group:
        names.append(f"{permit.account}#{permit.group}")
    if permit.clustered:
        names.append(CLUSTER)
    return names


def permits_in(tables: DictTables) -> dict[Name, Permit]:
    return {place_of(key): records.decode_permit(value) for key, value in tables.scan(PERMIT)}


def nodes_in(tables: DictTables) -> dict[str, Node]:
    return {key[1:-1].decode(): records.decode_node(value) for key, value in tables.scan(NODE)}


@dataclass
class Charge:
    """Units that a permit took of one limit at the instant of its grant."""

    name: Name
    at: Instant
    units: int


@dataclass
class History:
    """All that was charged to one limit while its figures stood."""

    figures: tuple[Any, ...]
    limit: Limit
    charges: list[Charge] = field(default_factory=list)

    def excess(self) -> int:
        """By how much (in units, scaled) some interval T saw more than `burst + rate * T`; 0 or less: none did."""
        burst = max([self.limit.burst, *(charge.units for charge in self.charges)])
        if self.limit.anchor is not None:
            used: Counter[int] = Counter()
            for charge in self.charges:
                used[(charge.at.wall - self.limit.anchor) // self.limit.period] += charge.units
            return max(used.values(), default=0) - burst
        debt = last = worst = 0
        for charge in self.charges:
            debt = max(0, debt - self.limit.amount * (charge.at.mono - last)) + charge.units * self.limit.period
            last, worst = charge.at.mono, max(worst, debt)
        return worst - burst * self.limit.period


class Book:
    """What was granted, charged and given back so far."""

    def __init__(self, tables: DictTables) -> None:
        self._tables = tables
        self.permits: dict[Name, Permit] = {}
        self.nodes: dict[str, Node] = {}
        self._before: dict[str, Node] = {}
        self.histories: dict[tuple[str, Kind], History] = {}
        self._relearned: set[tuple[str, Kind]] = set()
        self._charges: dict[Name, list[tuple[str, Kind, Charge]]] = {}
        self.granted: list[Name] = []
        self.returned: list[Name] = []

    def observe(self, op: Operation[Any], at: Instant) -> None:
        """Compare the permits before and after an operation, and write down what happened."""
        before, self.permits = self.permits, permits_in(self._tables)
        self._before, self.nodes = self.nodes, nodes_in(self._tables)
        self._note_figures()
        self.granted, self.returned = [], []
        for name in sorted({*before, *self.permits}):
            old, new = before.get(name), self.permits.get(name)
            if old is not None and old.state in TAKEN and (new is None or new.state not in TAKEN or _again(old, new)):
                self._ended(op, name, old)
            if new is not None and new.state in TAKEN and (old is None or old.state not in TAKEN or _again(old, new)):
                self._charge(name, new, at)

    def _note_figures(self) -> None:
        """A limit whose figures changed is another limit: its history begins anew.

        Where it was a grant that changed what is learned, what the operation granted before belongs to the old figures:
        then it begins with the next operation.
        """
        present = {}
        self._relearned = set()
        for node_name, node in self.nodes.items():
            for limit in node.limits:
                figures = (limit.amount, limit.burst, limit.period, limit.anchor)
                history = self.histories.get((node_name, limit.kind))
                if history is None or history.figures != figures:
                    if history is not None and Source.LEARNED in (history.limit.source, limit.source):
                        self._relearned.add((node_name, limit.kind))
                    history = History(figures, limit)
                history.limit = limit
                present[node_name, limit.kind] = history
        self.histories = present

    def _charge(self, name: Name, permit: Permit, at: Instant) -> None:
        self.granted.append(name)
        self._charges[name] = []
        for node in path_of(permit):
            for limit in self.nodes[node].limits:
                if limit.kind is not Kind.CONCURRENCY and (node, limit.kind) not in self._relearned:
                    charge = Charge(name, at, permit.costs[UNITS[limit.kind]])
                    self.histories[node, limit.kind].charges.append(charge)
                    self._charges[name].append((node, limit.kind, charge))

    def _ended(self, op: Operation[Any], name: Name, permit: Permit) -> None:
        """Now it is known what a permit really took: at most what it was charged, the rest is owed from now on."""
        self.returned.append(name)
        settled = op if isinstance(op, Settle) and (op.incarnation, op.seq) == name else None
        unsent = permit.state is State.OFFERED or type(op).__name__ == "Cancel"
        for node, kind, charge in self._charges.pop(name):
            limit = next((limit for limit in self._before[node].limits if limit.kind is kind), None)
            if unsent and settled is None:
                charge.units = 0
            elif settled is not None and limit is not None:
                charge.units = _real(settled, charge.units, limit)

    def held(self, node: str) -> int:
        """The slots taken at a node, ghosts included."""
        return sum(permit.state in TAKEN and node in path_of(permit) for permit in self.permits.values())

    def waiting(self, node: str) -> int:
        """The waiters below a node; the groups of an account, "" among them, are nodes of the queue."""
        return sum(
            permit.state is State.WAITING and node in {CLUSTER, *path_of(permit), f"{permit.account}#{permit.group}"}
            for permit in self.permits.values()
        )


def _again(old: Permit, new: Permit) -> bool:
    """Whether an offer lapsed and was made once more within one operation."""
    return old.state is State.OFFERED and new.state is State.OFFERED and old.expires != new.expires


def _real(settled: Settle, charged: int, limit: Limit) -> int:
    if settled.outcome is Outcome.IGNORED or (settled.outcome is Outcome.REJECTED and limit.refund):
        return 0
    if settled.usage is not None and limit.correct and UNITS[limit.kind]:
        return min(charged, _units(settled.usage)[UNITS[limit.kind]])
    return charged


def _units(costs: Costs) -> tuple[int, int, int, int]:
    return costs.requests, costs.tokens, costs.input_tokens, costs.output_tokens


def numbers_in(tables: DictTables) -> list[object]:
    """Every number in every stored value."""
    found: list[object] = []
    for key, value in tables.scan(b""):
        if len(value) == 8 and key[:1] in b"j\x81":
            found.append(int.from_bytes(value))
        elif value:
            _collect(msgspec.msgpack.decode(value), found)
    return found


def _collect(value: object, found: list[object]) -> None:
    if isinstance(value, dict):
        for one in (*value.keys(), *value.values()):
            _collect(one, found)
    elif isinstance(value, list):
        for one in value:
            _collect(one, found)
    elif isinstance(value, (int, float)):
        found.append(value)
