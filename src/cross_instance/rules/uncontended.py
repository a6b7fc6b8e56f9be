"""What is decided at a glance: a permit that nobody else wants and that fits, and one that was granted meanwhile.

1. It decides exactly what `permits` would decide, or it answers None and has changed nothing; a test compares both.
2. It reads and writes only the records that such a decision touches: the node, the flow and the permit. None of
   them is durable.
3. A limit that neither the request nor a new guard touches is left as it stands: time refills it in two steps as in
   one.
4. What this process wrote last need not be decoded when it is read again: equal bytes are the same record, whoever
   wrote them. Nothing is taken from anywhere but the tables.

It exists for speed alone: most permits of most users are taken and given back this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cross_instance.rules import usage
from cross_instance.rules.admission import GROWING, OFFER
from cross_instance.rules.checks import MOST_UNITS
from cross_instance.rules.ledger import flow_key, node_key
from cross_instance.rules.limits import (
    BUCKETS,
    EXACT,
    INDEX,
    ORDER,
    Units,
    credit,
    measure,
    note,
    refill,
    take,
    units_of,
)
from cross_instance.rules.operations import FOREVER, NO_SIGNALS, Granted, Kind, Outcome, Priority, Settled
from cross_instance.rules.overload import ACCEPTED_BETWEEN, DRAWS
from cross_instance.rules.records import Permit, State, decode_flow, decode_node, decode_permit, encode
from cross_instance.rules.tables import expiry_key, permit_key

if TYPE_CHECKING:
    from cross_instance.rules.operations import Acquire, Instant, Settle
    from cross_instance.rules.records import Flow, Node

SLOTS = Kind.CONCURRENCY
HELD, OFFERED = State.HELD, State.OFFERED
SUCCESS = Outcome.SUCCESS
HIGHEST, LOWEST = int(min(Priority)), int(max(Priority))

MOST_NODES, MOST_PERMITS = 64, 1024
"""How many records are kept as they were written; a process is busy with few accounts at a time."""

_nodes: dict[bytes, Node] = {}
_flows: dict[bytes, Flow] = {}
_permits: dict[bytes, Permit] = {}
"""What was written last, by its bytes. A record is changed in place, so whoever reads its bytes takes it out."""


class Records(Protocol):
    """The part of `Tables` that a glance needs: a bare transaction will do."""

    def get(self, key: bytes, /) -> bytes | None:
        """See `Tables`."""

    def put(self, key: bytes, value: bytes, /) -> object:
        """See `Tables`."""

    def delete(self, key: bytes, /) -> object:
        """See `Tables`."""


def acquire(tables: Records, op: Acquire, at: Instant) -> Granted | None:
    """Grant a permit of an account without waiters, reserves or groups, where everything fits; or take an offer."""
    if op.group or op.task is not None:
        return None
    if not (0 <= op.incarnation | op.seq | op.timeout < EXACT and HIGHEST <= op.priority <= LOWEST):
        return None
    get, now, account = tables.get, at.mono, op.account
    node_at, flow_at = node_key(account), flow_key((account, op.incarnation))
    permit_at = permit_key(op.incarnation, op.seq)
    flow_value, permit_value = get(flow_at), get(permit_at)
    if flow_value is None:
        return None
    if permit_value is not None:
        return _take_offer(tables, op, flow_value, permit_value, at)
    node_value = get(node_at)
    if node_value is None:
        return None
    node = _nodes.pop(node_value, None) or decode_node(node_value)
    flow = _flows.pop(flow_value, None) or decode_flow(flow_value)
    if (
        node.waiting
        or node.clustered
        or node.revision != op.revision
        or node.paused_until > now
        or node.watch <= now
        or flow.reserve
        or flow.asleep
    ):
        return None
    costs = units_of(op.costs)
    marks = _charge(node, costs, at)
    if marks is None:
        return None
    usage.count(flow, now)
    deadline = now + op.timeout if op.timeout < FOREVER - now else FOREVER
    stamp = (node.granted, now, node.held - 1, 0)
    node.granted += 1
    permit = Permit(
        HELD, account, "", op.model, op.priority, costs, now, deadline, node.epochs, 0, False, False, 0, marks, stamp
    )
    node_value, flow_value, permit_value, put = encode(node), encode(flow), encode(permit), tables.put
    put(node_at, node_value)
    put(flow_at, flow_value)
    put(permit_at, permit_value)
    if len(_nodes) >= MOST_NODES or len(_permits) >= MOST_PERMITS:
        _forget()
    _nodes[node_value], _flows[flow_value], _permits[permit_value] = node, flow, permit
    return Granted(at=at, epochs=node.epochs)


def _take_offer(tables: Records, op: Acquire, flow: bytes, permit: bytes, at: Instant) -> Granted | None:
    """Hold what somebody else's operation granted to a waiter."""
    offer = decode_permit(permit)
    if offer.state is not OFFERED or decode_flow(flow).asleep:
        return None
    tables.delete(expiry_key(offer.expires, op.incarnation, op.seq))
    age = OFFER - (offer.expires - at.mono)
    offer.state, offer.expires = HELD, 0
    tables.put(permit_key(op.incarnation, op.seq), encode(offer))
    return Granted(at=at, waited=at.mono - offer.arrival, age=age, epochs=offer.epochs)


def _charge(node: Node, costs: Units, at: Instant) -> tuple[int, ...] | None:
    """Take what a request costs, for its marks; None, and the node is not to be written, where it does not fit.

    The loop is `limits.refill` and `limits.take` in one piece: as calls they cost a permit of 25 µs 1.5 µs more.
    """
    if not _storable(costs):
        return None
    marks, now = [0] * BUCKETS, at.mono
    for limit in node.limits:
        kind = limit.kind
        if kind is SLOTS:
            if node.held + (limit.source in GROWING) >= limit.amount:  # the last of those is the learner's business
                return None
            continue
        units = costs[INDEX[kind]]
        if not units:
            continue
        level, elapsed = limit.level, now - limit.at
        if limit.anchor is not None:
            refill(limit, at)
            level = limit.level
        elif elapsed > 0:
            risen, full = level + limit.num * elapsed, limit.cap * limit.den
            level = risen if risen < full else full  # noqa: FURB136  # a call of `min` takes longer than the rest
            limit.at = now
        rest = level - units * limit.den
        if rest < 0:
            return None
        if level > limit.low:
            note(limit, level)
        limit.charges = marks[ORDER[kind]] = limit.charges + 1
        limit.level = limit.low = rest
    node.held += 1
    return tuple(marks)


def settle(tables: Records, op: Settle, at: Instant) -> Settled | None:
    """End a successful permit of an account without waiters, where the response told nothing about limits."""
    if not (
        op.outcome is SUCCESS
        and (op.signals is NO_SIGNALS or op.signals == NO_SIGNALS)
        and 0 <= op.incarnation | op.seq < EXACT
        and 0 <= op.delay <= FOREVER
        and 0 <= op.draw < DRAWS
    ):
        return None
    permit_at = permit_key(op.incarnation, op.seq)
    value = tables.get(permit_at)
    if value is None:
        return None
    permit = _permits.pop(value, None) or decode_permit(value)
    if permit.state is not HELD or permit.group or permit.clustered:
        return None
    node_at = node_key(permit.account)
    value = tables.get(node_at)
    if value is None:
        return None
    node = _nodes.pop(value, None) or decode_node(value)
    if node.waiting or permit.stamp[2] > node.notable:
        return None
    if op.usage is not None and not _correct(node, permit, units_of(op.usage), at):
        return None
    node.held -= 1
    if node.accepted < ACCEPTED_BETWEEN and permit.epochs == node.epochs:
        node.accepted += 1
    if op.delay != node.spread:
        measure(node, op.delay, at)
    value = encode(node)
    tables.put(node_at, value)
    tables.delete(permit_at)
    if len(_nodes) >= MOST_NODES:
        _forget()
    _nodes[value] = node
    return Settled(at=at, known=True, paused_until=node.paused_until)


def _correct(node: Node, permit: Permit, used: Units, at: Instant) -> bool:
    """Bring what was charged to what was used; false, and nothing is changed, where that cannot be."""
    if used == permit.costs:
        return True
    if not _storable(used):
        return False
    for limit in node.limits:
        kind = limit.kind
        if kind is SLOTS or not limit.correct:
            continue
        place = INDEX[kind]
        surplus = permit.costs[place] - used[place]
        if not surplus or not place:
            continue
        if limit.at < at.mono:
            refill(limit, at)
        if surplus > 0:
            credit(limit, surplus, permit.marks[ORDER[kind]])
        else:
            take(limit, -surplus)
    return True


def _storable(units: Units) -> bool:
    return 0 <= units[0] | units[1] | units[2] | units[3] <= MOST_UNITS


def _forget() -> None:
    _nodes.clear()
    _flows.clear()
    _permits.clear()
