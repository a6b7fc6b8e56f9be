"""What rejections tell about a hidden rate: the estimate between two boundaries.

1. A boundary is the end of a block of rejections: the provider's bucket is empty there, or its window just over. What
   was accepted between two of them, by the time between, is the refill rate, for buckets and windows alike.
2. A boundary is dated by the grant of the first rejected request, not by when its 429 was heard: `serial` tells how
   many had gone before it, so a slow 429 falsifies nothing.
3. Where trials were rejected too, the window ended somewhere in the last pause: the middle is taken, and half the pause
   is what the figure is unsure of. An estimate within that doubt is kept.
4. Fewer than three accepted between: the block goes on, and its judgement is made anew with the longer time, from ten
   accepted in it on by itself. Fewer than ten: too few to judge; the next block judges both intervals. (Of tokens: the
   size of as many requests.)
5. Clearly more than the estimate: the limit has grown. Clearly less: it has fallen. Otherwise it is confirmed. Met
   while cruising it is a little lower; after a climb it moves a little towards what that had sustained: a window that
   was not full in every round shows less than the limit.
6. The estimate is never above the rate that was really paced.
7. One cut per overload: an echo is only counted.
8. Where the provider's windows are recognised, they are its boundaries, and the count of a full one is its limit
   (`learning_filled`).
9. A block in which hardly a trial is accepted and that outlasts a minute's window is an outage, no limit: the circuit
   stays open but for a trial every half minute, and afterwards the estimate from before it stands.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules import learning_filled as filled
from cross_instance.rules.learning_rate import (
    CLIMB_GAIN,
    LONGEST_REST,
    PRICE,
    REST,
    SEARCH_GAIN,
    Block,
    Phase,
    Rate,
    cruising,
    goes_on,
)
from cross_instance.rules.learning_values import WHOLE, Mark, Stamp, ahead, part, per_minute, sane, units_in
from cross_instance.rules.values import SECOND

ENOUGH = 10
"""Accepted requests that an estimate needs."""
FIRST_CUT = 700_000
FIRST_FLOOR = 100_000
FIRST_LASTED = 750_000
"""After the first overload: at most and at least the first two shares of the rate at which it was met, and at least the
third of the rate that had lasted for a whole step before. Measured from 30 to 3,000 per minute and up to 1 s of delay:
95 % is reached up to 16 s earlier, for a fifth more 429s at the start."""
AGREES = 50_000
AGREES_LEARNING = 30_000
MOST_UNSURE = 200_000
"""How far a figure may lie from the estimate and confirm it: this, and what the figure is unsure of, up to the most."""
FALLEN = 1_020_000
"""Met at no more than this share of the estimate: the limit is lower."""
FALL = 980_000
DECAY = 995_000
DRIFT = 1_030_000
DRIFT_LEARNING = 1_080_000
"""What becomes of an estimate: at least and at most when it was met while cruising (the second also where a climb has
sustained nothing), and at most after a climb (the first ones)."""
GROWING = 1_080_000
"""A climb that lies on the whole above this share of the estimate has left it behind."""
GROWN_GAIN = 100_000
GROWN_MOST = 1_500_000
"""How to climb on when the limit has grown, and how far above the figure the climb's own rate is believed."""
IN_USE = 500_000
"""The share of the estimate that was accepted since the block before, where a rejection is one of this limit."""
LONG_ROW = 8
SHORTEST_PAUSE = SECOND // 50


def pause(record: Rate, now: int, stamp: Stamp, draw: int, draws: int) -> int:
    """The µs to wait after a rejection where the provider did not say: until the full window ends, or as after as many
    in a row."""
    row = next_row(record, stamp)
    full = filled.full_window(record, stamp, None, goes_on=bool(row))
    if full is None:
        return blind_pause(row, draw, draws)
    return max(SHORTEST_PAUSE, filled.wait_until(record, full, goes_on=bool(row)) - now)


def blind_pause(row: int, draw: int, draws: int) -> int:
    """The µs to wait after the `row`-th rejection in a row where nothing is known: 1, 2, 4 s, then 8 s until a minute's
    window must have ended, then 16 and 32 s; ± 20 % by a `draw` in [0, draws)."""
    us = SECOND << (min(row, 3) if row < LONG_ROW else min(row - 4, 5))
    return us * 4 // 5 + us * 2 // 5 * (draw >> 12) // (draws >> 12)


def next_row(record: Rate, stamp: Stamp) -> int:
    """How many rejections in a row this one ends, less one."""
    return record.block.row + 1 if goes_on(record, stamp.serial - record.rejections, stamp.size) else 0


def meets_full_window(record: Rate, stamp: Stamp) -> bool:
    """Whether a recognised window that is full explains a rejection."""
    return filled.full_window(record, stamp, None, goes_on=bool(next_row(record, stamp))) is not None


def echoed(record: Rate, stamp: Stamp) -> Rate:
    """A rejection of a request granted before the epoch moved: counted, paid for, nothing else."""
    block = msgspec.structs.replace(record.block, rejections=record.block.rejections + 1)
    most = record.step.count + max(PRICE * stamp.size, units_in(record.rate, LONGEST_REST))
    count = max(record.due.count, min(record.due.count + PRICE * stamp.size, most))
    due = msgspec.structs.replace(record.due, count=count)
    return msgspec.structs.replace(record, rejections=record.rejections + stamp.size, block=block, due=due)


def rejected(record: Rate, now: int, stamp: Stamp, resume: int, told: bool) -> Rate:
    """The first rejection of an epoch. `resume`: when the pause ends; `told`: the provider said so (Retry-After)."""
    accepted, row = stamp.serial - record.rejections, next_row(record, stamp)
    low = resume - SECOND - record.lag if told else stamp.at
    full = filled.full_window(record, stamp, (low, resume) if told else None, goes_on=bool(row))
    idle = 0 if told or not row else (resume - stamp.at) // 2
    end = Mark(resume - idle, accepted, idle) if full is None else filled.boundary(full, accepted)
    window = None if full is None else full.began
    if window is not None and accepted - window.count < ENOUGH * stamp.size:
        window = None
    record, past = _noted(record, now, stamp, Mark(resume, accepted)), record
    if past.end is None:
        record = _first(record, past, end)
    elif row:
        record = _prolonged(record, end, row, stamp.size, window)
    else:
        record = _met(record, past, stamp, end, window)
    return msgspec.structs.replace(
        record,
        block=msgspec.structs.replace(record.block, low=low, high=0),
        window=msgspec.structs.replace(record.window, passed=0),
    )


def confirms(before: Rate, after: Rate) -> bool:
    """Whether a rejection ended a climb, and it is cruised on from what is known."""
    return before.phase >= Phase.CLIMB and after.phase == Phase.CRUISE and not after.block.row


def _noted(record: Rate, now: int, stamp: Stamp, here: Mark) -> Rate:
    """Count a rejection, its delay and its price; the next step starts when the pause is over."""
    lag = max(0, now - stamp.at)
    price = PRICE * stamp.size
    due = here.count + price
    if record.window.span or record.phase in (Phase.CRUISE, Phase.PROBE):
        longest = max(price, units_in(record.rate, LONGEST_REST))
        due = min(max(record.due.count, here.count) + price, here.count + longest)
    return msgspec.structs.replace(
        record,
        rejections=record.rejections + stamp.size,
        lag=lag if lag > record.lag else record.lag - (record.lag - lag) // 8,
        step=here,
        climb=here,
        due=Mark(here.at + REST, due),
    )


def _first(record: Rate, past: Rate, end: Mark) -> Rate:
    """There is no boundary before: this is one. Only the very first overload cuts without having measured; met while
    cruising and in use, what is known is a little lower, so that nothing stays high where quiet steps forget each
    boundary."""
    block = Block(rejections=1, met=past.rate, at=end.at, count=end.count)
    record = msgspec.structs.replace(record, start=None, end=end, block=block)
    if past.estimate:
        used = per_minute(end.count - past.block.count, end.at - past.block.at)
        if past.phase != Phase.CRUISE or used < part(past.estimate, IN_USE):
            return record
        return cruising(msgspec.structs.replace(record, estimate=sane(part(past.estimate, FALL))))
    seen = per_minute(end.count - past.climb.count, record.step.at - past.climb.at)
    lasted = part(past.survived, FIRST_LASTED) if past.phase == Phase.START else 0
    rate = sane(min(part(past.rate, FIRST_CUT), max(part(past.rate, FIRST_FLOOR), seen, lasted)))
    return msgspec.structs.replace(record, phase=Phase.SEARCH, gain=SEARCH_GAIN, rate=rate)


def _met(record: Rate, past: Rate, stamp: Stamp, end: Mark, window: Mark | None) -> Rate:
    """Another block has begun."""
    cost = (3 * past.cost + 1_000 * past.block.rejections) // 4
    block = _new_block(past, stamp, end.count)
    start = window or _start_of(past, stamp.size)
    record = msgspec.structs.replace(record, start=start, end=end, block=block, cost=cost, learning=block.learning)
    return _judged(record, stamp.size)


def _prolonged(record: Rate, end: Mark, row: int, size: int, window: Mark | None) -> Rate:
    """The block goes on. Once enough was accepted in it, one or two at a time, it is judged by itself: what was
    accepted before it says nothing of a limit that has fallen far."""
    block = msgspec.structs.replace(record.block, rejections=record.block.rejections + 1, row=row)
    record = msgspec.structs.replace(record, end=end, block=block)
    if row >= LONG_ROW and end.count - block.count < row * size:
        return _outlasted(record)
    if window is not None or end.count - block.count >= ENOUGH * size:
        record = msgspec.structs.replace(record, start=window or Mark(block.at, block.count))
    return _judged(record, size)


def _start_of(past: Rate, size: int) -> Mark | None:
    short = past.start is not None and past.end is not None and past.end.count - past.start.count < ENOUGH * size
    return past.start if short else past.end


def _new_block(past: Rate, stamp: Stamp, accepted: int) -> Block:
    units, us, climbs = accepted - past.climb.count, stamp.at - past.climb.at, past.phase >= Phase.CLIMB
    return Block(
        rejections=1,
        met=past.rate,
        kept=past.estimate,
        reached=_reached(past, per_minute(units, us)) if climbs else 0,
        at=stamp.at,
        count=accepted,
        learning=int(past.learning and past.phase != Phase.CRUISE),
        excess=ahead(units, us, past.estimate) if climbs and past.estimate else 0,
    )


def _reached(past: Rate, climbed: int) -> int:
    """The rate that a climb had sustained: that of the last whole step while little is known, then that of two steps,
    since one is shorter than a window may be."""
    lasted = past.survived
    if past.rate > lasted and not past.learning:
        lasted = lasted * WHOLE // (WHOLE + past.gain // 2)
    return lasted if climbed > part(past.estimate, GROWING) else min(lasted, climbed)


def _judged(record: Rate, size: int) -> Rate:
    """The estimate that follows from the interval between the two boundaries."""
    first, last, block = record.start, record.end, record.block
    if first is None or last is None or last.count - first.count < ENOUGH * size:
        return record
    if filled.is_counted(record):
        return _counted(record)
    units, us = last.count - first.count, last.at - first.at
    figure = min(block.met, per_minute(units, us))
    if figure < (block.kept or block.met):
        highest = min(block.met, per_minute(units, us - first.idle))
        figure = min(highest, block.kept or highest)
    unsure = (first.idle + last.idle) // 1_000 * WHOLE // max(1, us // 1_000)
    return _concluded(record, sane(figure), unsure)


def _counted(record: Rate) -> Rate:
    """The window's count is the limit: there is nothing to confirm."""
    cruised, kept = record.block.met <= part(record.block.kept, FALLEN), record.block.kept
    estimate = filled.counted(record, cruised=cruised, kept=part(kept, FALL) if cruised else kept)
    return cruising(msgspec.structs.replace(record, estimate=estimate, learning=0))


def _outlasted(record: Rate) -> Rate:
    """Forget what the outage seemed to teach."""
    record = msgspec.structs.replace(record, start=None)
    if not record.block.kept:
        return record
    return cruising(msgspec.structs.replace(record, estimate=record.block.kept))


def _concluded(record: Rate, figure: int, unsure: int) -> Rate:
    block = record.block
    kept = block.kept
    near = part(kept, min(MOST_UNSURE, unsure + (AGREES_LEARNING if block.learning else AGREES)))
    if not kept:
        return _climbing(record, figure, CLIMB_GAIN)
    if figure > kept + near:
        record = msgspec.structs.replace(record, learning=1)
        return _climbing(record, max(figure, min(block.reached, part(figure, GROWN_MOST))), GROWN_GAIN)
    if block.excess:
        record = msgspec.structs.replace(record, slack=max(block.excess, record.slack - record.slack // 8))
    if figure < kept - near:
        return _climbing(record, figure, CLIMB_GAIN)
    if block.met <= part(kept, FALLEN):
        estimate = max(min(figure, part(kept, DECAY)), part(kept, FALL))
    elif block.reached > kept:
        estimate = max(figure, min(block.reached, part(kept, DRIFT_LEARNING if block.learning else DRIFT)))
    else:
        estimate = max(figure, part(kept, DECAY))
    return cruising(msgspec.structs.replace(record, estimate=sane(estimate)))


def _climbing(record: Rate, estimate: int, gain: int) -> Rate:
    """Go to an estimate that is not confirmed, and look for its confirmation."""
    record = cruising(msgspec.structs.replace(record, estimate=sane(estimate)))
    return msgspec.structs.replace(record, phase=Phase.CLIMB, gain=gain, survived=0)
