"""The shared queue: who is next.

1. A waiter within its instance's reserve comes first.
2. Then strict classes. With ageing, a waiter counts as one class higher for each such time it has waited.
3. Inside a class, start-time fair queueing across instances (Goyal, Vin and Cheng, 1996): a flow's head starts at
   max(virtual time, finish tag of what it last got); a grant moves the node's virtual time to that start and the
   flow's finish tag by cost / weight. Each node has its own virtual time, counted anew in each busy period.
4. Then first come, first served.
5. A waiter is eligible at a shared node when it heads its group's queue and passes every narrower limit. Among the
   eligible the first holds the claim on what frees, however large it is: nobody barges past it.
6. Only the head of each instance's class is indexed, so that no operation costs more in a longer queue.

`Order` is compared as a tuple: smaller goes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.ledger import Ledger, group_node
from cross_instance.rules.limits import refill_reserve
from cross_instance.rules.operations import CLUSTER
from cross_instance.rules.tables import HEAD, fifo_key, fifo_place, fifo_prefix, head_key, head_place, named

if TYPE_CHECKING:
    from cross_instance.rules.records import Node, Permit, Tag

COST = 16
"""What the share of one millionth costs at weight 1: enough for weights to divide, too little for tags to overflow."""


class Order(NamedTuple):
    """A waiter's place among others at one node."""

    unreserved: bool
    rank: int
    start: int
    arrival: int
    incarnation: int
    seq: int


def enqueue(ledger: Ledger, incarnation: int, seq: int, permit: Permit) -> None:
    """Put a waiter at its place: by its arrival, among those of its instance and class."""
    group = group_node(permit.account, permit.group)
    ledger.tables.put(fifo_key(group, incarnation, permit.rank, permit.arrival, seq), b"")
    _count(ledger, permit, incarnation, 1)
    tag = ledger.tag(group, incarnation)
    head = tag.heads.get(permit.rank)
    if head is None or (permit.arrival, seq) < head[1:]:
        _set_head(ledger, group, incarnation, permit, seq, head)


def dequeue(ledger: Ledger, incarnation: int, seq: int, permit: Permit) -> None:
    """Take a waiter out of the queue; the next of its instance's class becomes the head."""
    group = group_node(permit.account, permit.group)
    ledger.tables.delete(fifo_key(group, incarnation, permit.rank, permit.arrival, seq))
    _count(ledger, permit, incarnation, -1)
    tag = ledger.tag(group, incarnation)
    head = tag.heads[permit.rank]
    if head[1:] == (permit.arrival, seq):
        ledger.tables.delete(head_key(group, permit.rank, *head[:2], incarnation, head[2]))
        del tag.heads[permit.rank]
        _advance(ledger, group, incarnation, permit.rank, tag)


def _advance(ledger: Ledger, group: str, incarnation: int, rank: int, tag: Tag) -> None:
    found = ledger.tables.first(fifo_prefix(group, incarnation, rank))
    if found is not None:
        arrival, seq = fifo_place(found[0])
        _index(ledger, group, incarnation, rank, tag, (arrival, seq))


def _set_head(
    ledger: Ledger, group: str, incarnation: int, permit: Permit, seq: int, old: tuple[int, int, int] | None
) -> None:
    if old is not None:
        ledger.tables.delete(head_key(group, permit.rank, *old[:2], incarnation, old[2]))
    tag = ledger.tag(group, incarnation)
    _index(ledger, group, incarnation, permit.rank, tag, (permit.arrival, seq))


def _index(ledger: Ledger, group: str, incarnation: int, rank: int, tag: Tag, place: tuple[int, int]) -> None:
    start = start_tag(ledger.new_node(group), tag)
    tag.heads[rank] = (start, *place)
    flow = ledger.live_flow(account_of(group), incarnation)
    if not flow.asleep:
        ledger.tables.put(head_key(group, rank, start, place[0], incarnation, place[1]), b"")


def start_tag(node: Node, tag: Tag) -> int:
    """Where the next of this flow starts in a node's virtual time."""
    return max(node.virtual, tag.finish) if tag.busy == node.busy else node.virtual


def account_of(group: str) -> str:
    """The account of a group's node."""
    return group.partition("#")[0]


def advance_tags(ledger: Ledger, permit: Permit, incarnation: int) -> None:
    """Charge a grant to its flow at every node on its path, and index its other heads anew (rule 3)."""
    group = group_node(permit.account, permit.group)
    weight = ledger.live_flow(permit.account, incarnation).weight
    cost = max(1, permit.share * COST // weight)
    for name in (group, permit.account, CLUSTER) if permit.clustered else (group, permit.account):
        node, tag = ledger.new_node(name), ledger.tag(name, incarnation)
        node.virtual = start_tag(node, tag)
        tag.busy, tag.finish = node.busy, node.virtual + cost
    _reindex(ledger, group, incarnation)


def _reindex(ledger: Ledger, group: str, incarnation: int) -> None:
    tag = ledger.tag(group, incarnation)
    for rank, head in tuple(tag.heads.items()):
        ledger.tables.delete(head_key(group, rank, *head[:2], incarnation, head[2]))
        _index(ledger, group, incarnation, rank, tag, head[1:])


def set_asleep(ledger: Ledger, account: str, incarnation: int, asleep: bool) -> None:
    """Pass over a flow that lets its offers lapse, or count it in again."""
    flow = ledger.live_flow(account, incarnation)
    if flow.asleep == asleep:
        return
    flow.asleep = asleep
    for group in ledger.new_node(account).children:
        _reindex(ledger, group, incarnation)


def _count(ledger: Ledger, permit: Permit, incarnation: int, sign: int) -> None:
    """Count a waiter at every node on its path; a node's first waiter opens a busy period."""
    group = group_node(permit.account, permit.group)
    ledger.tag(group, incarnation).waiting += sign
    below = ""
    for name in (group, permit.account, CLUSTER) if permit.clustered else (group, permit.account):
        node = ledger.new_node(name)
        node.waiting += sign
        if below:
            _count_child(node, below, ledger.new_node(below).waiting)
        if sign > 0 and node.waiting == 1:
            node.busy += 1
            node.virtual = 0
            node.armed = (0, 0, 0)
        below = name


def _count_child(node: Node, child: str, waiting: int) -> None:
    if waiting and child not in node.children:
        node.children.append(child)
    elif not waiting and child in node.children:
        node.children.remove(child)


def first_of_group(ledger: Ledger, account: str, group: str) -> Order | None:
    """The waiter that comes first in a group, whether or not anything fits."""
    candidates = [*_within_reserve(ledger, account, group)]
    found = ledger.tables.first(named(HEAD, group))
    if found is not None:
        rank, tag, arrival, incarnation, seq = head_place(found[0])
        candidates.append(Order(True, rank, tag, arrival, incarnation, seq))
        ageing = ledger.new_node(account).ageing
        if ageing:
            candidates.extend(_aged(ledger, group, ageing))
    return min(candidates, default=None)


def _within_reserve(ledger: Ledger, account: str, group: str) -> list[Order]:
    """The best head of each instance that has not used its reserve up (few: those with a reserve in the config)."""
    orders = []
    for incarnation in ledger.new_node(account).reserved:
        flow = ledger.flow(account, incarnation)
        if flow is None or flow.asleep or not refill_reserve(flow, ledger.now):
            continue
        heads = ledger.tag(group, incarnation).heads
        if heads:
            rank = min(heads)
            start, arrival, seq = heads[rank]
            orders.append(Order(False, rank, start, arrival, incarnation, seq))
    return orders


def _aged(ledger: Ledger, group: str, ageing: int) -> list[Order]:
    """The head of each class in each flow, with its class raised by its age. Walks over the flows, not the waiters."""
    orders = []
    for key, _ in ledger.tables.scan(named(HEAD, group)):
        rank, tag, arrival, incarnation, seq = head_place(key)
        raised = max(0, rank - (ledger.now - arrival) // ageing)
        orders.append(Order(True, raised, tag, arrival, incarnation, seq))
    return orders


def order_at(ledger: Ledger, node: str, order: Order) -> Order:
    """The same waiter's place at a wider node, by that node's own virtual time."""
    start = start_tag(ledger.new_node(node), ledger.tag(node, order.incarnation))
    return order._replace(start=start)
