"""A hidden rate, found from boundary to boundary: the record, how it grows, what it remembers.

1. Nothing but rejections is needed: a request that was granted and not rejected counts as accepted, so the count is the
   grants' own and nothing waits for slow answers. A success never touches the record.
2. START doubles the rate until the first overload, SEARCH adds two fifths until the second; then there is an estimate
   (`learning_estimate`). CLIMB looks for its confirmation by growing steps, CRUISE stays just below it, PROBE climbs
   from there to see whether the limit has grown.
3. A step is made only where the rate was used: a limit nobody reaches cannot be learned. A quiet step forgets the
   boundaries, since the provider's bucket filled up meanwhile, and ends a climb.
4. Each 429 is paid for: the next probe waits until `PRICE` more requests were accepted, at most `LONGEST_REST`. So 429s
   cost a fixed share whatever the limit, the shape and the delay, and probing never stops.
5. A climb without proof goes the less high, the more 429s its like did cost (`cost`); with proof it is free: after a
   minute above the estimate, or as soon as it is clearly further ahead of it than its like ever came (`slack`). In a
   recognised window it goes the less high the shorter that is, and the window's count is the proof.
6. The rate never passes the ceiling that a user configured, nor a limit that the provider told and the counts believe.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from cross_instance.rules.learning_filled import is_outgrown
from cross_instance.rules.learning_values import HIGHEST, LOWEST, WHOLE, Mark, ahead, part, per_minute, sane, units_in
from cross_instance.rules.learning_window import Window, end_of, ended, rolled
from cross_instance.rules.values import MINUTE, SECOND

STEP = 5 * SECOND
START_STEP = 4 * SECOND
"""A step of growth lasts so long, and three times the delay of a 429 if that is longer."""
STEP_UNITS = 5
AGAIN = 3
"""Fewer accepted requests than this between two rejections: one block."""
BUSY = 700_000
BUSY_CRUISE = 800_000
"""The share of the rate that must have been used in a step that leads to the next."""
START_GAIN = 1_000_000
SEARCH_GAIN = 400_000
CLIMB_GAIN = 20_000
PROBE_GAIN = 40_000
MOST_GAIN = 500_000
"""What a step adds; from step to step of a climb it doubles, up to the most."""
CRUISE = 990_000
"""The share of the estimate at which to stay."""
PRICE = 200
REST = 15 * SECOND
LONGEST_REST = 240 * SECOND
PROOF = 1_040_000
"""A minute at this share of the estimate proves that the limit is higher, for buckets and windows up to a minute."""
UNPROVEN = 1_200_000
LEAST_CLIMB = 80_000
"""How far above the estimate a climb without proof may go: the first divided by what climbs did cost, at least the
second."""
AHEAD = 1_500_000
AHEAD_MORE = SECOND // 2
"""A climb is clearly further ahead than its like at this share of their `slack`, and so much more."""
IDLE = 15 * MINUTE
IDLE_SHARE = 700_000
"""After so long unused, the share of the estimate to start again with."""


class Phase(IntEnum):
    """What the learner is doing."""

    START = 0
    SEARCH = 1
    CRUISE = 2
    CLIMB = 3
    PROBE = 4


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A run of rejections with hardly anything accepted between: the provider's bucket is empty or its window full.

    `rejections`: the 429s in it, echoes too; `row`: those of them that answered a trial; `met`: the rate at which it
    was met; `kept`: the estimate until then; `reached`: the rate that the climb into it had sustained, 0 where there
    was no climb, and `excess` the µs by which it was ahead of the estimate; `learning`: whether that climb was one of
    the first. `at`, `count`: the first boundary in it. `low`, `high`: between which instants it ended; `high`
    is 0 until a request goes after it, `low` as soon as that has been looked at.
    """

    rejections: int = 0
    row: int = 0
    met: int = 0
    kept: int = 0
    reached: int = 0
    learning: int = 1
    at: int = 0
    count: int = 0
    excess: int = 0
    low: int = 0
    high: int = 0


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """All that is known of one rate: of one account, provider and model group, requests or tokens.

    `rate` is to be paced, `estimate` what the limit is taken to be (0: unknown). `start` and `end`: the boundaries
    between which it is measured, None where there is none. `step`, `climb`: where the present step and the present
    climb began; `survived`: the rate of the step before; `due`: when, and from which count on, a probe may start.
    `rejections`: the units ever rejected.
    `lag`: how long 429s take to be heard; `cost`: how many a block brings, in thousandths; `learning`: no estimate was
    confirmed since the limit was last seen to change. `told`: the limit that the provider stated, `doubted` when the
    counts did not agree. `slack`: how far (µs) ahead of the estimate climbs came that met the limit as it was.
    `window`: what is known of the provider's windows.
    """

    rate: int
    step: Mark
    climb: Mark
    phase: int = Phase.START
    estimate: int = 0
    gain: int = START_GAIN
    survived: int = 0
    rejections: int = 0
    start: Mark | None = None
    end: Mark | None = None
    block: Block = Block()
    due: Mark = Mark(0, 0)
    lag: int = 0
    cost: int = 1_000
    learning: int = 1
    told: int = 0
    doubted: int = 0
    slack: int = 0
    window: Window = Window()


def start(rate: int, now: int, serial: int = 0) -> Rate:
    """Begin with a preset or a guess. Raises `ValueError` for a rate that is absurd."""
    if not LOWEST <= rate <= HIGHEST:
        raise ValueError(f"a rate of {rate} thousandths per minute is absurd")
    here = Mark(now, serial)
    return Rate(rate=rate, step=here, climb=here)


def resumed(old: Rate, now: int, serial: int, age: int) -> Rate:
    """Go on with what was learned before a restart, `age` µs ago: with less of it when it is old."""
    here = Mark(now, serial)
    base = old.estimate or old.rate
    fresh = Rate(rate=base, step=here, climb=here, phase=old.phase, cost=old.cost, lag=old.lag, slack=old.slack)
    if not old.estimate:
        return fresh
    fresh = msgspec.structs.replace(fresh, estimate=old.estimate, due=Mark(now + REST, serial))
    return _after_idling(fresh) if age >= IDLE else cruising(fresh)


def granted(record: Rate, now: int, serial: int, ceiling: int = HIGHEST) -> Rate:
    """A request goes; `serial` units were granted before it. Makes the step that is due, if one is."""
    accepted = serial - record.rejections
    record = _dated(record, now, accepted)
    if now - record.step.at < _step(record):
        return record
    record = _block_over(record, now, accepted)
    units, elapsed = accepted - record.step.count, now - record.step.at
    enough = BUSY_CRUISE if record.phase >= Phase.CRUISE else BUSY
    here = Mark(now, accepted)
    if per_minute(units, elapsed) < part(record.rate, enough):
        if units_in(record.rate, elapsed) < STEP_UNITS:
            return record
        return _quiet(msgspec.structs.replace(record, step=here), elapsed)
    if units < STEP_UNITS:
        return record
    grown = _grown(msgspec.structs.replace(record, step=here), here)
    return msgspec.structs.replace(grown, rate=max(LOWEST, min(grown.rate, ceiling, _believed(grown))))


def _step(record: Rate) -> int:
    return max(START_STEP if record.phase == Phase.START else STEP, 3 * record.lag)


def watched_from(record: Rate, now: int) -> int:
    """From which instant on a grant may change the record."""
    if _awaits_end(record):
        return now
    step = max(record.step.at + _step(record), now + SECOND)
    return min(step, end_of(record.window, now)[1]) if record.window.span else step


def goes_on(record: Rate, accepted: int, size: int = 1) -> bool:
    """Whether a block goes on: hardly anything was accepted since its last rejection."""
    return record.end is not None and accepted - record.end.count < AGAIN * size


def _awaits_end(record: Rate) -> bool:
    return bool(record.block.low) and not record.block.high


def _dated(record: Rate, now: int, accepted: int) -> Rate:
    """Date what only a request does: the end of a block, the beginning of a window."""
    if _awaits_end(record):
        record = msgspec.structs.replace(record, block=msgspec.structs.replace(record.block, high=now))
    window = rolled(record.window, now, accepted, climbs=record.phase >= Phase.CLIMB)
    return record if window is record.window else msgspec.structs.replace(record, window=window)


def _block_over(record: Rate, now: int, accepted: int) -> Rate:
    """Look at when the last block ended; an outage's end says nothing."""
    block, window, doubt = record.block, record.window, record.lag // 4
    if not (block.low and block.high) or goes_on(record, accepted):
        return record
    lasted = block.low - block.at
    if lasted <= MINUTE:
        proven = int(units_in(record.estimate or record.rate, lasted) >= AGAIN)
        window = ended(window, now, block.low - doubt, block.high + doubt, lasted, proven)
    return msgspec.structs.replace(record, window=window, block=msgspec.structs.replace(block, low=0))


def _quiet(record: Rate, elapsed: int) -> Rate:
    record = msgspec.structs.replace(record, start=None, end=None)
    if record.phase == Phase.START:
        return msgspec.structs.replace(record, climb=record.step)
    if not record.estimate:
        return record
    if elapsed >= IDLE:
        return _after_idling(record)
    return cruising(record) if record.phase >= Phase.CLIMB else record


def _after_idling(record: Rate) -> Rate:
    rate = sane(part(record.estimate, IDLE_SHARE))
    return msgspec.structs.replace(
        record, rate=rate, phase=Phase.CLIMB, gain=2 * CLIMB_GAIN, climb=record.step, survived=0, learning=1
    )


def cruising(record: Rate) -> Rate:
    """Stay just below the estimate."""
    return msgspec.structs.replace(record, phase=Phase.CRUISE, rate=sane(part(record.estimate, CRUISE)))


def _believed(record: Rate) -> int:
    return record.told if record.told and not record.doubted else HIGHEST


def _grown(record: Rate, here: Mark) -> Rate:
    if record.phase == Phase.START:
        rolled = here.at - record.climb.at > MINUTE
        return _faster(msgspec.structs.replace(record, climb=here) if rolled else record, START_GAIN, HIGHEST)
    if record.phase == Phase.SEARCH:
        return _faster(record, SEARCH_GAIN, HIGHEST)
    if record.phase == Phase.CRUISE:
        if here.at < record.due.at or here.count < record.due.count:
            return record
        probing = msgspec.structs.replace(record, phase=Phase.PROBE, climb=here)
        return msgspec.structs.replace(_faster(probing, PROBE_GAIN, HIGHEST), survived=0)
    return _faster(record, min(2 * record.gain, MOST_GAIN), _highest_climb(record, here))


def _faster(record: Rate, gain: int, highest: int) -> Rate:
    rate = max(record.rate, min(part(record.rate, WHOLE + gain), highest))
    return msgspec.structs.replace(record, rate=sane(rate), survived=record.rate, gain=gain)


def _highest_climb(record: Rate, here: Mark) -> int:
    span = record.window.span
    if is_outgrown(record, here.count) if span else _is_proven(record, here):
        return HIGHEST
    allowed = UNPROVEN * 1_000 // max(1_000, record.cost)
    if span:
        allowed = allowed * (span // SECOND) // (MINUTE // SECOND)
    return part(record.estimate, WHOLE + max(LEAST_CLIMB, allowed))


def _is_proven(record: Rate, here: Mark) -> bool:
    units, elapsed = here.count - record.climb.count, here.at - record.climb.at
    if per_minute(units, max(MINUTE, elapsed)) > part(record.estimate, PROOF):
        return True
    further = part(record.slack, AHEAD) + AHEAD_MORE
    return bool(record.slack) and ahead(units, elapsed, record.estimate) > further
