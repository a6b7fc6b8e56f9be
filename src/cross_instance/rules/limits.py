"""Limits: token buckets, fixed windows and slots, in integers.

1. A bucket holds units times `den` and gains `num` each microsecond: no division, so no drift, however long it runs.
2. Elapsed time is clamped to what fills the bucket before it is multiplied, so that nothing overflows after hours
   idle and nothing is lost on the way.
3. In any interval T at most `burst + rate * T` units are charged: a bucket never holds more than its burst, and
   owes what was charged beyond.
4. `guard = min(burst - 1, max(1, rate * spread))` units of a bucket are never filled, where `spread` is the measured
   delay from grant to send: requests that were granted evenly may arrive bunched, and a provider's full bucket starts
   to refill only when the first of them arrives; still there is no 429.
5. A request larger than the bucket waits for a full one and leaves the rest owed.
6. A fixed window closes early, by the same `spread`: what is granted at its very end may arrive in the next window,
   and would be counted there on top of all that the next one gives. (A machine's clock that differs from the
   provider's shifts the whole window; no guard is kept for that.)
7. Of a charge at most `cap - the highest level since` can be returned: had it not been made, the bucket would have
   been full there and lost the rest. So refilled time is not given twice.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.operations import FOREVER, MINUTE, SECOND, Costs, Instant, Kind, LimitSpec, LimitState, Source
from cross_instance.rules.records import Flow, Limit, Node

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT = 1 << 53
"""Lua's numbers are doubles, exact below this."""

SHARE = 1_000_000
"""The share of a limit that is all of it."""

Units = tuple[int, int, int, int]
"""Requests, tokens, input and output tokens."""

INDEX = {Kind.REQUESTS: 0, Kind.REQUESTS_DAY: 0, Kind.TOKENS: 1, Kind.INPUT_TOKENS: 2, Kind.OUTPUT_TOKENS: 3}
"""Where a bucket's kind stands in `Units`."""

EPOCH = {
    Kind.REQUESTS: 0,
    Kind.REQUESTS_DAY: 0,
    Kind.TOKENS: 1,
    Kind.INPUT_TOKENS: 1,
    Kind.OUTPUT_TOKENS: 1,
    Kind.CONCURRENCY: 2,
}
"""Which of the three epochs (requests, tokens, concurrency) an overload of a kind moves."""

PEAKS = 8
"""How many heights a bucket remembers for credits."""

NEAR = 1024
"""Heights that differ by less than this part of a full bucket are near each other: a busy account, of which a request
takes less, then has nothing to sort with each charge (4 µs of an `Acquire` of 18)."""

ORDER = {kind: place for place, kind in enumerate(Kind)}
BUCKETS = len(Kind) - 1
"""The number of kinds that are buckets; they stand before concurrency in `ORDER`."""


def new_limit(spec: LimitSpec, at: Instant) -> Limit:
    """A full bucket for what an instance published.

    Raises `ValueError` where the figures are not positive or their product is not exact in a double.
    """
    burst, period = (spec.amount, 1) if spec.kind is Kind.CONCURRENCY else (spec.burst, spec.period)
    if min(spec.amount, burst, period) < 1:
        raise ValueError(f"{spec.kind.value}: amount, burst and period must be positive")
    divisor = gcd(spec.amount, period)
    num, den = spec.amount // divisor, period // divisor
    if (burst + 1) * den + num >= EXACT or spec.amount * SHARE >= EXACT:
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
        low=burst * den,
        at=FOREVER if spec.kind is Kind.CONCURRENCY else at.mono,
    )
    if spec.anchor is not None:
        limit.window = (at.wall - spec.anchor) // period
        limit.at = 0
    return limit


def start_low(limit: Limit) -> None:
    """Leave a second's worth of requests, at least one, in a bucket whose limit is not really known."""
    if limit.kind is Kind.REQUESTS:
        limit.level = min(limit.level, max(1, limit.amount * SECOND // limit.period) * limit.den)


def carry_over(new: Limit, old: Limit, at: Instant) -> None:
    """Let a changed limit go on from where the old one stood, in whole units: nobody gets a full bucket by a change.

    What was charged under the old figures gets no credit under new ones, since it cannot be told what is left of it.
    """
    if new.kind is Kind.CONCURRENCY:
        return
    refill(old, at)
    new.charges, new.peaks, new.low = old.charges, old.peaks, old.low
    if (new.num, new.den, new.burst, new.anchor) == (old.num, old.den, old.burst, old.anchor):
        new.cap, new.level = old.cap, old.level
    else:
        unguarded = old.level // old.den + old.burst - old.cap
        new.level = new.low = max(min(new.level, unguarded * new.den), -EXACT + 1)
        note(new, new.cap * new.den)
    new.at = max(new.at, old.at)
    if (new.anchor, new.period) == (old.anchor, old.period):
        new.window = max(new.window, old.window)


def refill(limit: Limit, at: Instant) -> None:
    """Bring a bucket to the present.

    A window more than one ahead was opened by a wall clock that ran ahead: it is taken to be the present one. At the
    end of a window, when it has closed, nothing is left of it.
    """
    if limit.anchor is not None:
        window = (at.wall - limit.anchor) // limit.period
        if window > limit.window:
            limit.window, limit.level = window, limit.cap * limit.den
            note(limit, limit.level)
        elif window < limit.window - 1:
            limit.window = window
        if limit.at and limit.anchor + (limit.window + 1) * limit.period + limit.at <= at.wall:
            limit.level = min(limit.level, 0)
        return
    elapsed = at.mono - limit.at
    if elapsed <= 0:
        return
    full = limit.cap * limit.den
    if limit.level < full:
        to_fill = -(-(full - limit.level) // limit.num)
        limit.level = full if elapsed >= to_fill else limit.level + limit.num * elapsed
    limit.at = at.mono


def drain(node: Node, kind: Kind, until: int) -> None:
    """The provider's bucket is empty, so ours is: one request may go first, the rest when it is refilled."""
    for limit in node.limits:
        if limit.kind is Kind.CONCURRENCY or limit.anchor is not None or limit.kind is not kind:
            continue
        keep = limit.den if limit.kind in (Kind.REQUESTS, Kind.REQUESTS_DAY) else 0
        take(limit, max(0, -(-(limit.level - keep) // limit.den)))
        note(limit, limit.cap * limit.den)
        limit.at = max(limit.at, until)


def refill_from(node: Node, kind: Kind, at: int) -> None:
    """Let a drained bucket be refilled from an instant on."""
    for limit in node.limits:
        if limit.kind is kind and limit.anchor is None:
            limit.at = at


def set_guard(limit: Limit, spread: int) -> None:
    """Keep back what `spread` µs of delay (up to a second) may bunch together (rule 4), or may carry over the end of a
    fixed window (rule 6; up to half of it); `at` of a window is the guard's time before that end, as a negative number.

    What is missing from the bucket stays the same: a guard that comes or goes neither takes nor gives.
    """
    if limit.kind is Kind.CONCURRENCY:
        return
    if limit.anchor is not None:
        limit.at = -min(spread, SECOND, limit.period // 2)
        return
    bunched = -(-limit.num * min(spread, SECOND) // limit.den)
    cap = limit.burst - min(limit.burst - 1, max(1, bunched))
    shift = (cap - limit.cap) * limit.den
    if shift:
        limit.cap = cap
        limit.level = max(limit.level + shift, -EXACT + 1)
        limit.low = max(limit.low + shift, -EXACT + 1)
        limit.peaks = [(at, level + shift) for at, level in limit.peaks]


def units_of(costs: Costs) -> Units:
    """Costs as they are kept with a permit."""
    return costs.requests, costs.tokens, costs.input_tokens, costs.output_tokens


class Hold(NamedTuple):
    """What keeps a request back: how long its buckets need, in µs, the bucket that needs longest, the slots where none
    is free (they free when they free), and the configured or told limit that it exceeds by itself."""

    delay: int = 0
    bucket: Limit | None = None
    slots: Limit | None = None
    excess: Limit | None = None


FREE = Hold()
"""Nothing keeps it back; `hold_of` gives this very one."""


def hold_of(node: Node, costs: Units, at: Instant, *, certain: bool = False) -> Hold:
    """What keeps a request back at a node, whose limits are refilled to `at`.

    `certain`: leave out the buckets to which a permit in flight may return what it turns out not to use.
    """
    longest, binding, slots, excess = 0, None, None, None
    for limit in node.limits:
        if limit.kind is Kind.CONCURRENCY:
            slots = limit if node.held >= limit.amount else None
            continue
        units = costs[INDEX[limit.kind]]
        if units > limit.cap:
            if excess is None and is_excess(limit, units):
                excess = limit
            units = limit.cap
        lack = units * limit.den - limit.level
        if units and lack > 0 and not (certain and _may_return(node, limit)):
            delay = _refill_time(limit, lack, at)
            if delay > longest:
                longest, binding = delay, limit
    if longest or slots is not None or excess is not None:
        return Hold(longest, binding, slots, excess)
    return FREE


def _may_return(node: Node, limit: Limit) -> bool:
    return node.held > 0 and limit.correct and INDEX[limit.kind] > 0


def is_excess(limit: Limit, units: int) -> bool:
    """Whether a request exceeds a configured or told limit by itself; a guessed one is no reason to refuse."""
    return units > limit.burst and limit.source in (Source.CONFIGURED, Source.TOLD)


def _refill_time(limit: Limit, lack: int, at: Instant) -> int:
    if limit.anchor is not None:
        return max(1, limit.anchor + (limit.window + 1) * limit.period - at.wall)
    return min(-(-lack // limit.num) + max(0, limit.at - at.mono), FOREVER)


def charge(node: Node, costs: Units) -> list[int]:
    """Take a slot and what a request costs; the marks by which it can be credited later."""
    node.held += 1
    marks = [0] * BUCKETS
    for limit in node.limits:
        if limit.kind is not Kind.CONCURRENCY and costs[INDEX[limit.kind]]:
            take(limit, costs[INDEX[limit.kind]])
            marks[ORDER[limit.kind]] = limit.charges
    return marks


def take(limit: Limit, units: int) -> None:
    """Take units from a bucket, or owe them.

    Only a height to which the level rose since the last charge is noted: what falls from charge to charge can be
    returned whole.
    """
    if limit.level > limit.low:
        note(limit, limit.level)
    limit.charges += 1
    limit.level = limit.low = max(limit.level - units * limit.den, -EXACT + 1)


def note(limit: Limit, level: int) -> None:
    """Remember how high the level stood before the next charge.

    Kept are the last few heights that no later one reached; those that are near each other, and of more the two
    nearest, are counted as one, the higher, which can only make a credit smaller.
    """
    peaks = limit.peaks
    while peaks and peaks[-1][1] <= level:
        peaks.pop()
    if peaks and peaks[-1][1] - level < limit.cap * limit.den // NEAR:
        peaks[-1] = (limit.charges, peaks[-1][1])
        return
    peaks.append((limit.charges, level))
    if len(peaks) > PEAKS:
        at = min(range(PEAKS), key=lambda place: abs(peaks[place][1] - peaks[place + 1][1]))
        peaks[at : at + 2] = [(peaks[at + 1][0], max(peaks[at][1], peaks[at + 1][1]))]


def credit(limit: Limit, units: int, mark: int) -> None:
    """Return units of a charge that was the `mark`-th, as far as they were not refilled by time already (rule 7)."""
    if not mark:
        return
    highest = max([level for charge, level in limit.peaks if charge >= mark], default=limit.level)
    returned = min(units * limit.den, limit.cap * limit.den - max(highest, limit.level), EXACT - 1)
    if returned > 0:
        limit.level += returned
        limit.low += returned
        limit.peaks = [(at, level + returned if at >= mark else level) for at, level in limit.peaks]


def uncharge(node: Node, charged: Units, marks: Sequence[int]) -> None:
    """Undo a charge: the request was never sent."""
    node.held -= 1
    for limit in node.limits:
        if limit.kind is not Kind.CONCURRENCY:
            credit(limit, charged[INDEX[limit.kind]], marks[ORDER[limit.kind]])


def correct(node: Node, charged: Units, marks: Sequence[int], usage: Units | None, *, rejected: bool = False) -> None:
    """Return a permit's slot, and bring what it was charged to what the provider charged, by each limit's rule."""
    node.held -= 1
    if usage is None and not rejected:
        return
    for limit in node.limits:
        if limit.kind is Kind.CONCURRENCY:
            continue
        place, mark = INDEX[limit.kind], marks[ORDER[limit.kind]]
        if rejected and limit.refund:
            credit(limit, charged[place], mark)
        elif usage is not None and limit.correct and place:
            surplus = charged[place] - usage[place]
            if surplus > 0:
                credit(limit, surplus, mark)
            elif surplus:
                take(limit, -surplus)


def measure(node: Node, delay: int, at: Instant) -> None:
    """Follow the spread of the delay from grant to send: up at once, down by a sixty-fourth with each permit.

    A second at most: more makes no wider guard (`set_guard`), but would take thousands of permits to be forgotten.
    Whether a window has closed by now is told by the guard that it had until now.
    """
    delay = min(delay, SECOND)
    spread = delay if delay > node.spread else node.spread - (node.spread - delay) // 64
    if spread != node.spread:
        node.spread = spread
        for limit in node.limits:
            if limit.anchor is not None:
                refill(limit, at)
            set_guard(limit, spread)


def refill_reserve(flow: Flow, now: int) -> bool:
    """Bring a reserve (requests per minute, up to ten seconds' worth at once) to the present; whether one is there."""
    if not flow.reserve:
        return False
    elapsed = min(now - flow.at, MINUTE)
    flow.level, flow.at = min(_full_reserve(flow.reserve), flow.level + flow.reserve * elapsed), now
    return flow.level >= MINUTE


def fill_reserve(flow: Flow, reserve: int, now: int) -> None:
    """Start with all that a reserve holds at once."""
    flow.level, flow.at = _full_reserve(reserve), now


def _full_reserve(reserve: int) -> int:
    return max(1, reserve // 6) * MINUTE


def dominant_share(node: Node, costs: Units) -> int:
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
