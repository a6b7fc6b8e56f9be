"""What a response says about limits: pauses after overloads, and limits that the provider stated.

1. A Retry-After pauses the whole account for everyone; the longest of several holds.
2. The first rejection of an epoch of a model group (or of an account's other models) moves it, drains the buckets that
   were hit and, without a Retry-After, pauses for 2^k s ± 20 %, k being the rejections in a row with fewer than three
   accepted requests between (at most 32 s); requests granted before the overload do not count.
   Echoes, rejections of requests granted before the epoch moved, change nothing but the pause they name.
3. Nothing is learned from exhausted quota: waiting does not help there.
4. Where limits are learned, the learner hears of each rejection and timeout, at the permit's narrowest node, and its
   row of rejections takes the place of the one in 2. There is one pause and one cut.
5. A told limit replaces a preset or a guess, never what the user configured. Where several models tell different
   values for the same node, the strictest holds. It holds as long as it is told again (`specs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import learning_desk as learner
from cross_instance.rules.ledger import Ledger, group_node
from cross_instance.rules.limits import EPOCH, drain, take
from cross_instance.rules.operations import CLUSTER, FOREVER, SECOND, Kind, Outcome, Settle, Source, Told
from cross_instance.rules.specs import apply_told, rebuild

if TYPE_CHECKING:
    from cross_instance.rules.records import Node, Permit

ACCEPTED_BETWEEN = 3
LONGEST_PAUSE = 32 * SECOND
DRAWS = 1 << 32
"""A draw is in [0, DRAWS)."""


def hear(ledger: Ledger, op: Settle, permit: Permit) -> None:
    """Take in what a settled permit reports."""
    account = ledger.new_node(permit.account)
    signals = op.signals
    if op.outcome is Outcome.SUCCESS and account.accepted < ACCEPTED_BETWEEN and not _is_echo(ledger, permit):
        account.accepted += 1
    changed = False
    if op.outcome in (Outcome.REJECTED, Outcome.OVERLOADED) and signals.exhausted is None:
        changed = _pause(ledger, account, op, permit)
    elif op.outcome in (Outcome.SUCCESS, Outcome.TIMEOUT):
        changed = _ended(ledger, op.outcome, permit)
    if changed:
        rebuild(ledger, permit.account)
    for told in signals.told:
        _believe(ledger, permit, told)


def _ended(ledger: Ledger, outcome: Outcome, permit: Permit) -> bool:
    """Tell the learner of what it wants to know; whether limits follow from it."""
    name, node = ledger.path(permit)[0]
    if outcome is Outcome.TIMEOUT:
        return learner.timed_out(ledger, name, permit)
    return permit.stamp[2] > node.notable and learner.succeeded(ledger, name, node, learner.stamp_of(permit))


def _is_echo(ledger: Ledger, permit: Permit) -> bool:
    """Whether a permit was granted before the last overload."""
    return ledger.path(permit)[0][1].epochs != permit.epochs


def _pause(ledger: Ledger, account: Node, op: Settle, permit: Permit) -> bool:
    """Pause for an overload; whether limits follow from what the learner makes of it."""
    retry_after = op.signals.retry_after
    told = retry_after is not None
    name = ledger.path(permit)[0][0]
    path = [node for name, node in ledger.path(permit) if name != CLUSTER]
    moved = op.outcome is Outcome.REJECTED and _move_epoch(path[0], op.signals.kind, permit)
    if moved:
        account.streak = 0 if account.accepted >= ACCEPTED_BETWEEN else account.streak + 1
        account.accepted = 0
        if retry_after is None:
            retry_after = _pause_of(ledger, account, name, op, permit)
    if retry_after is not None:
        account.paused_until = max(account.paused_until, min(ledger.now + retry_after, FOREVER))
    if moved:
        for node in path:
            drain(node, op.signals.kind or Kind.REQUESTS, account.paused_until)
    ledger.touched.add(permit.account)
    if not _teaches(op):
        return False
    if name != permit.account:
        learner.count_below(ledger, permit.account)
    return learner.rejected(ledger, name, permit, moved=moved, told=told, kind=op.signals.kind)


def _pause_of(ledger: Ledger, account: Node, name: str, op: Settle, permit: Permit) -> int:
    """The µs to wait where the provider did not say: as the learner has it, else by the rejections in a row."""
    kind = op.signals.kind
    learned = learner.pause_of(ledger, name, permit, kind, op.draw, DRAWS) if _teaches(op) else None
    return _pause_without_word(account.streak, op.draw) if learned is None else learned


def _teaches(op: Settle) -> bool:
    """A day's quota is no rate, and an overloaded provider says nothing of one."""
    return op.outcome is Outcome.REJECTED and op.signals.kind is not Kind.REQUESTS_DAY


def _move_epoch(node: Node, kind: Kind | None, permit: Permit) -> bool:
    """Move the epoch of the kind that was hit, or of all where the provider did not say; false for an echo."""
    places = (EPOCH[kind],) if kind is not None else (0, 1, 2)
    if any(permit.epochs[place] != node.epochs[place] for place in places):
        return False
    requests, tokens, slots = (epoch + (place in places) for place, epoch in enumerate(node.epochs))
    node.epochs = (requests, tokens, slots)
    return True


def _pause_without_word(streak: int, draw: int) -> int:
    pause = min(SECOND << min(streak, 5), LONGEST_PAUSE)
    return pause * 4 // 5 + pause * 2 // 5 * (draw >> 12) // (DRAWS >> 12)


def _believe(ledger: Ledger, permit: Permit, told: Told) -> None:
    """Put a told limit in force at the model's group, where the model has one of its own, else at the account."""
    name = group_node(permit.account, permit.group) if permit.group else permit.account
    node = ledger.new_node(name)
    present = next((limit for limit in node.limits if limit.kind is told.kind), None)
    if present is not None and present.source is Source.CONFIGURED:
        return
    if apply_told(ledger, name, permit.model, told):
        rebuild(ledger, permit.account)
        if present is None or (present.source, present.amount, present.period) != (
            Source.TOLD,
            told.limit,
            told.period,
        ):
            _start_from(ledger.new_node(name), told)


def _start_from(node: Node, told: Told) -> None:
    """A limit told for the first time starts with what the provider says is left."""
    for limit in node.limits:
        if limit.kind is told.kind and limit.source is Source.TOLD and told.remaining is not None:
            take(limit, max(0, limit.level // limit.den - told.remaining))
