"""Admission: whoever comes first is granted whatever fits, in the operation in which it comes to fit.

1. All or nothing: a grant takes from every limit on its path, in one operation.
2. Work conserving: after `admit` no eligible waiter that fits is left ungranted.
3. A waiter granted in somebody else's operation gets an offer and a wake. An offer not taken within 250 ms passes on;
   its flow sleeps until it is heard of again, so that a stopped process delays the others once, not once a waiter.
4. Where a first waiter must wait for time to pass, its timer is armed at the exact instant, and the next flow's as a
   backup. Where it waits for somebody to give back, nobody needs a timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import usage
from cross_instance.rules.ledger import Ledger, Path, group_node
from cross_instance.rules.limits import BUCKETS, charge, hold_of, refill_reserve, uncharge
from cross_instance.rules.operations import CLUSTER, FOREVER, MINUTE, Wake
from cross_instance.rules.queue import (
    Order,
    account_of,
    advance_tags,
    dequeue,
    enqueue,
    first_of_group,
    order_at,
    set_asleep,
)
from cross_instance.rules.records import Flow, Permit, State
from cross_instance.rules.tables import EXPIRY, HEAD, expiry_key, expiry_place, head_place, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.records import Node

OFFER = 250_000
"""How long an offer stands, in µs."""

BACKUP = 100_000
"""How much later than the first waiter the next flow looks, in µs."""


def charge_path(ledger: Ledger, path: Path, flow: Flow, permit: Permit) -> None:
    """Charge a permit to every limit on its path, and to its instance."""
    permit.marks = tuple(mark for _, node in path for mark in charge(node, permit.costs))
    usage.count(flow, ledger.now)
    if flow.reserve and refill_reserve(flow, ledger.now):
        permit.reserved = True
        flow.level -= MINUTE
    permit.epochs = path[0][1].epochs


def uncharge_path(ledger: Ledger, incarnation: int, permit: Permit) -> None:
    """Undo `charge_path`: the request was never sent."""
    for (_, node), marks in with_marks(ledger, permit):
        uncharge(node, permit.costs, marks)
    flow = ledger.flow(permit.account, incarnation)
    if flow is not None:
        usage.uncount(flow, permit.arrival)
        flow.level += MINUTE * permit.reserved
    ledger.touched.add(permit.account)


def with_marks(ledger: Ledger, permit: Permit) -> Iterator[tuple[tuple[str, Node], tuple[int, ...]]]:
    """The nodes on a granted permit's path, each with its marks. A node that came later has none."""
    marks = permit.marks
    for place, node in enumerate(ledger.path(permit)):
        yield node, marks[place * BUCKETS : (place + 1) * BUCKETS] or (0,) * BUCKETS


def free_slots(ledger: Ledger, permit: Permit) -> None:
    """Return what a permit held; what it was charged stays charged."""
    for _, node in ledger.path(permit):
        node.held -= 1
    ledger.touched.add(permit.account)


def admit(ledger: Ledger) -> None:
    """Grant all that fits, in order, wherever this operation may have freed something."""
    expire(ledger)
    if ledger.node(CLUSTER) is not None:
        _admit_below(ledger, CLUSTER)
    else:
        for account in sorted(ledger.touched):
            _admit_below(ledger, account)


def _admit_below(ledger: Ledger, root: str) -> None:
    node = ledger.node(root)
    while node is not None and node.waiting:
        first = _first_that_fits(ledger, root)
        if first is None:
            return
        _grant(ledger, first)


def _first_that_fits(ledger: Ledger, name: str) -> Order | None:
    """The waiter below a node that every limit up to and including the node's own admits, in the node's order.

    The first of the eligible waiters claims what frees here: if it does not fit, nobody does, and its timer is set.
    """
    node = ledger.new_node(name)
    first = None
    if "#" in name:
        first = _live_first(ledger, name)
    else:
        for child in tuple(node.children):
            below = _first_that_fits(ledger, child)
            if below is not None:
                here = order_at(ledger, name, below)
                first = here if first is None else min(first, here)
    if first is None:
        return None
    permit = ledger.known_permit(first.incarnation, first.seq)
    hold = hold_of(node, permit.costs, ledger.at)
    delay = max(hold.delay, node.paused_until - ledger.now)
    if delay <= 0 and hold.slots is None:
        return first
    _arm(ledger, node, first, FOREVER if hold.slots is not None else delay)
    return None


def _live_first(ledger: Ledger, group: str) -> Order | None:
    """The first of a group; waiters past their deadline are dropped on the way."""
    while True:
        first = first_of_group(ledger, account_of(group), group)
        if first is None:
            return None
        permit = ledger.known_permit(first.incarnation, first.seq)
        if permit.deadline >= ledger.now:
            return first
        dequeue(ledger, first.incarnation, first.seq, permit)
        ledger.drop_permit(first.incarnation, first.seq)


def _grant(ledger: Ledger, order: Order) -> None:
    name = (order.incarnation, order.seq)
    permit = ledger.known_permit(*name)
    charge_path(ledger, ledger.path(permit), ledger.live_flow(permit.account, order.incarnation), permit)
    if order.unreserved:
        advance_tags(ledger, permit, order.incarnation)
    dequeue(ledger, *name, permit)
    if name == ledger.caller:
        permit.state = State.HELD
    else:
        permit.state = State.OFFERED
        permit.expires = ledger.now + OFFER
        ledger.tables.put(expiry_key(permit.expires, *name), b"")
        ledger.wakes.append(Wake(*name, ledger.now))


def _arm(ledger: Ledger, node: Node, first: Order, delay: int) -> None:
    """Tell the first waiter when to look again: at the instant it fits, or when an offer passes on before that."""
    at = min(ledger.now + delay, FOREVER, _next_expiry(ledger))
    armed = (first.incarnation, first.seq, at)
    if at == FOREVER:
        node.armed = (0, 0, 0)
    if at == FOREVER or armed == node.armed:
        return
    node.armed = armed
    if armed[:2] != ledger.caller:
        ledger.wakes.append(Wake(*armed))
    backup = _other_flow(ledger, first)
    if backup is not None:
        ledger.wakes.append(Wake(*backup, at + BACKUP))


def _other_flow(ledger: Ledger, first: Order) -> tuple[int, int] | None:
    """The head of another instance, where one stands among the first few of the same group."""
    permit = ledger.known_permit(first.incarnation, first.seq)
    group = group_node(permit.account, permit.group)
    for place, (key, _) in enumerate(ledger.tables.scan(named(HEAD, group))):
        *_, incarnation, seq = head_place(key)
        if incarnation != first.incarnation:
            return incarnation, seq
        if place == 4:
            break
    return None


def _next_expiry(ledger: Ledger) -> int:
    found = ledger.tables.first(EXPIRY)
    return FOREVER if found is None else expiry_place(found[0])[0]


def expire(ledger: Ledger) -> None:
    """Pass on the offers that were not taken, and end the ghosts whose grace is over."""
    while True:
        found = ledger.tables.first(EXPIRY)
        if found is None:
            return
        at, incarnation, seq = expiry_place(found[0])
        if at > ledger.now:
            return
        ledger.tables.delete(found[0])
        permit = ledger.permit(incarnation, seq)
        if permit is None:
            continue
        if permit.state is State.OFFERED:
            _pass_on(ledger, incarnation, seq, permit)
        elif permit.state is State.GHOST:
            free_slots(ledger, permit)
            ledger.drop_permit(incarnation, seq)


def _pass_on(ledger: Ledger, incarnation: int, seq: int, permit: Permit) -> None:
    uncharge_path(ledger, incarnation, permit)
    permit.state = State.WAITING
    permit.expires = 0
    enqueue(ledger, incarnation, seq, permit)
    set_asleep(ledger, permit.account, incarnation, True)
