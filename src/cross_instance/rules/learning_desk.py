"""Where operations and the learner meet: which records begin, what becomes of them, when they are to be looked at.

1. Where an instance says how, limits are learned: from the first request where the requests' limit is a preset, a
   guess or told, from the first overload where the user configured it. An account that never met one has no record.
2. A node says from which instant on a grant is the learner's business (`watch`) and which successes are (`notable`):
   all others do not touch the record. What was accepted is what was granted less what was rejected.
3. One learner answers an overload, that of the permit's narrowest node. The account above a group only counts it.
4. Instances that say different things are followed with care: nothing is learned unless all want it, in mode `simple`
   if one does, within the narrowest bounds.
5. A rate is bounded here, and so is what the learner takes itself to have paced.
6. After a pause one request goes first, as a trial. The others wait until its 429 would have been heard: so a pause
   that was too short costs one 429, however many could go within the delay.
7. Where a climb's overload only confirms what is known, the last half second of the pause is made up for: the
   provider's bucket was refilled meanwhile, or its next window has begun. It fits a limit that has halved as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules import learning, learning_notes as notes, publications, usage
from cross_instance.rules.learning import Learner, Stamp, new_learner
from cross_instance.rules.learning_concurrency import told as slots_told
from cross_instance.rules.learning_estimate import confirms
from cross_instance.rules.learning_rate import BUSY, STEP, Rate, watched_from
from cross_instance.rules.learning_records import Learned
from cross_instance.rules.learning_risk import counted, proactive_cut
from cross_instance.rules.learning_simple import Factors, Simple, accepted, rejected as reduced
from cross_instance.rules.learning_values import HIGHEST, LOWEST, UNIT, Mark, part, per_minute, sane
from cross_instance.rules.limits import drain, refill_from
from cross_instance.rules.operations import FOREVER, MINUTE, SECOND, Kind, Learning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.rules.ledger import Ledger
    from cross_instance.rules.operations import LimitSpec
    from cross_instance.rules.records import Limit, Node, Permit

PLACE = {Kind.TOKENS: 1, Kind.INPUT_TOKENS: 2, Kind.OUTPUT_TOKENS: 3}
"""Where a kind of tokens stands in a permit's costs."""

MOST_GUESSED = 1 << 20
"""A guess of calls at once grows up to here."""

MADE_UP = SECOND // 2
LONGEST_LISTENED = 2 * SECOND
"""A trial is waited for a quarter longer than the last 429 took to be heard, at most so long."""


def agreed(said: Iterable[Learning | None]) -> Learning | None:
    """What instances that say different things want together."""
    wanted = list(said)
    known = [learning for learning in wanted if learning is not None]
    if not known or len(known) < len(wanted):
        return None
    plain = [learning for learning in known if learning.simple] or known
    highest = min(learning.highest for learning in known)
    return Learning(
        simple=plain[0].simple,
        reduction=min(learning.reduction for learning in plain),
        recovery=min(learning.recovery for learning in plain),
        lowest=min(highest, min(learning.lowest for learning in known)),
        highest=highest,
        predicts=any(learning.predicts for learning in known),
    )


def rate_of(limit: LimitSpec | Limit) -> int:
    """A limit on requests as the learner counts it."""
    return sane(limit.amount * UNIT * (MINUTE // 1_000) // max(1, limit.period // 1_000))


# --- beginning ---------------------------------------------------------------------------------------------------


def begin(ledger: Ledger, name: str, settings: Learning, rate: int, used: int = 0) -> Learned:
    """Learn from now on, starting with a rate at which `used` requests went in the last minute."""
    node = ledger.new_node(name)
    rate = sane(rate)
    learner = new_learner(rate, ledger.now - MINUTE * bool(used), node.granted - used)
    learned = Learned(learner, settings, rate, changed_at=ledger.at.wall, reason="start")
    adapt(learned, settings, ledger.now, node.granted)
    ledger.add_learned(name, learned)
    return learned


def adapt(learned: Learned, settings: Learning, now: int, granted: int) -> None:
    """Follow the settings: another mode begins anew with the present rate."""
    if settings.simple and learned.simple is None:
        learned.simple = Simple(learned.learner.requests.rate, now)
        learned.recovered = granted - learned.learner.requests.rejections
    elif not settings.simple and learned.simple is not None:
        rejections = learned.learner.requests.rejections
        requests = new_learner(learned.simple.rate, now, granted - rejections).requests
        learned.learner = Learner(msgspec.structs.replace(requests, rejections=rejections))
        learned.simple = None
    learned.settings = settings
    learned.learner = _bounded(learned, learned.learner)
    if learned.simple is not None:
        bounds = factors(settings, learned.ceiling)
        learned.simple = Simple(max(bounds.lowest, min(learned.simple.rate, bounds.highest)), learned.simple.changed)


def factors(settings: Learning, ceiling: int = 0) -> Factors:
    """The settings of mode `simple`. Raises `ValueError` for figures that cannot be used."""
    highest = min(settings.highest, ceiling or HIGHEST)
    return Factors(settings.reduction, settings.recovery, min(settings.lowest, highest), highest)


def _bounded(learned: Learned, learner: Learner) -> Learner:
    settings, requests = learned.settings, learner.requests
    rate = min(max(requests.rate, settings.lowest), settings.highest, learned.ceiling or HIGHEST)
    if rate == requests.rate:
        return learner
    return msgspec.structs.replace(learner, requests=msgspec.structs.replace(requests, rate=rate))


def told_is(learned: Learned, node: Node, now: int, rate: int) -> None:
    """The provider states this rate (0: none); of several, the strictest."""
    requests = learned.learner.requests
    if rate == requests.told:
        return
    if not rate:
        requests = msgspec.structs.replace(requests, told=0, doubted=0)
        learned.learner = msgspec.structs.replace(learned.learner, requests=requests)
    else:
        learned.learner = learning.header_told(learned.learner, now, node.granted, rate)
    if learned.simple is not None and rate and not learned.learner.requests.doubted:
        learned.simple = Simple(rate, now)
    learned.learner = _bounded(learned, learned.learner)


def slots_are_told(learned: Learned, cap: int) -> None:
    """The provider named its limit of calls at once: no guess is above it."""
    held = learned.learner.slots
    if not held.cap or held.cap > cap:
        learned.learner = msgspec.structs.replace(learned.learner, slots=slots_told(held, cap))


# --- grants and successes ----------------------------------------------------------------------------------------


def granted(ledger: Ledger, name: str, node: Node, permit: Permit, stamp: Stamp) -> bool:
    """A request goes at a node that is to be watched; whether its limits are to be set anew."""
    learned = ledger.learned(name)
    if learned is None:
        return False
    _listen(learned, ledger.new_node(permit.account), ledger.now)
    changed = _foresee(learned, node, ledger.now)
    if learned.simple is not None:
        changed |= _recover(learned, node, ledger, name)
    else:
        tokens = _token_stamp(learned, permit, ledger.now)
        changed |= _grow(learned, node, ledger, name, stamp, tokens)
    watch(learned, node, ledger.now)
    return changed


def _listen(learned: Learned, account: Node, now: int) -> None:
    """Keep the others back while the first request after a pause is on its way (rule 6)."""
    if learned.listen:
        account.paused_until = max(account.paused_until, now + learned.listen)
        learned.listen = 0


def _foresee(learned: Learned, node: Node, now: int, rejections: int = 0) -> bool:
    """Count for the risk; whether another cut follows from it."""
    learned.risk = counted(learned.risk, now, max(0, node.granted - learned.counted), rejections)
    learned.counted = node.granted
    before, learned.cut = learned.cut, proactive_cut(learned.risk, now) if learned.settings.predicts else 0
    return learned.cut != before


def _token_stamp(learned: Learned, permit: Permit, now: int) -> Stamp | None:
    if learned.learner.tokens is None or learned.token_kind is None:
        return None
    units = permit.costs[PLACE[learned.token_kind]]
    stamp = Stamp(learned.spent, now, size=max(1, units))
    permit.stamp = (*permit.stamp[:3], learned.spent)
    learned.spent += units
    return stamp


def _grow(learned: Learned, node: Node, ledger: Ledger, name: str, stamp: Stamp, tokens: Stamp | None) -> bool:
    now, settings = ledger.now, learned.settings
    new = learning.granted(
        learned.learner,
        now,
        stamp,
        tokens,
        ceiling=min(settings.highest, learned.ceiling or HIGHEST),
        most_slots=learned.most_slots,
        most_tokens=learned.most_tokens or HIGHEST,
    )
    if learned.learner.slots.tried and not new.slots.tried:
        drain(node, Kind.REQUESTS, now)  # what slots that were none have kept back is not to go at once
    changed = _take(learned, new, ledger, name)
    if learned.slots and node.held >= learned.slots and now - learned.slots_at >= STEP:
        learned.slots, learned.slots_at = min(2 * learned.slots, MOST_GUESSED), now
        changed = True
    return changed


def _recover(learned: Learned, node: Node, ledger: Ledger, name: str) -> bool:
    """Mode `simple`: a step each second, above the first rate only while the rate is used."""
    simple, now = learned.simple, ledger.now
    assert simple is not None
    count = node.granted - learned.learner.requests.rejections - learned.recovered
    if now - simple.changed < SECOND or count < 1:
        return False
    used = per_minute(count, now - simple.changed) >= part(simple.rate, BUSY)
    learned.recovered += count
    new = accepted(simple, now, factors(learned.settings, learned.ceiling))
    if not used:
        new = Simple(max(simple.rate, min(new.rate, learned.started)), now)
    learned.simple = new
    if new.rate != simple.rate:
        _note(learned, "recovered", ledger, name)
    return new.rate != simple.rate


def succeeded(ledger: Ledger, name: str, node: Node, stamp: Stamp) -> bool:
    """A notable success; whether limits are to be set anew."""
    learned = ledger.learned(name)
    if learned is None:
        return False
    changed = _take(learned, learning.succeeded(learned.learner, stamp), ledger, name)
    _heed(learned, node)
    return changed


def _heed(learned: Learned, node: Node) -> None:
    """Tell the node which successes are notable; none of them puts off the step that is due."""
    slots = learned.learner.slots
    if learned.simple is not None or not (slots.cap or slots.samples):
        node.notable = FOREVER
    else:
        node.notable = min(slots.highest, slots.cap - 1) if slots.cap else slots.highest


def watch(learned: Learned, node: Node, now: int) -> None:
    """Tell the node which grants and successes are the learner's business (rule 2)."""
    _heed(learned, node)
    if learned.simple is not None:
        node.watch = 0 if learned.listen else learned.simple.changed + SECOND
        return
    requests = learned.learner.requests
    watched = learned.learner.tokens is not None or learned.listen
    node.watch = 0 if watched else watched_from(requests, now)


# --- overloads ---------------------------------------------------------------------------------------------------


def pause_of(ledger: Ledger, name: str, permit: Permit, kind: Kind | None, draw: int, draws: int) -> int | None:
    """The µs to wait after a permit's rejection; None where the learner does not measure."""
    learned = _overloaded(ledger, name)
    if learned is None or learned.simple is not None:
        return None
    return learning.pause_of(learned.learner, ledger.now, stamp_of(permit), kind, draw, draws)


def rejected(ledger: Ledger, name: str, permit: Permit, *, moved: bool, told: bool, kind: Kind | None) -> bool:
    """A permit met 429; whether limits are to be set anew. The pause is that of its account."""
    learned = _overloaded(ledger, name)
    if learned is None:
        return False
    node, now = ledger.new_node(name), ledger.now
    cut = _foresee(learned, node, now, 1)
    learned.slots = 0 if kind is Kind.CONCURRENCY else learned.slots
    learned.listen = min((now - permit.stamp[1]) * 5 // 4, LONGEST_LISTENED) if moved else learned.listen
    if learned.simple is not None:
        changed = _reduce(learned, ledger, name, moved=moved, kind=kind)
    else:
        tokens = _tokens_rejected(learned, node, permit, kind, now) if kind in PLACE else None
        resume = ledger.new_node(permit.account).paused_until
        new = learning.rejected(
            learned.learner, now, stamp_of(permit), resume, moved=moved, told=told, kind=kind, tokens=tokens
        )
        confirmed = confirms(learned.learner.requests, new.requests)
        changed = _take(learned, new, ledger, name, "overload")
        if confirmed:
            refill_from(node, Kind.REQUESTS, max(now, resume - MADE_UP))
    watch(learned, node, now)
    return changed or cut


def count_below(ledger: Ledger, name: str) -> None:
    """A permit of one of an account's groups met 429: it was not accepted, and that is all that is known here."""
    learned = ledger.learned(name)
    if learned is not None:
        requests = learned.learner.requests
        requests = msgspec.structs.replace(requests, rejections=requests.rejections + 1)
        learned.learner = msgspec.structs.replace(learned.learner, requests=requests)


def timed_out(ledger: Ledger, name: str, permit: Permit) -> bool:
    """A permit's call timed out; whether limits are to be set anew."""
    learned = _overloaded(ledger, name)
    if learned is None or learned.simple is not None:
        return False
    changed = _take(learned, learning.timed_out(learned.learner, ledger.now, stamp_of(permit)), ledger, name, "timeout")
    watch(learned, ledger.new_node(name), ledger.now)
    return changed


def stamp_of(permit: Permit) -> Stamp:
    """What a permit remembers of its grant."""
    serial, at, held, _ = permit.stamp
    return Stamp(serial, at, held)


def _tokens_rejected(learned: Learned, node: Node, permit: Permit, kind: Kind | None, now: int) -> Stamp:
    """The rejected permit as its tokens' rate sees it; a rate of tokens begins with what was used of late."""
    assert kind is not None
    size = max(1, permit.costs[PLACE[kind]])
    if learned.learner.tokens is None or learned.token_kind is not kind:
        requests = learned.learner.requests
        count = node.granted - requests.rejections - requests.climb.count
        seen = per_minute(count, max(SECOND, now - requests.climb.at))
        limit = next((limit for limit in node.limits if limit.kind is kind), None)
        most = HIGHEST if limit is None else rate_of(limit)
        rate = max(LOWEST, min(max(seen, UNIT) * size, requests.rate * size, most))
        learned.token_kind, learned.spent = kind, rate // UNIT
        tokens = Rate(rate, Mark(now, learned.spent), Mark(now - MINUTE, 0))
        learned.learner = msgspec.structs.replace(learned.learner, tokens=tokens)
        return Stamp(learned.spent, permit.stamp[1], size=size)
    return Stamp(permit.stamp[3], permit.stamp[1], size=size)


def _overloaded(ledger: Ledger, name: str) -> Learned | None:
    """What is learned at a node; its first overload begins it where a user configured the limit."""
    learned = ledger.learned(name)
    if learned is None:
        account = name.partition("#")[0]
        incarnations, settings = _settings(ledger, account)
        rate = _in_force(ledger, (name, account))
        if settings is not None and rate:
            used = min(_used(ledger, account, incarnations), rate // UNIT)
            learned = begin(ledger, name, settings, rate, used)
    return learned


def _settings(ledger: Ledger, account: str) -> tuple[list[int], Learning | None]:
    """The live instances of an account, and how they want its limits learned."""
    said = (spec.learning for spec in publications.specs_of(ledger.tables, account))
    return publications.publishers_of(ledger.tables, account), agreed(said)


def _in_force(ledger: Ledger, names: tuple[str, ...]) -> int:
    for name in names:
        for limit in ledger.new_node(name).limits:
            if limit.kind is Kind.REQUESTS:
                return rate_of(limit)
    return 0


def _used(ledger: Ledger, account: str, incarnations: list[int]) -> int:
    """The requests of the last minute, of an account's live instances."""
    flows = (ledger.flow(account, incarnation) for incarnation in incarnations)
    return sum(usage.recent(flow.used, flow.slot, ledger.now) for flow in flows if flow is not None)


def _reduce(learned: Learned, ledger: Ledger, name: str, *, moved: bool, kind: Kind | None) -> bool:
    requests, simple = learned.learner.requests, learned.simple
    assert simple is not None
    requests = msgspec.structs.replace(requests, rejections=requests.rejections + 1)
    learned.learner = msgspec.structs.replace(learned.learner, requests=requests)
    if not moved or kind not in (None, Kind.REQUESTS):
        return False
    learned.simple = reduced(simple, ledger.now, factors(learned.settings, learned.ceiling))
    _note(learned, "reduced", ledger, name)
    return True


# --- what has changed --------------------------------------------------------------------------------------------


def _take(learned: Learned, new: Learner, ledger: Ledger, name: str, why: str = "") -> bool:
    """Keep a learner's new record; whether limits follow from it that are other than before."""
    old = learned.learner
    new = _bounded(learned, new)
    learned.learner = new
    if new.slots.cap:
        learned.slots = 0
    paced = [(one.requests.rate, one.slots.cap, one.tokens and one.tokens.rate) for one in (old, new)]
    doubts = old.requests.doubted != new.requests.doubted
    if paced[0] == paced[1] and not doubts:
        return False
    _note(learned, why or notes.reason_of(old, new), ledger, name)
    return True


def _note(learned: Learned, why: str, ledger: Ledger, name: str) -> None:
    learned.reason, learned.changed_at = why, ledger.at.wall
    learned.unkept |= learned.learner.requests.rejections > 0
    notes.announce(learned, ledger, name)
