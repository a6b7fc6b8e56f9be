"""Permits: acquire, settle, cancel.

1. (incarnation, seq) names a permit for ever: the same `Acquire` sent again finds what became of the first one.
2. Where nobody waits and everything fits, a permit is granted at once; everything else goes through the queue.
3. A wait that cannot succeed within its timeout is refused at once, with the limit that binds.
4. A permit ends once. It is corrected by the provider's own charging rule: what is owed is owed.
5. Only a live incarnation holds permits; an older one finds its fence refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import tasks
from cross_instance.rules.admission import OFFER, admit, give_back, take
from cross_instance.rules.ledger import Ledger, group_node
from cross_instance.rules.limits import (
    INDEX,
    add,
    delay_until_fits,
    dominant_share,
    set_guard,
    shown,
    too_large,
)
from cross_instance.rules.operations import (
    FOREVER,
    SECOND,
    Acquire,
    Cancel,
    Cancelled,
    Costs,
    Fenced,
    Granted,
    Kind,
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
from cross_instance.rules.tables import expiry_key, permit_key

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant
    from cross_instance.rules.tables import Tables

CHECK = SECOND
CHECK_EACH = 10_000
"""A waiter without a timer looks again after CHECK + CHECK_EACH for each of its instance's waiters, in µs: a lost
wake-up costs a little time, and many waiters together stay below a hundred looks a second."""

Answer = Granted | Waiting | Refused | Stale | Fenced


def acquire(tables: Tables, op: Acquire, at: Instant) -> Answer:
    """Decide an `Acquire`."""
    ledger = Ledger(tables, at)
    flow = ledger.flow(op.account, op.incarnation)
    account = ledger.node(op.account)
    if flow is None or account is None:
        if ledger.instance(op.incarnation) is None:
            return Fenced(at=at)
        return Stale(at=at, revision=0, patterns=())
    permit = ledger.permit(op.incarnation, op.seq)
    if permit is None and op.revision != account.revision:
        return Stale(at=at, revision=account.revision, patterns=account.patterns)
    ledger.caller = (op.incarnation, op.seq)
    answer = _arrive(ledger, op, account) if permit is None else _look_again(ledger, op, flow, permit)
    ledger.close()
    return answer


def _arrive(ledger: Ledger, op: Acquire, account: Node) -> Answer:
    now, costs = ledger.now, op.costs
    if op.task is not None and not tasks.owns(ledger.tables, op.task, op.task_epoch, op.incarnation):
        return Refused(at=ledger.at, reason="stale_task")
    permit = Permit(
        state=State.WAITING,
        account=op.account,
        group=op.group,
        model=op.model,
        rank=int(op.priority),
        costs=(costs.requests, costs.tokens, costs.input_tokens, costs.output_tokens),
        arrival=now,
        deadline=min(now + op.timeout, FOREVER),
        clustered=ledger.has_cluster(),
    )
    path = ledger.path(permit)
    delay, name, binding = _longest_delay(ledger, path, permit, account)
    if not delay and not account.waiting and not path[-1][1].waiting:
        permit.state = State.HELD
        take(ledger, op.incarnation, permit)
        ledger.add_permit(op.incarnation, op.seq, permit)
        return Granted(at=ledger.at, epochs=permit.epochs)
    return _refuse(ledger, path, permit, delay, (name, binding), op.timeout) or _queue(ledger, op, permit, path)


def _longest_delay(
    ledger: Ledger, path: list[tuple[str, Node]], permit: Permit, account: Node
) -> tuple[int, str, Limit | None]:
    longest, where, binding = max(0, account.paused_until - ledger.now), permit.account, None
    for name, node in path:
        delay, limit = delay_until_fits(node, permit.costs, ledger.at)
        if delay > longest:
            longest, where, binding = delay, name, limit
    return longest, where, binding


def _refuse(
    ledger: Ledger,
    path: list[tuple[str, Node]],
    permit: Permit,
    delay: int,
    binding: tuple[str, Limit | None],
    timeout: int,
) -> Refused | None:
    """Refuse what can never fit, or not in time; a wait for slots has no bound that is known."""
    for name, node in path:
        limit = too_large(node, permit.costs)
        if limit is not None:
            needed = permit.costs[INDEX[limit.kind]]
            return Refused(at=ledger.at, reason="too_large", limit=shown(name, node, limit), needed=needed)
    if timeout < delay < FOREVER:
        shown_limit = _shown(ledger, *binding)
        return Refused(at=ledger.at, reason="timeout", retry_after=delay, limit=shown_limit)
    return None


def _shown(ledger: Ledger, name: str, limit: Limit | None) -> LimitState | None:
    return None if limit is None else shown(name, ledger.new_node(name), limit)


def _queue(ledger: Ledger, op: Acquire, permit: Permit, path: list[tuple[str, Node]]) -> Answer:
    flow = ledger.new_flow(op.account, op.incarnation)
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
    permit.share = max(dominant_share(node, permit.costs) for _, node in path)
    ledger.add_permit(op.incarnation, op.seq, permit)
    enqueue(ledger, op.incarnation, op.seq, permit)
    return _admit_and_answer(ledger, op, permit)


def _admit_and_answer(ledger: Ledger, op: Acquire, permit: Permit) -> Answer:
    ledger.touched.add(op.account)
    admit(ledger)
    wakes, notices = tuple(ledger.wakes), tuple(ledger.notices)
    account = ledger.new_node(op.account)
    if permit.state is State.HELD:
        waited = ledger.now - permit.arrival
        return Granted(at=ledger.at, wakes=wakes, notices=notices, waited=waited, epochs=permit.epochs)
    delay, name, limit = _longest_delay(ledger, ledger.path(permit), permit, account)
    if op.timeout <= 0 or permit.deadline <= ledger.now:
        if ledger.permit(op.incarnation, op.seq) is not None:
            dequeue(ledger, op.incarnation, op.seq, permit)
            ledger.drop(permit_key(op.incarnation, op.seq))
        bound = 0 if delay >= FOREVER else delay
        shown_limit = _shown(ledger, name, limit)
        return Refused(
            at=ledger.at, wakes=wakes, notices=notices, reason="timeout", retry_after=bound, limit=shown_limit
        )
    return Waiting(
        at=ledger.at,
        wakes=wakes,
        notices=notices,
        not_before=ledger.now if delay >= FOREVER else ledger.now + delay,
        check_at=_check_at(ledger, op, permit),
        limit=_shown(ledger, name, limit),
    )


def _check_at(ledger: Ledger, op: Acquire, permit: Permit) -> int:
    """When the caller should ask again: at its timer where it holds one, else after a slow safety interval."""
    group = group_node(op.account, op.group)
    waiting = ledger.tag(group, op.incarnation).waiting
    check = min(ledger.now + CHECK + CHECK_EACH * waiting, permit.deadline)
    for _, node in [(group, ledger.new_node(group)), *ledger.path(permit)]:
        if node.armed[:2] == ledger.caller:
            check = min(check, max(node.armed[2], ledger.now))
    return check


def _look_again(ledger: Ledger, op: Acquire, flow: Flow, permit: Permit) -> Answer:
    if permit.state is State.GHOST:
        return Fenced(at=ledger.at)
    if flow.asleep:
        set_asleep(ledger, op.account, op.incarnation, False)
    if permit.state is State.OFFERED:
        ledger.tables.delete(expiry_key(permit.expires, op.incarnation, op.seq))
        permit.state, permit.expires = State.HELD, 0
    if permit.state is State.HELD:
        return Granted(at=ledger.at, waited=ledger.now - permit.arrival, epochs=permit.epochs)
    return _admit_and_answer(ledger, op, permit)


def settle(tables: Tables, op: Settle, at: Instant) -> Settled:
    """Decide a `Settle`."""
    ledger = Ledger(tables, at)
    permit = ledger.permit(op.incarnation, op.seq)
    if permit is None or permit.state is State.WAITING or permit.state is State.GHOST:
        return Settled(at=at, known=False)
    if permit.state is State.OFFERED:
        tables.delete(expiry_key(permit.expires, op.incarnation, op.seq))
    account = ledger.new_node(permit.account)
    if op.outcome is Outcome.IGNORED:
        give_back(ledger, op.incarnation, permit)
    else:
        _correct(ledger, op, permit)
        hear(ledger, op, permit)
        _measure(account, op.delay)
    ledger.drop(permit_key(op.incarnation, op.seq))
    if account.waiting or (permit.clustered and ledger.has_cluster()):
        admit(ledger)
    ledger.close()
    return Settled(
        at=at,
        wakes=tuple(ledger.wakes),
        notices=tuple(ledger.notices),
        known=True,
        paused_until=account.paused_until,
    )


def _correct(ledger: Ledger, op: Settle, permit: Permit) -> None:
    """Return the slots, and bring what was charged to what the provider charged."""
    rejected = op.outcome is Outcome.REJECTED
    usage = None if op.usage is None else _as_tuple(op.usage)
    for _, node in ledger.path(permit):
        node.held -= 1
        for limit in node.limits:
            if limit.kind is Kind.CONCURRENCY:
                continue
            place = INDEX[limit.kind]
            if rejected and limit.refund:
                add(limit, permit.costs[place])
            elif usage is not None and limit.correct and place:
                add(limit, permit.costs[place] - usage[place])
    ledger.touched.add(permit.account)


def _as_tuple(costs: Costs) -> tuple[int, int, int, int]:
    return costs.requests, costs.tokens, costs.input_tokens, costs.output_tokens


def _measure(account: Node, delay: int) -> None:
    """Follow the spread of the delay from grant to send: up at once, down by a sixty-fourth a permit."""
    spread = delay if delay > account.spread else account.spread - (account.spread - delay) // 64
    if spread != account.spread:
        account.spread = spread
        for limit in account.limits:
            set_guard(limit, spread)


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
        give_back(ledger, op.incarnation, permit)
    ledger.drop(permit_key(*name))
    ledger.touched.add(permit.account)
    admit(ledger)
    ledger.close()
    return Cancelled(at=at, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices), was=was)


__all__ = ["OFFER", "acquire", "cancel", "settle"]
