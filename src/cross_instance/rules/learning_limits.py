"""The limits that follow from what is learned, and what of it outlives a boot.

1. A configured limit is a ceiling, its burst is one as well: below it the learned one is in force, from it on the
   configured one again.
2. A told limit is in force while the learner believes it and has found nothing lower; a doubted one is not.
3. A preset or a guess is in force until the learner has moved away from it, a guess of slots as well.
4. A second's worth of requests may be taken at once: a provider may apply its limit to each second. Before the first
   429 the burst that was published stays. Of tokens, ten seconds' worth: a single request may need many.
5. The durable copy is read where a node has no record, and is as good as its age (`learning_rate.resumed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import learning_desk as desk
from cross_instance.rules.learning import Learner
from cross_instance.rules.learning_concurrency import Concurrency
from cross_instance.rules.learning_rate import CRUISE, REST, Phase, resumed
from cross_instance.rules.learning_records import Kept, Learned, decode_kept
from cross_instance.rules.learning_simple import Simple
from cross_instance.rules.learning_values import HIGHEST, UNIT, Mark, part
from cross_instance.rules.operations import FOREVER, MINUTE, Kind, Learning, LimitSpec, Source
from cross_instance.rules.records import encode
from cross_instance.rules.tables import KEPT, named

if TYPE_CHECKING:
    from cross_instance.rules.ledger import Ledger

HIGHEST_PACED = HIGHEST // 10
"""Above this (10^8 per minute) a rate is not told from none, and its bucket could not be counted exactly."""

MOST_TOKENS = 1_000_000_000
"""The largest amount of tokens per minute, as in the configuration."""

LONG = 10 * MINUTE
"""The period of a learned limit: it is exact to a tenth of a request per minute."""


def believed(ledger: Ledger, name: str, told: list[LimitSpec]) -> list[LimitSpec]:
    """What a node was told, without what the learner doubts; the learner is told of it first."""
    learned = ledger.learned(name)
    if learned is None:
        return told
    rates = [desk.rate_of(spec) for spec in told if spec.kind is Kind.REQUESTS]
    desk.told_is(learned, ledger.new_node(name), ledger.now, min(rates, default=0))
    if not learned.learner.requests.doubted:
        return told
    return [spec for spec in told if spec.kind is not Kind.REQUESTS]


def follow(ledger: Ledger, name: str, specs: list[LimitSpec], settings: Learning | None) -> list[LimitSpec]:
    """What is in force at a node where these limits are published or told."""
    node = ledger.new_node(name)
    if settings is None:
        if ledger.learned(name) is not None:
            ledger.drop_learned(name)
        node.watch = node.notable = FOREVER
        return specs
    by_kind = {spec.kind: spec for spec in specs}
    learned = ledger.learned(name) or _resume(ledger, name, settings) or _begin(ledger, name, settings, by_kind)
    if learned is None:
        return specs
    _bind(learned, by_kind, ledger.now)
    desk.adapt(learned, settings, ledger.now, node.granted)
    desk.watch(learned, node, ledger.now)
    chosen = {
        Kind.REQUESTS: _requests(learned, by_kind.get(Kind.REQUESTS)),
        Kind.CONCURRENCY: _slots(learned, by_kind.get(Kind.CONCURRENCY)),
    }
    if learned.token_kind is not None:
        chosen[learned.token_kind] = _tokens(learned, learned.token_kind, by_kind.get(learned.token_kind))
    by_kind |= {kind: spec for kind, spec in chosen.items() if spec is not None}
    return [by_kind[kind] for kind in Kind if kind in by_kind]


def _begin(ledger: Ledger, name: str, settings: Learning, by_kind: dict[Kind, LimitSpec]) -> Learned | None:
    requests = by_kind.get(Kind.REQUESTS)
    if requests is None or requests.source is Source.CONFIGURED:
        return None
    learned = desk.begin(ledger, name, settings, desk.rate_of(requests))
    if requests.source is Source.TOLD:
        desk.told_is(learned, ledger.new_node(name), ledger.now, desk.rate_of(requests))
    return learned


def _bind(learned: Learned, by_kind: dict[Kind, LimitSpec], now: int) -> None:
    """Let the learner know what is configured, told and guessed beside it."""
    requests, slots = by_kind.get(Kind.REQUESTS), by_kind.get(Kind.CONCURRENCY)
    tokens = None if learned.token_kind is None else by_kind.get(learned.token_kind)
    learned.ceiling = desk.rate_of(requests) if requests and requests.source is Source.CONFIGURED else 0
    learned.most_slots = slots.amount if slots and slots.source is Source.CONFIGURED else 0
    learned.most_tokens = desk.rate_of(tokens) if tokens and tokens.source is Source.CONFIGURED else 0
    if slots is not None and slots.source is Source.TOLD:
        desk.slots_are_told(learned, slots.amount)
    elif slots is not None and slots.source is Source.GUESS and not learned.slots and not learned.slots_at:
        learned.slots, learned.slots_at = slots.amount, now


# --- what follows ------------------------------------------------------------------------------------------------


def allowed(learned: Learned) -> int:
    """The rate of requests that is paced."""
    rate = learned.learner.requests.rate if learned.simple is None else learned.simple.rate
    return max(UNIT, rate - part(rate, learned.cut)) if learned.cut else rate


def _requests(learned: Learned, base: LimitSpec | None) -> LimitSpec:
    requests, rate = learned.learner.requests, min(allowed(learned), HIGHEST_PACED)
    untouched = learned.simple is None and requests.phase == Phase.START
    if base is not None and _stands(learned, base, rate):
        return base
    burst = max(1, rate // UNIT // 60)
    if base is not None and untouched:
        burst = max(burst, base.burst)
    charging = base or LimitSpec(Kind.REQUESTS, 1)
    return LimitSpec(
        Kind.REQUESTS,
        max(1, rate * (LONG // MINUTE) // UNIT),
        _within(burst, base),
        LONG,
        Source.LEARNED,
        charging.correct,
        charging.refund,
    )


def _within(burst: int, base: LimitSpec | None) -> int:
    """A configured burst is a ceiling, too (rule 1)."""
    return min(burst, base.burst) if base is not None and base.source is Source.CONFIGURED else burst


def _stands(learned: Learned, base: LimitSpec, rate: int) -> bool:
    """Whether the published or told limit is in force as it is."""
    requests = learned.learner.requests
    if base.source is Source.CONFIGURED:
        return rate >= desk.rate_of(base)
    if base.source is Source.TOLD and not learned.cut:
        return rate >= part(requests.told, CRUISE) and requests.estimate in (0, requests.told)
    return rate == desk.rate_of(base) and (learned.simple is not None or requests.phase == Phase.START)


def _slots(learned: Learned, base: LimitSpec | None) -> LimitSpec | None:
    cap = learned.learner.slots.cap
    if base is not None and base.source is Source.GUESS:
        cap = cap or learned.slots
    if not cap or (base is not None and cap >= base.amount and base.source is not Source.GUESS):
        return base
    if base is not None and cap == base.amount:
        return base
    return LimitSpec(Kind.CONCURRENCY, cap, 0, 0, Source.LEARNED)


def _tokens(learned: Learned, kind: Kind, base: LimitSpec | None) -> LimitSpec | None:
    rate = learned.learner.tokens
    if rate is None or (base is not None and rate.rate >= desk.rate_of(base)):
        return base
    amount = max(1, min(rate.rate // UNIT, MOST_TOKENS))
    charging = base or LimitSpec(kind, 1)
    burst = _within(max(1, amount // 6), base)
    return LimitSpec(kind, amount, burst, MINUTE, Source.LEARNED, charging.correct, charging.refund)


# --- the durable copy --------------------------------------------------------------------------------------------


def keep(ledger: Ledger, name: str) -> bool:
    """Write what is learned at a node into its durable copy; whether there was anything new."""
    learned = ledger.learned(name)
    if learned is None or not learned.unkept:
        return False
    learned.unkept = False
    ledger.tables.put(named(KEPT, name), encode(Kept(ledger.at.wall, learned)))
    return True


def _resume(ledger: Ledger, name: str, settings: Learning) -> Learned | None:
    """Go on from the durable copy. Its instants are of another boot: only figures are taken."""
    value = ledger.tables.get(named(KEPT, name))
    if value is None:
        return None
    kept, node, now = decode_kept(value), ledger.new_node(name), ledger.now
    old, age = kept.learned, max(0, ledger.at.wall - kept.at)
    learner = Learner(
        requests=resumed(old.learner.requests, now, node.granted, age),
        tokens=old.learner.tokens and resumed(old.learner.tokens, now, 0, age),
        slots=Concurrency(cap=old.learner.slots.cap, due=Mark(now + REST, node.granted), proven=old.learner.slots.cap),
    )
    learned = Learned(
        learner,
        settings,
        old.started,
        simple=old.simple and Simple(old.simple.rate, now),
        recovered=node.granted,
        token_kind=old.token_kind,
        counted=node.granted,
        reason="resumed",
        changed_at=kept.at,
    )
    ledger.add_learned(name, learned)
    return learned
