"""Admission: whoever comes first is granted whatever fits, in the operation in which it comes to fit.

1. All or nothing: a grant takes from every limit on its path, in one operation.
2. Work conserving: after `admit` no eligible waiter that fits is left ungranted.
3. A waiter granted in somebody else's operation gets an offer and a wake. An offer not taken within 250 ms passes on;
   its flow sleeps until it is heard of again, so that a stopped process delays the others once, not once a waiter.
4. Where a first waiter must wait for time to pass, its timer is armed at the exact instant, and the next flow's as a
   backup. Where it waits for somebody to give back, nobody needs a timer; for an offer that may lapse, which is an
   exception itself, the slow look that every waiter takes is backup enough.
5. A waiter that now exceeds a limit by itself (law 7: the limit was lowered, or told, while it waited) is never
   granted: it is woken, and refused with the figures when it asks.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from cross_instance.rules import learning_desk as learner, usage
from cross_instance.rules.learning import Stamp
from cross_instance.rules.ledger import Ledger, Path, group_node
from cross_instance.rules.limits import BUCKETS, FREE, charge, hold_of, refill_reserve, uncharge
from cross_instance.rules.operations import CLUSTER, FOREVER, MINUTE, Kind, Source, Wake
from cross_instance.rules.queue import Order, dequeue, enqueue, first_of_group, order_at, set_asleep
from cross_instance.rules.records import Flow, Permit, State
from cross_instance.rules.specs import rebuild
from cross_instance.rules.tables import EXPIRY, HEAD, expiry_key, expiry_place, head_place, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.records import Node

Candidate = tuple[Order, Permit]
"""A waiter and its place at the node that is being looked at."""

GROWING = (Source.LEARNED, Source.GUESS)
"""Where slots come from that may grow."""

OFFER = 250_000
"""How long an offer stands, in µs."""

BACKUP = 100_000
"""How much later than the first waiter the next flow looks, in µs."""


def charge_path(ledger: Ledger, path: Path, flow: Flow, permit: Permit) -> None:
    """Charge a permit to every limit on its path, and to its instance."""
    marks = charge(path[0][1], permit.costs)
    for _, node in path[1:]:
        marks += charge(node, permit.costs)
    permit.marks = tuple(marks)
    usage.count(flow, ledger.now)
    if flow.reserve and refill_reserve(flow, ledger.now):
        permit.reserved = True
        flow.level -= MINUTE
    permit.epochs = path[0][1].epochs
    _stamp(ledger, path, permit)


def _stamp(ledger: Ledger, path: Path, permit: Permit) -> None:
    """Count a grant, and let the learner know where it wants to."""
    first, changed = path[0][1], False
    permit.stamp = (first.granted, ledger.now, first.held - 1, 0)
    for name, node in path:
        stamp = Stamp(node.granted, ledger.now, node.held - 1)
        node.granted += 1
        if name != CLUSTER and (node.watch <= ledger.now or _is_full(node)):
            changed |= learner.granted(ledger, name, node, permit, stamp)
    if changed:
        rebuild(ledger, permit.account)


def _is_full(node: Node) -> bool:
    """Whether the last of slots is taken that are guessed or learned: that lets them grow."""
    slots = (limit for limit in node.limits if limit.kind is Kind.CONCURRENCY and limit.source in GROWING)
    return any(node.held >= limit.amount for limit in slots)


def uncharge_path(ledger: Ledger, incarnation: int, permit: Permit) -> None:
    """Undo `charge_path`: the request was never sent."""
    for (_, node), marks in with_marks(ledger, permit):
        uncharge(node, permit.costs, marks)
        node.granted -= 1
    flow = ledger.flow(permit.account, incarnation)
    if flow is not None:
        usage.uncount(flow, permit.arrival)
        flow.level += MINUTE * permit.reserved
    permit.reserved = False
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


def admit(ledger: Ledger) -> bool:
    """Grant all that fits, in order, wherever this operation may have freed something; whether anything came of it."""
    changed = expire(ledger)
    if ledger.node(CLUSTER) is not None:
        return _admit_below(ledger, CLUSTER) or changed
    for account in sorted(ledger.touched):
        changed |= _admit_below(ledger, account)
    return changed


def _admit_below(ledger: Ledger, root: str) -> bool:
    node = ledger.node(root)
    changed = False
    while node is not None and node.waiting:
        first = _first_that_fits(ledger, root, node)
        if first is None:
            break
        _grant(ledger, *first)
        changed = True
    return changed


def _first_that_fits(ledger: Ledger, name: str, node: Node) -> Candidate | None:
    """The waiter below a node that every limit up to and including the node's own admits, in the node's order.

    The first of the eligible waiters claims what frees here: if it does not fit, nobody does, and its timer is set.
    """
    while True:
        first = _live_first(ledger, name) if "#" in name else _first_of_children(ledger, name, node)
        if first is None:
            return None
        order, permit = first
        hold = hold_of(node, permit.costs, ledger.at) if node.limits else FREE
        if hold is FREE and node.paused_until <= ledger.now:
            return first
        if hold.excess is None:
            delay = max(hold.delay, node.paused_until - ledger.now)
            _arm(ledger, node, order, permit, FOREVER if hold.slots is not None else delay)
            return None
        _dismiss(ledger, order, permit)
        ledger.wakes.append(Wake(order.incarnation, order.seq, ledger.now))


def _first_of_children(ledger: Ledger, name: str, node: Node) -> Candidate | None:
    """The first, by the node's own order, of those that pass the limits of each node below."""
    children = tuple(node.children)
    found = [first for child in children if (first := _first_that_fits(ledger, child, ledger.new_node(child)))]
    if len(found) <= 1:
        return found[0] if found else None
    return min(((order_at(ledger, name, node, order), permit) for order, permit in found), key=itemgetter(0))


def _live_first(ledger: Ledger, group: str) -> Candidate | None:
    """The first of a group; waiters past their deadline are dropped on the way."""
    while True:
        first = first_of_group(ledger, group)
        if first is None:
            return None
        permit = ledger.known_permit(first.incarnation, first.seq)
        if permit.deadline >= ledger.now:
            return first, permit
        _dismiss(ledger, first, permit)


def _dismiss(ledger: Ledger, order: Order, permit: Permit) -> None:
    dequeue(ledger, order.incarnation, order.seq, permit)
    ledger.drop_permit(order.incarnation, order.seq)


def _grant(ledger: Ledger, order: Order, permit: Permit) -> None:
    name = (order.incarnation, order.seq)
    charge_path(ledger, ledger.path(permit), ledger.live_flow(permit.account, order.incarnation), permit)
    dequeue(ledger, *name, permit, charged=order.unreserved)
    if name == ledger.caller:
        permit.state = State.HELD
    else:
        permit.state = State.OFFERED
        permit.expires = ledger.now + OFFER
        ledger.next_expiry = min(ledger.next_expiry, permit.expires)
        ledger.tables.put(expiry_key(permit.expires, *name), b"")
        ledger.wakes.append(Wake(*name, ledger.now))


def _arm(ledger: Ledger, node: Node, first: Order, permit: Permit, delay: int) -> None:
    """Tell the first waiter when to look again: at the instant it fits, or when an offer passes on before that."""
    due = min(ledger.now + delay, FOREVER)
    at = min(due, ledger.next_expiry)
    armed = (first.incarnation, first.seq, at)
    if at == FOREVER:
        node.armed = (0, 0, 0)
    if at == FOREVER or armed == node.armed:
        return
    node.armed = armed
    if armed[:2] != ledger.caller:
        ledger.wakes.append(Wake(*armed))
    if at < due:
        return
    backup = _other_flow(ledger, group_node(permit.account, permit.group), first.incarnation)
    if backup is not None:
        ledger.wakes.append(Wake(*backup, at + BACKUP))


def _other_flow(ledger: Ledger, group: str, first: int) -> tuple[int, int] | None:
    """The head of another instance than the first's, where one stands among the first few of the same group."""
    for place, (key, _) in enumerate(ledger.tables.scan(named(HEAD, group))):
        *_, incarnation, seq = head_place(key)
        if incarnation != first:
            return incarnation, seq
        if place == 4:
            break
    return None


def expire(ledger: Ledger) -> bool:
    """Pass on the offers that were not taken, and end the ghosts whose grace is over; whether there were any.

    What has ended by now is looked for once in each operation.
    """
    changed = False
    while not ledger.next_expiry:
        found = ledger.tables.first(EXPIRY)
        at, incarnation, seq = (FOREVER, 0, 0) if found is None else expiry_place(found[0])
        if found is None or at > ledger.now:
            ledger.next_expiry = at
            break
        ledger.tables.delete(found[0])
        _end(ledger, incarnation, seq)
        changed = True
    return changed


def _end(ledger: Ledger, incarnation: int, seq: int) -> None:
    permit = ledger.permit(incarnation, seq)
    if permit is None:
        return
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
