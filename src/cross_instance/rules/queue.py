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

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.limits import refill_reserve
from cross_instance.rules.tables import HEAD, fifo_key, fifo_place, fifo_prefix, head_key, head_place, named

if TYPE_CHECKING:
    from cross_instance.rules.ledger import Ledger, Path
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
    line, rank = ledger.line(permit), permit.rank
    group, node = line[0]
    tag = ledger.tag(group, incarnation)
    ledger.tables.put(fifo_key(group, incarnation, rank, permit.arrival, seq), b"")
    _count(line, tag, 1)
    place, head = (permit.arrival, seq), tag.heads.get(rank)
    if head is None:
        _index(ledger, group, node, tag, incarnation, rank, place)
    elif place < head[1:]:
        ledger.tables.delete(head_key(group, rank, *head[:2], incarnation, head[2]))
        _index(ledger, group, node, tag, incarnation, rank, place)


def dequeue(ledger: Ledger, incarnation: int, seq: int, permit: Permit, *, charged: bool = False) -> None:
    """Take a waiter out of the queue; the next of its instance's class becomes the head.

    `charged`: it is granted, and its flow pays for it (rule 3).
    """
    line, rank = ledger.line(permit), permit.rank
    group, node = line[0]
    tag = ledger.tag(group, incarnation)
    ledger.tables.delete(fifo_key(group, incarnation, rank, permit.arrival, seq))
    _count(line, tag, -1)
    head = tag.heads[rank]
    was_head = head[1:] == (permit.arrival, seq)
    if was_head:
        ledger.tables.delete(head_key(group, rank, *head[:2], incarnation, seq))
        del tag.heads[rank]
    if charged:
        _charge_flow(ledger, permit, line, incarnation)
        _reindex(ledger, group, node, tag, incarnation)
    if was_head:
        following = ledger.tables.first(fifo_prefix(group, incarnation, rank))
        if following is not None:
            _index(ledger, group, node, tag, incarnation, rank, fifo_place(following[0]))


def _index(
    ledger: Ledger, group: str, node: Node, tag: Tag, incarnation: int, rank: int, place: tuple[int, int]
) -> None:
    start = start_tag(node, tag)
    tag.heads[rank] = (start, *place)
    if not ledger.live_flow(account_of(group), incarnation).asleep:
        ledger.tables.put(head_key(group, rank, start, place[0], incarnation, place[1]), b"")


def start_tag(node: Node, tag: Tag) -> int:
    """Where the next of this flow starts in a node's virtual time."""
    return max(node.virtual, tag.finish) if tag.busy == node.busy else node.virtual


@lru_cache(maxsize=4096)
def account_of(group: str) -> str:
    """The account of a group's node."""
    return group.partition("#")[0]


def _charge_flow(ledger: Ledger, permit: Permit, line: Path, incarnation: int) -> None:
    """Move a flow's tags, and the virtual times, by what a grant costs (rule 3)."""
    weight = ledger.live_flow(permit.account, incarnation).weight
    cost = max(1, permit.share * COST // weight)
    for name, node in line:
        tag = ledger.tag(name, incarnation)
        node.virtual = start_tag(node, tag)
        tag.busy, tag.finish = node.busy, node.virtual + cost


def _reindex(ledger: Ledger, group: str, node: Node, tag: Tag, incarnation: int) -> None:
    """Place the heads of a flow anew, after its tag or its being awake has changed."""
    for rank, head in tuple(tag.heads.items()):
        ledger.tables.delete(head_key(group, rank, *head[:2], incarnation, head[2]))
        _index(ledger, group, node, tag, incarnation, rank, head[1:])


def set_asleep(ledger: Ledger, account: str, incarnation: int, asleep: bool) -> None:
    """Pass over a flow that lets its offers lapse, or count it in again."""
    flow = ledger.live_flow(account, incarnation)
    if flow.asleep == asleep:
        return
    flow.asleep = asleep
    for group in ledger.new_node(account).children:
        _reindex(ledger, group, ledger.new_node(group), ledger.tag(group, incarnation), incarnation)


def _count(line: Path, tag: Tag, sign: int) -> None:
    """Count a waiter at every node of its line; a node's first waiter opens a busy period."""
    tag.waiting += sign
    below: tuple[str, int] | None = None
    for name, node in line:
        node.waiting = waiting = node.waiting + sign
        if below is not None:
            _count_child(node, *below)
        if sign > 0 and waiting == 1:
            node.busy += 1
            node.virtual = 0
            node.armed = (0, 0, 0)
        below = name, waiting


def _count_child(node: Node, child: str, waiting: int) -> None:
    if waiting and child not in node.children:
        node.children.append(child)
    elif not waiting and child in node.children:
        node.children.remove(child)


def first_of_group(ledger: Ledger, group: str) -> Order | None:
    """The waiter that comes first in a group, whether or not anything fits."""
    found = ledger.tables.first(named(HEAD, group))
    first = None
    if found is not None:
        rank, tag, arrival, incarnation, seq = head_place(found[0])
        first = Order(True, rank, tag, arrival, incarnation, seq)
    account = ledger.new_node(account_of(group))
    if not account.reserved and not account.ageing:
        return first
    candidates = _within_reserve(ledger, account, group)
    if first is not None:
        candidates.append(first)
        if account.ageing:
            candidates.extend(_aged(ledger, group, account.ageing))
    return min(candidates, default=None)


def _within_reserve(ledger: Ledger, account: Node, group: str) -> list[Order]:
    """The best head of each instance that has not used its reserve up (few: those with a reserve in the config)."""
    orders = []
    for incarnation, _ in account.reserved:
        flow = ledger.flow(account_of(group), incarnation)
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


def order_at(ledger: Ledger, name: str, node: Node, order: Order) -> Order:
    """The same waiter's place at a wider node, by that node's own virtual time."""
    return order._replace(start=start_tag(node, ledger.tag(name, order.incarnation)))
