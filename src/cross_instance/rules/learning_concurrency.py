"""A hidden limit of concurrency, told apart from a hidden rate.

1. A healthy account has no cap. Each overload whose kind the provider did not name is a sample: how many requests were
   in flight when the rejected one was granted. Five samples that lie together mean slots, when everything in flight
   was replaced twice meanwhile, and successes came right up to them, and none above. A rate shows other figures: what
   is in flight at one varies by about its square root.
2. What is proven is never capped: a success that started with as many in flight as the cap allows lifts it. Requests
   granted between a rejected one and its 429 prove nothing: what was in flight then holds rejected ones.
3. While the cap binds, a rejection at it is the cap's own: the cap goes to what was in flight, the rate stays. So is
   the next one, wherever it is met before something has succeeded there: slots that are fewer show themselves so.
4. Up to four trials that follow an own rejection, with hardly anything accepted between, change nothing: what is in
   flight ends meanwhile. Later ones are not the cap's.
5. The cap grows by steps that double, while it binds; after a rejection only when that has been paid for.
6. Slots that are known are not overrun before they grow. Three rejections of a cap that had not grown, with half of it
   granted between, mean that it was none.
7. A timeout cuts a tenth, rounded down, once per epoch: slow is not refused, but may be overload. It costs the provider
   little, so growth goes on after a rest, without a price.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules.learning_rate import PRICE, REST, STEP
from cross_instance.rules.learning_values import WHOLE, Mark, Stamp

SAMPLES = 5
TURNED = 10
CLOSE = 10
FILLED = 20_000
"""Samples lie together within one, or where the square of their spread is at most this part of the highest; successes
come as near to it as this share."""
STRIKES = 3
TRIALS = 4
AGAIN = 3
"""Fewer accepted requests than this between two rejections: a trial, not an overload of its own."""
AT_CAP = 900_000
"""A rejection with at least this share of the cap in flight is the cap's."""
GAIN = 30_000
MOST_GAIN = 500_000
MOST_PAID = 20
TIMEOUT_CUT = 100_000


class Concurrency(msgspec.Struct, frozen=True, array_like=True):
    """What is known of slots. `cap`: how many may be in flight, 0 where no limit is known.

    `samples`: in flight at the last overloads, five at most; `since`: the count at the first; `highest`: the most in
    flight with which one has succeeded since. `gain`: the present step of growth in ppm, 0 while there is none; `step`:
    when that began, and at which count; `due`: when, and from which count on, growth may start; `epoch`: the last one
    in which a timeout has cut; `blurred`: from when to when the last rejection was not heard of. `proven`: the most in
    flight with which one has succeeded since the cap was cut; `strikes`: how often a cap that had not grown was
    overrun; `met`: how many had been accepted at the last own rejection, `trials`: how many were rejected since.
    """

    cap: int = 0
    samples: tuple[int, ...] = ()
    since: int = 0
    highest: int = 0
    gain: int = 0
    step: Mark = Mark(0, 0)
    due: Mark = Mark(0, 0)
    epoch: int = -1
    blurred: tuple[int, int] = (0, -1)
    proven: int = 0
    strikes: int = 0
    met: int = -AGAIN
    trials: int = 0


def is_trial(record: Concurrency, accepted: int) -> bool:
    """Whether a rejection, `accepted` having been accepted before it, answers a trial after one of the cap's own."""
    return bool(record.cap) and accepted - record.met < AGAIN and record.trials < TRIALS


def is_own(record: Concurrency, stamp: Stamp, accepted: int) -> bool:
    """Whether a rejection is the known cap's, and so not the rate's."""
    if not record.cap or accepted - record.met < AGAIN:
        return is_trial(record, accepted)
    return stamp.held >= max(1, min(record.cap * AT_CAP // WHOLE, record.proven + 1))


def succeeded(record: Concurrency, stamp: Stamp) -> Concurrency:
    """A request that started with `stamp.held` others in flight was accepted; rarely news."""
    if not record.samples and not record.cap:
        return record
    if stamp.at <= record.blurred[1] and (record.cap or stamp.at >= record.blurred[0]):
        return record
    if stamp.held > record.highest:
        record = msgspec.structs.replace(record, highest=stamp.held, proven=max(stamp.held, record.proven))
    if record.cap and stamp.held >= record.cap:
        record = msgspec.structs.replace(record, cap=stamp.held + 1)
    return record


def rejected(record: Concurrency, now: int, stamp: Stamp, accepted: int, *, named: bool) -> Concurrency:
    """The first rejection of an epoch; `named`: the provider said that it was for concurrency."""
    record = msgspec.structs.replace(record, blurred=(stamp.at, now))
    held = max(1, stamp.held)
    if named:
        return _capped(record, held, now, stamp)
    if is_trial(record, accepted):
        return msgspec.structs.replace(record, trials=record.trials + 1)
    if is_own(record, stamp, accepted):
        strikes = record.strikes + _is_strike(record, stamp)
        if strikes >= STRIKES:
            return Concurrency(samples=(held,), since=stamp.serial, epoch=record.epoch, blurred=record.blurred)
        capped = _capped(record, held, now, stamp)
        return msgspec.structs.replace(capped, strikes=strikes, met=accepted)
    if record.highest > max((*record.samples, stamp.held)) or not record.samples:
        return msgspec.structs.replace(record, samples=(stamp.held,), since=stamp.serial, highest=0)
    record = msgspec.structs.replace(record, samples=(*record.samples, stamp.held)[-SAMPLES:])
    if not _are_slots(record, stamp):
        return record
    return msgspec.structs.replace(_capped(record, max(1, *record.samples), now, stamp), met=accepted)


def _is_strike(record: Concurrency, stamp: Stamp) -> bool:
    return not record.gain and stamp.serial - record.step.count >= TURNED + record.cap // 2


def _are_slots(record: Concurrency, stamp: Stamp) -> bool:
    most, least = max(record.samples), min(record.samples)
    together = most - least <= 1 or (most - least) ** 2 * CLOSE <= most
    replaced = stamp.serial - record.since >= 2 * most + TURNED
    filled = most - record.highest <= max(1, most * FILLED // WHOLE)
    return len(record.samples) == SAMPLES and together and replaced and filled and record.highest < max(1, most)


def echoed(record: Concurrency, now: int) -> Concurrency:
    """A rejection of a request granted before the epoch moved: paid for, at most twenty at once, and blurring on."""
    if not record.cap:
        return record
    count = min(record.due.count + PRICE, record.step.count + MOST_PAID * PRICE)
    due = msgspec.structs.replace(record.due, count=max(record.due.count, count))
    return msgspec.structs.replace(record, due=due, blurred=(record.blurred[0], now))


def timed_out(record: Concurrency, now: int, stamp: Stamp, epoch: int) -> Concurrency:
    """A request timed out: fewer at once, if it started when as many were in flight as are allowed or ever were."""
    if epoch == record.epoch:
        return record
    base = min(record.cap, stamp.held + 1) if record.cap else stamp.held + 1
    cut = base * TIMEOUT_CUT // WHOLE
    if not cut:
        return record
    capped = _capped(record, base - cut, now, stamp)
    due = Mark(now + REST, stamp.serial)
    return msgspec.structs.replace(capped, proven=capped.cap, epoch=epoch, due=due)


def granted(record: Concurrency, now: int, stamp: Stamp, ceiling: int = 0) -> Concurrency:
    """A request goes with `stamp.held` others in flight. Makes the step of growth that is due while the cap binds."""
    if not record.cap or stamp.held + 1 < record.cap:
        return record
    since = record.step if record.gain else record.due
    wait = STEP if record.gain else 0
    if now - since.at < wait or stamp.serial < since.count:
        return record
    gain = min(2 * record.gain, MOST_GAIN) or GAIN
    cap = record.cap + max(1, record.cap * gain // WHOLE)
    cap = max(1, min(cap, ceiling or cap))
    step = Mark(now, stamp.serial + cap // 10)
    return msgspec.structs.replace(record, cap=cap, gain=gain, step=step, strikes=0)


def told(record: Concurrency, cap: int) -> Concurrency:
    """The provider named its limit: that holds, whatever was guessed. Absurd figures change nothing."""
    return msgspec.structs.replace(record, cap=cap, samples=(), proven=cap, gain=0) if 0 < cap < 1 << 31 else record


def _capped(record: Concurrency, cap: int, now: int, stamp: Stamp) -> Concurrency:
    due = Mark(now + REST, stamp.serial + PRICE)
    step = Mark(now, stamp.serial)
    return msgspec.structs.replace(
        record, cap=cap, samples=(), highest=0, proven=0, trials=0, gain=0, due=due, step=step
    )
