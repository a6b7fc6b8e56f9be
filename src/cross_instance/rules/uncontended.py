"""The uncontended case at a glance: nobody waits at the account, and what is asked for fits.

1. It decides exactly what `permits` would decide, or it answers None and has changed nothing; a test compares both.
2. It reads and writes only the records that such a decision touches: the node, the flow and the permit.

It exists for speed alone: most permits of most users are taken and given back this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import usage
from cross_instance.rules.checks import MOST_UNITS
from cross_instance.rules.ledger import flow_key, node_key
from cross_instance.rules.limits import (
    BUCKETS,
    EXACT,
    INDEX,
    ORDER,
    Units,
    correct,
    measure,
    refill,
    take,
    units_of,
)
from cross_instance.rules.operations import FOREVER, NO_SIGNALS, Granted, Kind, Outcome, Settled
from cross_instance.rules.overload import ACCEPTED_BETWEEN
from cross_instance.rules.records import (
    Permit,
    State,
    decode_flow,
    decode_node,
    decode_permit,
    encode,
)
from cross_instance.rules.tables import permit_key

if TYPE_CHECKING:
    from cross_instance.rules.operations import Acquire, Instant, Settle
    from cross_instance.rules.records import Node
    from cross_instance.rules.tables import Tables

SLOTS = Kind.CONCURRENCY
HELD = State.HELD
SUCCESS = Outcome.SUCCESS


def acquire(tables: Tables, op: Acquire, at: Instant) -> Granted | None:
    """Grant a permit of an account without waiters, reserves or groups, where everything fits."""
    get, now, account = tables.get, at.mono, op.account
    node_at, flow_at, permit_at = (
        node_key(account),
        flow_key((account, op.incarnation)),
        permit_key(op.incarnation, op.seq),
    )
    node_value, flow_value = get(node_at), get(flow_at)
    if node_value is None or flow_value is None or op.group or op.task is not None or get(permit_at) is not None:
        return None
    node, flow = decode_node(node_value), decode_flow(flow_value)
    if (
        node.waiting
        or node.clustered
        or node.revision != op.revision
        or node.paused_until > now
        or flow.reserve
        or flow.asleep
    ):
        return None
    costs = units_of(op.costs)
    if not _storable(costs) or not 0 <= op.timeout | op.seq < EXACT:
        return None
    marks = _charge(node, costs, at)
    if marks is None:
        return None
    usage.count(flow, now)
    epochs = node.epochs
    deadline = now + op.timeout if op.timeout < FOREVER - now else FOREVER
    permit = Permit(
        HELD, account, "", op.model, int(op.priority), costs, now, deadline, epochs, 0, False, False, 0, marks
    )
    put = tables.put
    put(node_at, encode(node))
    put(flow_at, encode(flow))
    put(permit_at, encode(permit))
    return Granted(at=at, epochs=epochs)


def _charge(node: Node, costs: Units, at: Instant) -> tuple[int, ...] | None:
    """Take what a request costs, for its marks; None, and the node is not to be written, where it does not fit."""
    marks = [0] * BUCKETS
    for limit in node.limits:
        kind = limit.kind
        if kind is SLOTS:
            if node.held >= limit.amount:
                return None
            continue
        if limit.at < at.mono:
            refill(limit, at)
        units = costs[INDEX[kind]]
        if units * limit.den > limit.level:
            return None
        if units:
            take(limit, units)
            marks[ORDER[kind]] = limit.charges
    node.held += 1
    return tuple(marks)


def _says_nothing(op: Settle) -> bool:
    return op.outcome is SUCCESS and (op.signals is NO_SIGNALS or op.signals == NO_SIGNALS) and 0 <= op.delay <= FOREVER


def _storable(units: Units) -> bool:
    return 0 <= units[0] | units[1] | units[2] | units[3] <= MOST_UNITS


def settle(tables: Tables, op: Settle, at: Instant) -> Settled | None:
    """End a successful permit of an account without waiters, where the response told nothing about limits."""
    used = None if op.usage is None else units_of(op.usage)
    if not _says_nothing(op) or (used is not None and not _storable(used)):
        return None
    get = tables.get
    permit_at = permit_key(op.incarnation, op.seq)
    value = get(permit_at)
    if value is None:
        return None
    permit = decode_permit(value)
    if permit.state is not HELD or permit.group or permit.clustered:
        return None
    node_at = node_key(permit.account)
    value = get(node_at)
    if value is None:
        return None
    node = decode_node(value)
    if node.waiting:
        return None
    if node.accepted < ACCEPTED_BETWEEN:
        node.accepted += 1
    for limit in node.limits:
        if limit.at < at.mono:
            refill(limit, at)
    correct(node, permit.costs, permit.marks, used)
    if op.delay != node.spread:
        measure(node, op.delay)
    tables.put(node_at, encode(node))
    tables.delete(permit_at)
    return Settled(at=at, known=True, paused_until=node.paused_until)
