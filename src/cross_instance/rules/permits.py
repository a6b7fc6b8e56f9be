"""Permits: acquire, settle, cancel.

1. (incarnation, seq) names a permit for ever: the same `Acquire` sent again finds what became of the first one.
2. Where nobody waits and everything fits, a permit is granted at once; everything else goes through the queue.
3. A wait that cannot succeed within its timeout is refused at once, with the limit that binds. What may come back is
   counted in favour of the request: while a permit is in flight whose settlement may return tokens to a bucket, that
   bucket is no reason to refuse. Not foreseen are requests given back unsent, rejections that are refunded, and
   limits that are raised.
4. A permit ends once. It is corrected by the provider's own charging rule: what is owed is owed.
5. Only a live incarnation holds permits; an older one finds its fence refused.
6. A request that exceeds a configured or told limit by itself is refused with the figures, also where the limit came
   to be so while it waited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cross_instance.rules import checks, tasks
from cross_instance.rules.admission import OFFER, admit, charge_path, expire, uncharge_path, with_marks
from cross_instance.rules.ledger import Ledger, Path
from cross_instance.rules.limits import FREE, INDEX, correct, dominant_share, hold_of, measure, shown, units_of
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
from cross_instance.rules.records import Flow, Limit, Node, Permit, State
from cross_instance.rules.tables import expiry_key

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant
    from cross_instance.rules.tables import Tables

CHECK = SECOND
CHECK_EACH = 10_000
"""A waiter looks again after CHECK + CHECK_EACH for each waiter of the account (or the cluster), in µs: a lost wake-up
costs a little time, and many waiters together stay below a hundred looks a second."""

TAKEN = (State.OFFERED, State.HELD)

Answer = Granted | Waiting | Refused | Stale | Fenced


def acquire(tables: Tables, op: Acquire, at: Instant) -> Answer:
    """Decide an `Acquire`."""
    checks.acquire(op)
    ledger = Ledger(tables, at)
    ledger.caller = (op.incarnation, op.seq)
    answer = _answer(ledger, op)
    ledger.close()
    if ledger.wakes or ledger.notices:
        return msgspec.structs.replace(answer, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices))
    return answer


def _answer(ledger: Ledger, op: Acquire) -> Answer:
    flow = ledger.flow(op.account, op.incarnation)
    permit = ledger.permit(op.incarnation, op.seq)
    if flow is not None and permit is not None and permit.state in TAKEN:
        return _take(ledger, op, flow, permit)
    account = ledger.node(op.account)
    if flow is None or account is None:
        if ledger.instance(op.incarnation) is None:
            return Fenced(at=ledger.at)
        return Stale(at=ledger.at, revision=0, patterns=())
    if op.revision == account.revision and op.group and op.group not in account.patterns:
        raise ValueError(f"group {op.group!r} is none of the patterns of {op.account}: {account.patterns}")
    if permit is not None and permit.state is State.GHOST:
        return Fenced(at=ledger.at)
    if permit is None:
        return _arrive(ledger, op, account, flow)
    return _look_again(ledger, op, account, flow, permit)


def _take(ledger: Ledger, op: Acquire, flow: Flow, permit: Permit) -> Answer:
    """Hold what is offered, or is held already."""
    age = 0
    if permit.state is State.OFFERED:
        age = OFFER - (permit.expires - ledger.now)
        ledger.tables.delete(expiry_key(permit.expires, op.incarnation, op.seq))
        permit.state, permit.expires = State.HELD, 0
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
        ledger.touched.add(op.account)
        admit(ledger)
    return Granted(at=ledger.at, waited=ledger.now - permit.arrival, age=age, epochs=permit.epochs)


def _arrive(ledger: Ledger, op: Acquire, account: Node, flow: Flow) -> Answer:
    if op.revision != account.revision:
        return Stale(at=ledger.at, revision=account.revision, patterns=account.patterns)
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
    if expire(ledger):
        outlook = _outlook(ledger, path, permit)
    refused = _too_large(ledger, outlook, permit) or _too_late(ledger, op, path, permit, outlook)
    if refused is not None:
        admit(ledger)
        return refused
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
    permit.share = max(dominant_share(node, permit.costs) for _, node in path)
    ledger.add_permit(op.incarnation, op.seq, permit)
    enqueue(ledger, op.incarnation, op.seq, permit)
    return _wait(ledger, op, permit, outlook)


class Binding(NamedTuple):
    """A limit and the node that it is one of."""

    name: str
    node: Node
    limit: Limit

    def shown(self) -> LimitState:
        """The limit for people."""
        return shown(*self)


class Outlook(NamedTuple):
    """What keeps a request back on its whole path: how long the pause and its buckets need, if nothing comes back to
    them, in µs; the limit that binds, and the one that it exceeds by itself."""

    delay: int
    fits: bool
    binding: Binding | None = None
    excess: Binding | None = None

    @property
    def limit(self) -> LimitState | None:
        """What binds, for people."""
        return None if self.binding is None else self.binding.shown()


def _outlook(ledger: Ledger, path: Path, permit: Permit) -> Outlook:
    delay = max(0, ledger.new_node(permit.account).paused_until - ledger.now)
    fits = not delay
    binding = excess = None
    for name, node in path:
        hold = hold_of(node, permit.costs, ledger.at)
        if hold is FREE:
            continue
        fits = False
        if hold.delay > delay or (hold.slots is not None and binding is None):
            delay = max(delay, hold.delay)
            limit = hold.bucket or hold.slots
            binding = None if limit is None else Binding(name, node, limit)
        if hold.excess is not None and excess is None:
            excess = Binding(name, node, hold.excess)
    return Outlook(delay, fits, binding, excess)


def _too_large(ledger: Ledger, outlook: Outlook, permit: Permit) -> Refused | None:
    if outlook.excess is None:
        return None
    limit = outlook.excess.shown()
    return Refused(at=ledger.at, reason="too_large", limit=limit, needed=permit.costs[INDEX[limit.kind]])


def _too_late(ledger: Ledger, op: Acquire, path: Path, permit: Permit, outlook: Outlook) -> Refused | None:
    """Refuse what cannot be had in time (rule 3); a wait for slots has no bound that is known."""
    if op.timeout >= outlook.delay:
        return None
    if op.timeout and op.timeout >= _least_wait(ledger, path, permit):
        return None
    return Refused(at=ledger.at, reason="timeout", retry_after=outlook.delay, limit=outlook.limit)


def _least_wait(ledger: Ledger, path: Path, permit: Permit) -> int:
    """How long the pause and those buckets need, in µs, to which no permit in flight may return anything."""
    pause = ledger.new_node(permit.account).paused_until - ledger.now
    return max(pause, *(hold_of(node, permit.costs, ledger.at, certain=True).delay for _, node in path))


def _wait(ledger: Ledger, op: Acquire, permit: Permit, outlook: Outlook) -> Answer:
    """Let the queue decide; who still waits then is told until when, or is refused where its time is over."""
    ledger.touched.add(op.account)
    changed = admit(ledger)
    if permit.state is State.HELD:
        return Granted(at=ledger.at, waited=ledger.now - permit.arrival, epochs=permit.epochs)
    if changed:
        outlook = _outlook(ledger, ledger.path(permit), permit)
    if op.timeout <= 0 or permit.deadline <= ledger.now:
        if ledger.permit(op.incarnation, op.seq) is not None:
            _withdraw(ledger, op, permit)
        return Refused(at=ledger.at, reason="timeout", retry_after=outlook.delay, limit=outlook.limit)
    return Waiting(
        at=ledger.at,
        not_before=ledger.now + outlook.delay,
        check_at=_check_at(ledger, permit),
        limit=outlook.limit,
    )


def _withdraw(ledger: Ledger, op: Acquire, permit: Permit) -> None:
    dequeue(ledger, op.incarnation, op.seq, permit)
    ledger.drop_permit(op.incarnation, op.seq)
    ledger.touched.add(op.account)
    admit(ledger)


def _check_at(ledger: Ledger, permit: Permit) -> int:
    """When the caller should ask again: at its timer where it holds one, at the latest after a safety interval."""
    line = ledger.line(permit)
    at = min(permit.deadline, ledger.now + CHECK + CHECK_EACH * line[-1][1].waiting)
    for _, node in line:
        holder, seq, armed = node.armed
        if armed > ledger.now and (holder, seq) == ledger.caller:
            at = min(at, armed)
    return at


def _look_again(ledger: Ledger, op: Acquire, account: Node, flow: Flow, permit: Permit) -> Answer:
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
    if op.revision != account.revision:
        return Stale(at=ledger.at, revision=account.revision, patterns=account.patterns)
    if op.group != permit.group:
        dequeue(ledger, op.incarnation, op.seq, permit)
        permit.group = op.group
        enqueue(ledger, op.incarnation, op.seq, permit)
    outlook = _outlook(ledger, ledger.path(permit), permit)
    refused = _too_large(ledger, outlook, permit)
    if refused is not None:
        _withdraw(ledger, op, permit)
        return refused
    return _wait(ledger, op, permit, outlook)


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
            measure(node, op.delay, at)
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
