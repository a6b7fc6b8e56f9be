"""Limits: token buckets, fixed windows and slots, in integers.

1. A bucket holds units times `den` and gains `num` each microsecond: no division, so no drift, however long it runs.
2. Elapsed time is clamped to what fills the bucket before it is multiplied, so that nothing overflows after hours
   idle and nothing is lost on the way.
3. In any interval T at most `burst + rate * T` units are charged: a bucket never holds more than its burst, and
   owes what was charged beyond.
4. `guard = min(burst - 1, max(1, rate * spread))` units of a bucket are never filled, where `spread` is the measured
   delay from grant to send: requests that were granted evenly may arrive bunched, and still make no 429.
5. A request larger than the bucket waits for a full one and leaves the rest owed.
"""

from __future__ import annotations

from math import gcd

from cross_instance.rules.operations import FOREVER, MINUTE, Instant, Kind, LimitSpec, LimitState, Source
from cross_instance.rules.records import Flow, Limit, Node

EXACT = 1 << 53
"""Lua's numbers are doubles, exact below this."""

INDEX = {Kind.REQUESTS: 0, Kind.REQUESTS_DAY: 0, Kind.TOKENS: 1, Kind.INPUT_TOKENS: 2, Kind.OUTPUT_TOKENS: 3}
"""Where a bucket's kind finds its cost in a permit's `costs`."""

EPOCH = {
    Kind.REQUESTS: 0,
    Kind.REQUESTS_DAY: 0,
    Kind.TOKENS: 1,
    Kind.INPUT_TOKENS: 1,
    Kind.OUTPUT_TOKENS: 1,
    Kind.CONCURRENCY: 2,
}
"""Which of the three epochs (requests, tokens, concurrency) an overload of a kind moves."""

ORDER = {kind: place for place, kind in enumerate(Kind)}


def new_limit(spec: LimitSpec, at: Instant) -> Limit:
    """A full bucket for what an instance published.

    Raises `ValueError` where the figures are not positive or their product is not exact in a double.
    """
    burst, period = (spec.amount, 1) if spec.kind is Kind.CONCURRENCY else (spec.burst, spec.period)
    if min(spec.amount, burst, period) < 1:
        raise ValueError(f"{spec.kind.value}: amount, burst and period must be positive")
    divisor = gcd(spec.amount, period)
    num, den = spec.amount // divisor, period // divisor
    if (burst + 1) * den + num >= EXACT:
        raise ValueError(f"{spec.kind.value}: {spec.amount} per {period} µs with a burst of {burst} is not exact")
    limit = Limit(
        kind=spec.kind,
        amount=spec.amount,
        burst=burst,
        period=period,
        source=spec.source,
        correct=spec.correct,
        refund=spec.refund,
        anchor=spec.anchor,
        num=num,
        den=den,
        cap=burst,
        level=burst * den,
        at=at.mono,
    )
    if spec.anchor is not None:
        limit.window = (at.wall - spec.anchor) // period
    return limit


def carry_over(new: Limit, old: Limit, at: Instant) -> None:
    """Let a changed limit go on from where the old one stood: a change of rate gives nobody a full bucket."""
    refill(old, at)
    units, rest = divmod(old.level, old.den)
    new.level = min(new.level, units * new.den + rest * new.den // old.den)
    new.at = max(new.at, old.at)


def refill(limit: Limit, at: Instant) -> None:
    """Bring a bucket to the present."""
    if limit.anchor is not None:
        window = (at.wall - limit.anchor) // limit.period
        if window > limit.window:
            limit.window, limit.level = window, limit.cap * limit.den
        return
    elapsed = at.mono - limit.at
    if elapsed <= 0:
        return
    full = limit.cap * limit.den
    room = full - limit.level
    limit.level = (
        full if room <= limit.num * min(elapsed, EXACT // limit.num >> 1) else limit.level + limit.num * elapsed
    )
    limit.at = at.mono


def set_guard(limit: Limit, spread: int) -> None:
    """Keep back what `spread` µs of delay may bunch together (rule 4); windows and slots have no guard."""
    if limit.kind is Kind.CONCURRENCY or limit.anchor is not None:
        return
    bunched = -(-limit.num * min(spread, limit.period) // limit.den)
    limit.cap = limit.burst - min(limit.burst - 1, max(1, bunched))
    limit.level = min(limit.level, limit.cap * limit.den)


def delay_until_fits(node: Node, costs: tuple[int, int, int, int], at: Instant) -> tuple[int, Limit | None]:
    """How long until a node's limits admit a request, in µs, and the limit that holds it longest.

    (0, None): it fits now. Slots free when they free: `FOREVER`. The limits must be refilled.
    """
    longest, binding = 0, None
    for limit in node.limits:
        kind = limit.kind
        if kind is Kind.CONCURRENCY:
            delay = 0 if node.held < limit.amount else FOREVER
        else:
            units = costs[INDEX[kind]]
            if not units:
                continue
            lack = min(units, limit.cap) * limit.den - limit.level
            delay = 0 if lack <= 0 else _refill_time(limit, lack, at)
        if delay > longest:
            longest, binding = delay, limit
    return longest, binding


def _refill_time(limit: Limit, lack: int, at: Instant) -> int:
    if limit.anchor is not None:
        return limit.anchor + (limit.window + 1) * limit.period - at.wall
    return -(-lack // limit.num) + max(0, limit.at - at.mono)


def charge(node: Node, costs: tuple[int, int, int, int], sign: int = 1) -> None:
    """Take what a request costs, or with `sign` -1 give it back."""
    node.held += sign
    for limit in node.limits:
        if limit.kind is not Kind.CONCURRENCY:
            add(limit, -sign * costs[INDEX[limit.kind]])


def add(limit: Limit, units: int) -> None:
    """Put units into a bucket, never beyond its cap; negative: take or owe them."""
    limit.level = max(min(limit.level + units * limit.den, limit.cap * limit.den), -(EXACT - 1))


def too_large(node: Node, costs: tuple[int, int, int, int]) -> Limit | None:
    """The configured or told limit that a request exceeds by itself; a guessed one is no reason to refuse."""
    for limit in node.limits:
        if limit.kind is Kind.CONCURRENCY or limit.source not in (Source.CONFIGURED, Source.TOLD):
            continue
        if costs[INDEX[limit.kind]] > limit.burst:
            return limit
    return None


def refill_reserve(flow: Flow, now: int) -> bool:
    """Bring a reserve (requests per minute, up to ten seconds' worth at once) to the present; whether one is there."""
    if not flow.reserve:
        return False
    full = max(1, flow.reserve // 6) * MINUTE
    elapsed = min(now - flow.at, MINUTE)
    flow.level, flow.at = min(full, flow.level + flow.reserve * elapsed), now
    return flow.level >= MINUTE


SHARE = 1_000_000
"""The share of a limit that is all of it."""


def dominant_share(node: Node, costs: tuple[int, int, int, int]) -> int:
    """The largest fraction that a request takes of any of a node's limits, in millionths (Ghodsi et al., DRF, 2011)."""
    share = 0
    for limit in node.limits:
        units = 1 if limit.kind is Kind.CONCURRENCY else costs[INDEX[limit.kind]]
        share = max(share, min(units, limit.amount) * SHARE // limit.amount)
    return share


def shown(name: str, node: Node, limit: Limit) -> LimitState:
    """A limit for people; `available` counts whole units."""
    slots = limit.kind is Kind.CONCURRENCY
    return LimitState(
        node=name,
        kind=limit.kind,
        amount=limit.amount,
        burst=limit.burst,
        period=limit.period,
        source=limit.source,
        available=limit.amount - node.held if slots else limit.level // limit.den,
        guard=limit.burst - limit.cap,
    )
