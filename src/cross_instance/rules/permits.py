"""Permits: acquire, settle, cancel.

1. (incarnation, seq) names a permit for ever: the same `Acquire` sent again finds what became of the first one.
2. Where nobody waits and everything fits, a permit is granted at once; everything else goes through the queue.
3. A wait that cannot succeed within its timeout is refused at once, with the limit that binds.
4. A permit ends once. It is corrected by the provider's own charging rule: what is owed is owed.
5. Only a live incarnation holds permits; an older one finds its fence refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cross_instance.rules import checks, tasks
from cross_instance.rules.admission import admit, charge_path, expire, uncharge_path, with_marks
from cross_instance.rules.ledger import Ledger, Path, group_node
from cross_instance.rules.limits import (
    INDEX,
    correct,
    dominant_share,
    hold_of,
    measure,
    shown,
    too_large,
    units_of,
)
from cross_instance.rules.operations import (
    FOREVER,
    SECOND,
    Acquire,
    Cancel,
    Cancelled,
    Fenced,
    Granted,
    LimitState,
    Outcome,
    Refused,
    Settle,
    Settled,
    Stale,
    Waiting,
)
from cross_instance.rules.overload import hear
from cross_instance.rules.queue import dequeue, enqueue, set_asleep
from cross_instance.rules.records import Flow, Node, Permit, State
from cross_instance.rules.tables import expiry_key

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant
    from cross_instance.rules.tables import Tables

CHECK = SECOND
CHECK_EACH = 10_000
"""A waiter looks again after CHECK + CHECK_EACH for each waiter of the account (or the cluster), in µs: a lost wake-up
costs a little time, and many waiters together stay below a hundred looks a second."""

Answer = Granted | Waiting | Refused | Stale | Fenced


def acquire(tables: Tables, op: Acquire, at: Instant) -> Answer:
    """Decide an `Acquire`."""
    checks.acquire(op)
    ledger = Ledger(tables, at)
    ledger.caller = (op.incarnation, op.seq)
    answer = _answer(ledger, op)
    ledger.close()
    return msgspec.structs.replace(answer, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices))


def _answer(ledger: Ledger, op: Acquire) -> Answer:
    flow = ledger.flow(op.account, op.incarnation)
    account = ledger.node(op.account)
    if flow is None or account is None:
        if ledger.instance(op.incarnation) is None:
            return Fenced(at=ledger.at)
        return Stale(at=ledger.at, revision=0, patterns=())
    permit = ledger.permit(op.incarnation, op.seq)
    if op.revision == account.revision and op.group and op.group not in account.patterns:
        raise ValueError(f"group {op.group!r} is none of the patterns of {op.account}: {account.patterns}")
    if permit is not None:
        return _look_again(ledger, op, account, flow, permit)
    if op.revision != account.revision:
        return Stale(at=ledger.at, revision=account.revision, patterns=account.patterns)
    return _arrive(ledger, op, account, flow)


def _arrive(ledger: Ledger, op: Acquire, account: Node, flow: Flow) -> Answer:
    if op.task is not None and not tasks.owns(ledger.tables, op.task, op.task_epoch, op.incarnation):
        return Refused(at=ledger.at, reason="stale_task")
    permit = Permit(
        state=State.WAITING,
        account=op.account,
        group=op.group,
        model=op.model,
        rank=int(op.priority),
        costs=units_of(op.costs),
        arrival=ledger.now,
        deadline=min(ledger.now + op.timeout, FOREVER),
        clustered=account.clustered,
    )
    path = ledger.path(permit)
    outlook = _outlook(ledger, path, permit)
    if outlook.fits and not account.waiting and not path[-1][1].waiting:
        permit.state = State.HELD
        charge_path(ledger, path, flow, permit)
        ledger.add_permit(op.incarnation, op.seq, permit)
        return Granted(at=ledger.at, epochs=permit.epochs)
    expire(ledger)
    outlook = _outlook(ledger, path, permit)
    refused = _too_large(ledger, path, permit) or _too_late(ledger, op, outlook)
    if refused is not None:
        admit(ledger)
        return refused
    return _queue(ledger, op, permit, path, flow)


class Outlook(NamedTuple):
    """What keeps a request back on its whole path: a lower bound of its wait in µs, whether it fits, what binds."""

    delay: int
    fits: bool
    limit: LimitState | None


def _outlook(ledger: Ledger, path: Path, permit: Permit) -> Outlook:
    delay = max(0, ledger.new_node(permit.account).paused_until - ledger.now)
    fits = not delay
    binding: LimitState | None = None
    for name, node in path:
        hold = hold_of(node, permit.costs, ledger.at)
        fits = fits and hold.fits and too_large(node, permit.costs) is None
        if hold.delay > delay or (hold.slots is not None and binding is None):
            delay = max(delay, hold.delay)
            limit = hold.bucket or hold.slots
            binding = None if limit is None else shown(name, node, limit)
    return Outlook(delay, fits, binding)


def _too_large(ledger: Ledger, path: Path, permit: Permit) -> Refused | None:
    for name, node in path:
        limit = too_large(node, permit.costs)
        if limit is not None:
            needed = permit.costs[INDEX[limit.kind]]
            return Refused(at=ledger.at, reason="too_large", limit=shown(name, node, limit), needed=needed)
    return None


def _too_late(ledger: Ledger, op: Acquire, outlook: Outlook) -> Refused | None:
    """Refuse what cannot be had in time; a wait for slots has no bound that is known."""
    if op.timeout >= outlook.delay:
        return None
    return Refused(at=ledger.at, reason="timeout", retry_after=outlook.delay, limit=outlook.limit)


def _queue(ledger: Ledger, op: Acquire, permit: Permit, path: Path, flow: Flow) -> Answer:
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
    permit.share = max(dominant_share(node, permit.costs) for _, node in path)
    ledger.add_permit(op.incarnation, op.seq, permit)
    enqueue(ledger, op.incarnation, op.seq, permit)
    return _wait(ledger, op, permit)


def _wait(ledger: Ledger, op: Acquire, permit: Permit) -> Answer:
    """Let the queue decide; who still waits then is told until when, or is refused where its time is over."""
    ledger.touched.add(op.account)
    admit(ledger)
    if permit.state is State.HELD:
        return Granted(at=ledger.at, waited=ledger.now - permit.arrival, epochs=permit.epochs)
    outlook = _outlook(ledger, ledger.path(permit), permit)
    if op.timeout <= 0 or permit.deadline <= ledger.now:
        if ledger.permit(op.incarnation, op.seq) is not None:
            dequeue(ledger, op.incarnation, op.seq, permit)
            ledger.drop_permit(op.incarnation, op.seq)
            admit(ledger)
        return Refused(at=ledger.at, reason="timeout", retry_after=outlook.delay, limit=outlook.limit)
    return Waiting(
        at=ledger.at,
        not_before=ledger.now + outlook.delay,
        check_at=_check_at(ledger, op, permit),
        limit=outlook.limit,
    )


def _check_at(ledger: Ledger, op: Acquire, permit: Permit) -> int:
    """When the caller should ask again: at its timer where it holds one, at the latest after a safety interval."""
    group = group_node(op.account, op.group)
    armed = [
        node.armed[2]
        for _, node in ((group, ledger.new_node(group)), *ledger.path(permit))
        if node.armed[:2] == ledger.caller and node.armed[2] > ledger.now
    ]
    safety = ledger.now + CHECK + CHECK_EACH * ledger.path(permit)[-1][1].waiting
    return min(*armed, safety, permit.deadline)


def _look_again(ledger: Ledger, op: Acquire, account: Node, flow: Flow, permit: Permit) -> Answer:
    if permit.state is State.GHOST:
        return Fenced(at=ledger.at)
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
    if permit.state is State.OFFERED:
        ledger.tables.delete(expiry_key(permit.expires, op.incarnation, op.seq))
        permit.state, permit.expires = State.HELD, 0
    if permit.state is State.HELD:
        return Granted(at=ledger.at, waited=ledger.now - permit.arrival, epochs=permit.epochs)
    if op.revision != account.revision:
        return Stale(at=ledger.at, revision=account.revision, patterns=account.patterns)
    if op.group != permit.group:
        dequeue(ledger, op.incarnation, op.seq, permit)
        permit.group = op.group
        enqueue(ledger, op.incarnation, op.seq, permit)
    return _wait(ledger, op, permit)


def settle(tables: Tables, op: Settle, at: Instant) -> Settled:
    """Decide a `Settle`."""
    checks.settle(op)
    ledger = Ledger(tables, at)
    permit = ledger.permit(op.incarnation, op.seq)
    if permit is None or permit.state is State.WAITING or permit.state is State.GHOST:
        return Settled(at=at, known=False)
    if permit.state is State.OFFERED:
        tables.delete(expiry_key(permit.expires, op.incarnation, op.seq))
    account = ledger.new_node(permit.account)
    if op.outcome is Outcome.IGNORED:
        uncharge_path(ledger, op.incarnation, permit)
    else:
        usage = None if op.usage is None else units_of(op.usage)
        for (_, node), marks in with_marks(ledger, permit):
            correct(node, permit.costs, marks, usage, rejected=op.outcome is Outcome.REJECTED)
            measure(node, op.delay)
        ledger.touched.add(permit.account)
        hear(ledger, op, permit)
    ledger.drop_permit(op.incarnation, op.seq)
    if account.waiting or permit.clustered:
        admit(ledger)
    ledger.close()
    return Settled(
        at=at,
        wakes=tuple(ledger.wakes),
        notices=tuple(ledger.notices),
        known=True,
        paused_until=account.paused_until,
    )


def cancel(tables: Tables, op: Cancel, at: Instant) -> Cancelled:
    """Decide a `Cancel`."""
    ledger = Ledger(tables, at)
    name = (op.incarnation, op.seq)
    permit = ledger.permit(*name)
    if permit is None or permit.state is State.GHOST:
        return Cancelled(at=at, was="unknown")
    if permit.state is State.WAITING:
        was = "waiting"
        dequeue(ledger, *name, permit)
    else:
        was = "granted"
        if permit.state is State.OFFERED:
            tables.delete(expiry_key(permit.expires, *name))
        uncharge_path(ledger, op.incarnation, permit)
    ledger.drop_permit(*name)
    ledger.touched.add(permit.account)
    admit(ledger)
    ledger.close()
    return Cancelled(at=at, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices), was=was)
