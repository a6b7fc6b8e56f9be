"""The records that one operation works on: each is read once, changed in place, and written once at the end.

1. Reading a node brings its limits to the operation's instant, so that whoever asks sees the present.
2. Only what has changed is written: what encodes to the bytes that were read is left alone.
3. A waiter counts at the cluster's node while its account does; a permit that was charged, while it says so itself.
   So the first limit of the cluster changes no waiter, however many there are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cross_instance.rules import records
from cross_instance.rules.learning_records import decode_learned
from cross_instance.rules.limits import refill
from cross_instance.rules.operations import CLUSTER, Instant, Notice, Wake
from cross_instance.rules.tables import FLOW, INSTANCE, LEARNED, NODE, TAG, Tables, named, numbered, permit_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cross_instance.rules.learning_records import Learned
    from cross_instance.rules.records import Flow, Instance, Node, Permit, Record, Tag

Path = list[tuple[str, "Node"]]
"""Nodes that a permit has to do with, narrowest first, with their names."""


@lru_cache(maxsize=4096)
def group_node(account: str, group: str) -> str:
    """The name of a model group's node; "" is the group of all models without a pattern."""
    return f"{account}#{group}"


@lru_cache(maxsize=4096)
def node_key(name: str) -> bytes:
    """Where a node is kept."""
    return named(NODE, name)


def learned_key(name: str) -> bytes:
    """Where what is learned at a node is kept."""
    return named(LEARNED, name)


@lru_cache(maxsize=4096)
def flow_key(name: tuple[str, int]) -> bytes:
    """Where the flow (account, incarnation) is kept."""
    return numbered(FLOW, name[1]) + name[0].encode() + b"\0"


@lru_cache(maxsize=4096)
def tag_key(name: tuple[str, int]) -> bytes:
    """Where the tag (node, incarnation) is kept."""
    return numbered(TAG, name[1]) + name[0].encode() + b"\0"


def instance_key(incarnation: int) -> bytes:
    """Where an instance is kept."""
    return numbered(INSTANCE, incarnation)


def _permit_key(name: tuple[int, int]) -> bytes:
    return permit_key(*name)


class Ledger:
    """What one operation has read and changed; None stands for what is not there (any more).

    `touched` are the accounts in which capacity may have come free; `wakes` and `notices` go into the result.
    `next_expiry` is when the next offer or ghost ends, once what had ended by now is out of the way (0: it is not yet).
    """

    __slots__ = (
        "_bytes",
        "_flows",
        "_instances",
        "_learned",
        "_lines",
        "_nodes",
        "_paths",
        "_permits",
        "_tags",
        "at",
        "caller",
        "next_expiry",
        "notices",
        "now",
        "tables",
        "touched",
        "wakes",
    )

    def __init__(self, tables: Tables, at: Instant) -> None:
        self.tables = tables
        self.at = at
        self.now = at.mono
        self.caller = (0, 0)
        self.wakes: list[Wake] = []
        self.notices: list[Notice] = []
        self.touched: set[str] = set()
        self.next_expiry = 0
        self._bytes: dict[bytes, bytes] = {}
        self._paths: dict[tuple[str, str, bool], Path] = {}
        self._lines: dict[tuple[str, bool], Path] = {}
        self._nodes: dict[str, Node | None] = {}
        self._learned: dict[str, Learned | None] = {}
        self._flows: dict[tuple[str, int], Flow | None] = {}
        self._tags: dict[tuple[str, int], Tag | None] = {}
        self._permits: dict[tuple[int, int], Permit | None] = {}
        self._instances: dict[int, Instance | None] = {}

    def _get(self, key: bytes) -> bytes | None:
        """What is stored, remembered for `close`."""
        value = self.tables.get(key)
        if value is not None:
            self._bytes[key] = value
        return value

    def _delete(self, key: bytes) -> None:
        self.tables.delete(key)
        self._bytes.pop(key, None)

    def node(self, name: str) -> Node | None:
        """A node with its limits refilled, or None."""
        if name in self._nodes:
            return self._nodes[name]
        value = self._get(node_key(name))
        if value is None:
            self._nodes[name] = None
            return None
        node = self._nodes[name] = records.decode_node(value)
        for limit in node.limits:
            if limit.at < self.now:
                refill(limit, self.at)
        return node

    def new_node(self, name: str) -> Node:
        """The node, made without limits where there was none."""
        node = self.node(name)
        if node is None:
            node = self._nodes[name] = records.Node()
        return node

    def drop_node(self, name: str) -> None:
        """Remove a node at which nothing is counted any more."""
        self._nodes[name] = None
        self._delete(node_key(name))

    def learned(self, name: str) -> Learned | None:
        """What is learned at a node, or None."""
        if name not in self._learned:
            value = self._get(learned_key(name))
            self._learned[name] = None if value is None else decode_learned(value)
        return self._learned[name]

    def add_learned(self, name: str, learned: Learned) -> None:
        """Keep what begins to be learned."""
        self._learned[name] = learned

    def drop_learned(self, name: str) -> None:
        """Forget what is learned at a node."""
        self._learned[name] = None
        self._delete(learned_key(name))

    def path(self, permit: Permit) -> Path:
        """The nodes whose limits hold for a permit, narrowest first; a model without a pattern has no group."""
        route = (permit.account, permit.group, self._is_clustered(permit))
        path = self._paths.get(route)
        if path is None:
            names = [group_node(permit.account, permit.group)] if permit.group else []
            names.append(permit.account)
            if permit.clustered:
                names.append(CLUSTER)
            path = self._paths[route] = [(name, self.new_node(name)) for name in names]
        return path

    def _is_clustered(self, permit: Permit) -> bool:
        if permit.state is records.State.WAITING:
            permit.clustered = self.new_node(permit.account).clustered
        return permit.clustered

    def line(self, permit: Permit) -> Path:
        """The nodes at which a permit queues: those of its path, below them also the group of models without one."""
        if permit.group:
            return self.path(permit)
        route = (permit.account, self._is_clustered(permit))
        line = self._lines.get(route)
        if line is None:
            group = group_node(permit.account, "")
            line = self._lines[route] = [(group, self.new_node(group)), *self.path(permit)]
        return line

    def flow(self, account: str, incarnation: int) -> Flow | None:
        """An instance at an account, or None where it published nothing for it (or is gone)."""
        name = (account, incarnation)
        if name in self._flows:
            return self._flows[name]
        value = self._get(flow_key(name))
        flow = self._flows[name] = None if value is None else records.decode_flow(value)
        return flow

    def live_flow(self, account: str, incarnation: int) -> Flow:
        """The flow of an instance that has permits or waiters at the account."""
        flow = self.flow(account, incarnation)
        assert flow is not None, f"instance {incarnation} is unknown at {account}"
        return flow

    def new_flow(self, account: str, incarnation: int) -> Flow:
        """The flow, made where there was none; only for a live instance, since a flow is what lets it acquire."""
        flow = self.flow(account, incarnation)
        if flow is None:
            flow = self._flows[account, incarnation] = records.Flow()
        return flow

    def tag(self, node: str, incarnation: int) -> Tag:
        """An instance in a node's fair queue."""
        name = (node, incarnation)
        tag = self._tags.get(name)
        if tag is None:
            value = self._get(tag_key(name))
            tag = self._tags[name] = records.Tag() if value is None else records.decode_tag(value)
        return tag

    def permit(self, incarnation: int, seq: int) -> Permit | None:
        """A permit or waiter, or None."""
        name = (incarnation, seq)
        if name in self._permits:
            return self._permits[name]
        value = self._get(permit_key(incarnation, seq))
        permit = self._permits[name] = None if value is None else records.decode_permit(value)
        return permit

    def known_permit(self, incarnation: int, seq: int) -> Permit:
        """A permit that stands in the queue, and so exists."""
        permit = self.permit(incarnation, seq)
        assert permit is not None, f"waiter {incarnation}.{seq} is queued but unknown"
        return permit

    def add_permit(self, incarnation: int, seq: int, permit: Permit) -> None:
        """Keep a new permit."""
        self._permits[incarnation, seq] = permit

    def drop_permit(self, incarnation: int, seq: int) -> None:
        """Remove a permit."""
        self._permits[incarnation, seq] = None
        self._delete(permit_key(incarnation, seq))

    def instance(self, incarnation: int) -> Instance | None:
        """A live instance, or None."""
        if incarnation in self._instances:
            return self._instances[incarnation]
        value = self._get(instance_key(incarnation))
        instance = self._instances[incarnation] = None if value is None else records.decode_instance(value)
        return instance

    def live_instance(self, incarnation: int) -> Instance:
        """An instance that is known to live."""
        instance = self.instance(incarnation)
        assert instance is not None, f"instance {incarnation} is unknown"
        return instance

    def add_instance(self, incarnation: int, instance: Instance) -> None:
        """Keep a new instance."""
        self._instances[incarnation] = instance

    def drop_instance(self, incarnation: int) -> None:
        """Remove an instance with its flows and tags."""
        self._instances[incarnation] = None
        self._delete(instance_key(incarnation))
        for table in (FLOW, TAG):
            for key, _ in [*self.tables.scan(numbered(table, incarnation))]:
                self._delete(key)
        for read in (self._flows, self._tags):
            for name in [name for name in read if name[1] == incarnation]:
                read[name] = None

    def close(self) -> None:
        """Write every record that has changed."""
        tables: tuple[tuple[Mapping[Any, Record | None], Callable[[Any], bytes]], ...] = (
            (self._nodes, node_key),
            (self._learned, learned_key),
            (self._instances, instance_key),
            (self._flows, flow_key),
            (self._tags, tag_key),
            (self._permits, _permit_key),
        )
        for read, key_of in tables:
            for name, record in read.items():
                if record is not None:
                    key, value = key_of(name), records.encode(record)
                    if self._bytes.get(key) != value:
                        self.tables.put(key, value)
