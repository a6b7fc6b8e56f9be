"""Which limits are in force: from what all live instances published and what the provider told.

1. What a user configured is a ceiling; of several configurations the strictest of the live ones holds, and a notice
   names both origins.
2. Where nobody configured a kind, what the provider told is in force; else the strictest preset or guess. Where limits
   are learned, the learned one may take their place (`learning_limits`). Calls at once that an instance has learned to
   be too many and published (`in_flight`) are in force where they are fewer than all of these. What a model told an
   hour ago and has not told since is forgotten, at the next beat or publication of whoever uses the account.
3. A limit that changes or goes keeps its level until it would be full: nobody gets a full bucket by leaving and
   joining again.
4. A preset or a guess starts with a second's worth: the first answers may tell the real limit before it is overrun.
5. Reserves that add up to more than the account's requests per minute are scaled down, with a notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules import records
from cross_instance.rules.learning_desk import agreed
from cross_instance.rules.learning_limits import believed, follow
from cross_instance.rules.ledger import Ledger, group_node
from cross_instance.rules.limits import ORDER, carry_over, new_limit, set_guard, start_low
from cross_instance.rules.operations import (
    CLUSTER,
    MINUTE,
    AccountSpec,
    Instant,
    Kind,
    Learning,
    LimitSpec,
    Notice,
    Source,
    Told,
)
from cross_instance.rules.publications import specs_of
from cross_instance.rules.tables import TOLD, named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.rules.records import Node


TOLD_LASTS = 60 * MINUTE
"""How long a told limit holds without being told again. Providers that state limits do so in every answer: nothing for
an hour means that the model is not used, and by then its limit may have been raised, or another's hold it back."""

CONFIRMED = MINUTE
"""How old what was told may be noted to be before being told again is worth a write."""


def rebuild(ledger: Ledger, account: str) -> None:
    """Put in force what follows from the live instances' publications and the told limits."""
    specs = specs_of(ledger.tables, account)
    if not specs:
        if account != CLUSTER:
            ledger.touched.add(account)
        return
    node = ledger.new_node(account)
    spread = max((spec.spread for spec in specs), default=0)
    learning = agreed(spec.learning for spec in specs)
    _put_in_force(ledger, account, [spec.limits for spec in specs], spread, learning)
    patterns = tuple(sorted({pattern for spec in specs for pattern, _ in spec.groups}))
    for pattern in {*patterns, *node.patterns}:
        published = [limits for spec in specs for name, limits in spec.groups if name == pattern]
        _put_in_force(ledger, group_node(account, pattern), published, spread, learning)
    if patterns != node.patterns or not node.revision:
        node.patterns = patterns
        node.revision += 1
    node.ageing = max((spec.ageing for spec in specs), default=0)
    if account != CLUSTER:
        _share_reserves(ledger, account, node)
    ledger.touched.add(account)


def _put_in_force(
    ledger: Ledger, name: str, published: list[tuple[LimitSpec, ...]], spread: int, learning: Learning | None
) -> None:
    node = ledger.new_node(name)
    if not node.limits and not node.retired:
        node.spread = spread
    old = {limit.kind: limit for limit in (*node.retired, *node.limits)}
    specs = [spec for limits in published for spec in limits]
    node.limits = []
    for spec in follow(ledger, name, in_force(specs, believed(ledger, name, told_specs(ledger, name))), learning):
        limit = new_limit(spec, ledger.at)
        known = old.pop(spec.kind, None)
        if known is not None:
            carry_over(limit, known, ledger.at)
        set_guard(limit, node.spread)
        if known is None and spec.source in (Source.PRESET, Source.GUESS):
            start_low(limit)
        node.limits.append(limit)
    node.retired = [limit for limit in old.values() if limit.kind is not Kind.CONCURRENCY]


def in_force(specs: list[LimitSpec], told: list[LimitSpec]) -> list[LimitSpec]:
    """One limit for each kind: the strictest configured, else told, else the strictest preset or guess; or what was
    learned where that is stricter."""
    chosen = []
    for kind in sorted({spec.kind for spec in (*specs, *told)}, key=ORDER.__getitem__):
        mine = [spec for spec in specs if spec.kind is kind]
        configured = [spec for spec in mine if spec.source is Source.CONFIGURED]
        learned = [spec for spec in mine if spec.source is Source.LEARNED]
        said = configured or [spec for spec in told if spec.kind is kind] or [one for one in mine if one not in learned]
        chosen.append(_strictest([_strictest(of) for of in (said, learned) if of]))
    return chosen


def _strictest(specs: list[LimitSpec]) -> LimitSpec:
    if specs[0].kind is Kind.CONCURRENCY:
        return min(specs, key=lambda spec: spec.amount)
    slowest = specs[0]
    for spec in specs:
        if spec.amount * max(1, slowest.period) < slowest.amount * max(1, spec.period):
            slowest = spec
    return LimitSpec(
        kind=slowest.kind,
        amount=slowest.amount,
        burst=min(spec.burst for spec in specs),
        period=slowest.period,
        source=slowest.source,
        correct=all(spec.correct for spec in specs),
        refund=all(spec.refund for spec in specs),
        anchor=slowest.anchor,
    )


def conflicts(account: str, specs: Iterable[AccountSpec]) -> list[Notice]:
    """A notice for each limit that live instances configured differently, naming the origins."""
    said: dict[tuple[str, Kind], dict[tuple[int, int, int], str]] = {}
    for spec in specs:
        for pattern, limits in (("", spec.limits), *spec.groups):
            for limit in limits:
                if limit.source is Source.CONFIGURED:
                    figures = (limit.amount, limit.burst, limit.period)
                    said.setdefault((pattern, limit.kind), {}).setdefault(figures, spec.origin)
    return [
        Notice("limits-conflict", f"{_place(account, pattern)}: {kind.value} is {_figures(of)}; the strictest holds")
        for (pattern, kind), of in said.items()
        if len(of) > 1
    ]


def _place(account: str, pattern: str) -> str:
    return f"{account or 'cluster'} {pattern}".rstrip()


def _figures(origins: dict[tuple[int, int, int], str]) -> str:
    return " but ".join(f"{figures[0]} (burst {figures[1]}) in {origin}" for figures, origin in origins.items())


def _share_reserves(ledger: Ledger, account: str, node: Node) -> None:
    """Scale the reserves to what there is; where all stand as they are wanted, nobody's is looked at."""
    total = sum(wanted for _, wanted in node.reserved)
    bound = min(
        (limit.amount * MINUTE // limit.period for limit in node.limits if limit.kind is Kind.REQUESTS),
        default=total,
    )
    if total > bound:
        text = f"{account}: reserves add up to {total}/min, the limit is {bound}/min; they are scaled down"
        ledger.notices.append(Notice("reserve-scaled", text))
    if total > bound or node.scaled:
        for incarnation, wanted in node.reserved:
            flow = ledger.live_flow(account, incarnation)
            flow.reserve = wanted if total <= bound else wanted * bound // total
    node.scaled = total > bound


# --- told limits -----------------------------------------------------------------------------------------------


def told_specs(ledger: Ledger, name: str) -> list[LimitSpec]:
    """The told limits of a node, of all models that told one; those that are too old are forgotten."""
    forget_old(ledger, name)
    value = ledger.tables.get(named(TOLD, name))
    if value is None:
        return []
    return [
        told_spec(kind, amount, period, correct, refund)
        for limits in records.decode_told(value).values()
        for kind, amount, period, correct, refund, _ in limits
    ]


def forget_old(ledger: Ledger, name: str) -> bool:
    """Forget what a node was told too long ago; whether there was any."""
    value = ledger.tables.get(named(TOLD, name))
    if value is None:
        return False
    by_model = records.decode_told(value)
    young = {
        model: kept
        for model, limits in by_model.items()
        if (kept := tuple(limit for limit in limits if ledger.now - limit[-1] < TOLD_LASTS))
    }
    if young == by_model:
        return False
    if young:
        ledger.tables.put(named(TOLD, name), records.encode(young))
    else:
        ledger.tables.delete(named(TOLD, name))
    return True


def let_told_fade(ledger: Ledger, account: str) -> None:
    """Put in force what is left where something that an account or its groups were told has become too old."""
    node = ledger.node(account)
    patterns = () if node is None else node.patterns
    if any(forget_old(ledger, name) for name in (account, *(group_node(account, of) for of in patterns))):
        rebuild(ledger, account)


def told_spec(kind: Kind, amount: int, period: int, correct: bool, refund: bool) -> LimitSpec:
    """A told limit as a spec. A provider may apply requests per minute as requests per second, so only a second's
    worth of a minute is taken at once; a single request may need many tokens, so tokens come as a whole minute."""
    burst = max(1, amount // 60) if kind is Kind.REQUESTS else amount
    return LimitSpec(kind, amount, burst, period, Source.TOLD, correct, refund)


def apply_told(ledger: Ledger, name: str, model: str, told: Told) -> bool:
    """Remember a told limit; whether it is news. Figures that cannot be kept exactly are not believed."""
    entry = (told.kind, told.limit, told.period, told.correct, told.refund)
    try:
        new_limit(told_spec(*entry), Instant(0, 0))
    except ValueError:
        return False
    value = ledger.tables.get(named(TOLD, name))
    by_model = {} if value is None else records.decode_told(value)
    limits = by_model.get(model, ())
    before = next((limit for limit in limits if limit[0] is told.kind), None)
    is_news = before is None or before[:-1] != entry
    if before is None or is_news or ledger.now - before[-1] >= CONFIRMED:
        by_model[model] = (*(other for other in limits if other is not before), (*entry, ledger.now))
        ledger.tables.put(named(TOLD, name), records.encode(by_model))
    return is_news
