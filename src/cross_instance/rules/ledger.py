"""The records that one operation works on: each is read once, changed in place, and written once at the end.

Reading a node or a flow brings its buckets to the operation's instant, so that whoever asks sees the present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import records
from cross_instance.rules.limits import refill
from cross_instance.rules.operations import CLUSTER, Instant, Notice, Wake
from cross_instance.rules.tables import (
    FLOW,
    INSTANCE,
    NODE,
    TAG,
    Tables,
    named,
    numbered,
    permit_key,
)

if TYPE_CHECKING:
    from cross_instance.rules.records import Flow, Instance, Node, Permit, Record, Tag

USED_SLOT = 5_000_000
USED_SLOTS = 12
"""Current usage covers the last 60 s in slots of five seconds."""


def group_node(account: str, group: str) -> str:
    """The name of a model group's node; "" is the group of all models without a pattern."""
    return f"{account}#{group}"


class Ledger:
    """What one operation has read and changed.

    `touched` are the accounts in which capacity may have come free; `wakes` and `notices` go into the result.
    """

    __slots__ = ("_read", "at", "caller", "notices", "now", "tables", "touched", "wakes")

    def __init__(self, tables: Tables, at: Instant) -> None:
        self.tables = tables
        self.at = at
        self.now = at.mono
        self.caller = (0, 0)
        self.wakes: list[Wake] = []
        self.notices: list[Notice] = []
        self.touched: set[str] = set()
        self._read: dict[bytes, Record | None] = {}

    def node(self, name: str) -> Node | None:
        """A node with its limits refilled, or None."""
        key = NODE + name.encode() + b"\0"
        if key in self._read:
            return self._read[key]  # type: ignore[return-value]  # a key's table decides its type
        value = self.tables.get(key)
        node = None if value is None else records.decode_node(value)
        if node is not None:
            for limit in node.limits:
                refill(limit, self.at)
        self._read[key] = node
        return node

    def new_node(self, name: str) -> Node:
        """The node, made without limits where there was none."""
        node = self.node(name)
        if node is None:
            node = self._read[named(NODE, name)] = records.Node()
        return node

    def path(self, permit: Permit) -> list[tuple[str, Node]]:
        """The nodes whose limits hold for a permit, narrowest first."""
        names = [group_node(permit.account, permit.group)] if permit.group else []
        names.append(permit.account)
        if permit.clustered:
            names.append(CLUSTER)
        return [(name, self.new_node(name)) for name in names]

    def flow(self, account: str, incarnation: int) -> Flow | None:
        """An instance at an account, or None where it published nothing for it (or is gone)."""
        key = numbered(FLOW, incarnation) + account.encode() + b"\0"
        if key in self._read:
            return self._read[key]  # type: ignore[return-value]
        value = self.tables.get(key)
        flow = self._read[key] = None if value is None else records.decode_flow(value)
        return flow

    def new_flow(self, account: str, incarnation: int) -> Flow:
        """The flow, made where there was none."""
        flow = self.flow(account, incarnation)
        if flow is None:
            flow = self._read[numbered(FLOW, incarnation) + account.encode() + b"\0"] = records.Flow()
        return flow

    def tag(self, node: str, incarnation: int) -> Tag:
        """An instance in a node's fair queue."""
        key = numbered(TAG, incarnation) + node.encode() + b"\0"
        tag = self._read.get(key)
        if tag is None:
            value = self.tables.get(key)
            tag = self._read[key] = records.Tag() if value is None else records.decode_tag(value)
        return tag  # type: ignore[return-value]

    def permit(self, incarnation: int, seq: int) -> Permit | None:
        """A permit or waiter, or None."""
        key = permit_key(incarnation, seq)
        if key in self._read:
            return self._read[key]  # type: ignore[return-value]
        value = self.tables.get(key)
        permit = self._read[key] = None if value is None else records.decode_permit(value)
        return permit

    def add_permit(self, incarnation: int, seq: int, permit: Permit) -> None:
        """Keep a new permit."""
        self._read[permit_key(incarnation, seq)] = permit

    def instance(self, incarnation: int) -> Instance | None:
        """A live instance, or None."""
        key = numbered(INSTANCE, incarnation)
        if key in self._read:
            return self._read[key]  # type: ignore[return-value]
        value = self.tables.get(key)
        instance = self._read[key] = None if value is None else records.decode_instance(value)
        return instance

    def add_instance(self, incarnation: int, instance: Instance) -> None:
        """Keep a new instance."""
        self._read[numbered(INSTANCE, incarnation)] = instance

    def drop(self, key: bytes) -> None:
        """Remove a record, read or not."""
        self._read.pop(key, None)
        self.tables.delete(key)
        self._read[key] = None

    def forget(self, prefix: bytes) -> None:
        """Do not write what was read or made below a prefix."""
        for key in self._read:
            if key.startswith(prefix):
                self._read[key] = None

    def has_cluster(self) -> bool:
        """Whether limits across accounts are set."""
        return self.node(CLUSTER) is not None

    def close(self) -> None:
        """Write what was changed; a record that was only read is written as it was."""
        put, encode = self.tables.put, records.encode
        for key, record in self._read.items():
            if record is not None:
                put(key, encode(record))


def count_use(flow: Flow, now: int) -> None:
    """Note one grant."""
    _turn(flow, now)
    flow.used[-1] += 1


def recent_use(flow: Flow, now: int) -> int:
    """How many grants the last 60 s saw."""
    age = now // USED_SLOT - flow.slot
    return sum(flow.used[age:]) if age < USED_SLOTS else 0


def _turn(flow: Flow, now: int) -> None:
    slot = now // USED_SLOT
    if slot != flow.slot or not flow.used:
        shift = min(max(slot - flow.slot, 0), USED_SLOTS) if flow.used else USED_SLOTS
        flow.used = [*flow.used[shift:], *[0] * shift]
        flow.slot = slot
