"""A hidden limit of concurrency, told apart from a hidden rate.

1. A healthy account has no cap. Each overload whose kind the provider did not name is a sample: how many requests were
   in flight when the rejected one was granted. A rate shows other figures each time: what is in flight at one varies by
   about its square root. Two samples that lie together, while no success began with more in flight, are tried.
2. A trial sets the cap there, leaves the rate free, and then lets one more go. If that is the one rejected, these are
   slots. A rejection before it, or none after it, means that they are not, and of the next samples one more is wanted,
   up to five.
3. What is proven is never capped: a success that started with as many in flight as the cap allows lifts it. Requests
   granted between a rejected one and its 429 prove nothing: what was in flight then holds rejected ones.
4. While the cap binds, a rejection at it is the cap's own: the cap goes to what was in flight, the rate stays. So is
   the next one, wherever it is met before something has succeeded there: slots that are fewer show themselves so.
5. Up to four retries that follow an own rejection, with hardly anything accepted between, change nothing: what is in
   flight ends meanwhile. Later ones are not the cap's.
6. The cap grows while it binds, first by one, then by steps each four times as large; after a rejection only when that
   has been paid for. A step lasts twice as long as the last overload took to be heard.
7. Slots that are known are not overrun before they grow. Three rejections of a cap that had not grown, each with ten
   granted since it was set, mean that it was none.
8. A timeout cuts a tenth, rounded down, once per epoch: slow is not refused, but may be overload. It costs the provider
   little, so growth goes on after a rest, without a price.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules.learning_rate import REST
from cross_instance.rules.learning_values import WHOLE, Mark, Stamp
from cross_instance.rules.values import SECOND

FEWEST = 2
SAMPLES = 5
"""How many samples are wanted, before a trial has failed and at most."""
CLOSE = 10
"""Samples lie together within one, or where the square of their spread is at most this part of the highest."""
TURNED = 10
"""So many go at a cap before one more is tried, and before a rejection at it speaks against it."""
STRIKES = 3
RETRIES = 4
AGAIN = 3
"""Fewer accepted requests than this between two rejections: a retry, not an overload of its own."""
AT_CAP = 900_000
"""A rejection with at least this share of the cap in flight is the cap's."""
PRICE = 250
"""So many requests pay for an overrun."""
STEP = 2 * SECOND
GAIN = 30_000
FASTER = 4
MOST_GAIN = 500_000
MOST_PAID = 20
TIMEOUT_CUT = 100_000


class Concurrency(msgspec.Struct, frozen=True, array_like=True):
    """What is known of slots. `cap`: how many may be in flight, 0 where no limit is known.

    `samples`: in flight at the last overloads, five at most; `tried`: the figure that is being tried, 0 outside of a
    trial; `highest`: the most in flight with which one has succeeded since the first sample. `gain`: the present step
    of growth in ppm, 0 while there is none; `step`: when that began, and from which count on it may end; `due`: when,
    and from which count on, growth may start; `epoch`: the last one in which a timeout has cut; `blurred`: from when to
    when the last overload was not all heard of. `proven`: the most in flight with which one has succeeded since the cap
    was cut, or the last cap that was none; `strikes`: how often a cap that had not grown was overrun, or how often a
    trial has failed; `met`: how many had been accepted at the last own rejection, `retries`: how many were rejected
    since.
    """

    cap: int = 0
    samples: tuple[int, ...] = ()
    tried: int = 0
    highest: int = 0
    gain: int = 0
    step: Mark = Mark(0, 0)
    due: Mark = Mark(0, 0)
    epoch: int = -1
    blurred: tuple[int, int] = (0, -1)
    proven: int = 0
    strikes: int = 0
    met: int = -AGAIN
    retries: int = 0


def is_retry(record: Concurrency, accepted: int) -> bool:
    """Whether a rejection, `accepted` having been accepted before it, answers a retry after one of the cap's own."""
    return bool(record.cap) and accepted - record.met < AGAIN and record.retries < RETRIES


def is_own(record: Concurrency, stamp: Stamp, accepted: int) -> bool:
    """Whether a rejection is the known cap's, and so not the rate's."""
    if not record.cap or accepted - record.met < AGAIN:
        return is_retry(record, accepted)
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
    if is_retry(record, accepted):
        return msgspec.structs.replace(record, retries=record.retries + 1)
    if record.tried:
        return _decided(record, now, stamp, accepted)
    if is_own(record, stamp, accepted):
        strikes = record.strikes + _is_strike(record, stamp)
        if strikes >= STRIKES:
            return _none(record, (held,), strikes)
        capped = _capped(record, held, now, stamp)
        return msgspec.structs.replace(capped, strikes=strikes, met=accepted)
    if record.highest > max((*record.samples, stamp.held)) or not record.samples:
        return msgspec.structs.replace(record, samples=(stamp.held,), highest=0)
    record = msgspec.structs.replace(record, samples=(*record.samples, stamp.held)[-SAMPLES:])
    return _trying(record, now, stamp, accepted) if _lie_together(record) else record


def _trying(record: Concurrency, now: int, stamp: Stamp, accepted: int) -> Concurrency:
    """Begin a trial of what the last samples say."""
    cap = min(_last(record))
    due, strikes = Mark(now, stamp.serial + TURNED), record.strikes
    record = _capped(record, cap, now, stamp)
    return msgspec.structs.replace(record, tried=cap, met=accepted, due=due, strikes=strikes)


def _decided(record: Concurrency, now: int, stamp: Stamp, accepted: int) -> Concurrency:
    """A rejection ends a trial."""
    if not record.gain or stamp.held < record.tried:
        return _none(record, (stamp.held,), record.strikes + 1)
    return msgspec.structs.replace(_capped(record, stamp.held, now, stamp), met=accepted)


def _none(record: Concurrency, samples: tuple[int, ...], strikes: int) -> Concurrency:
    """The cap was none."""
    return Concurrency(
        samples=samples, epoch=record.epoch, blurred=record.blurred, proven=record.cap, strikes=min(strikes, STRIKES)
    )


def _is_strike(record: Concurrency, stamp: Stamp) -> bool:
    return not record.gain and stamp.serial - record.step.count >= TURNED


def _wanted(record: Concurrency) -> int:
    return SAMPLES if record.cap else FEWEST + record.strikes


def _last(record: Concurrency) -> tuple[int, ...]:
    return record.samples[-_wanted(record) :]


def _lie_together(record: Concurrency) -> bool:
    last = _last(record)
    most, least = max(last), min(last)
    together = most - least <= 1 or (most - least) ** 2 * CLOSE <= most
    return len(last) == _wanted(record) and together and least > 0 and record.highest < most


def echoed(record: Concurrency, now: int) -> Concurrency:
    """A rejection of a request granted before the epoch moved: blurring on, and paid for outside of trials, at most
    twenty at once."""
    record = msgspec.structs.replace(record, blurred=(record.blurred[0], now))
    if not record.cap or record.tried:
        return record
    count = min(record.due.count + PRICE, record.step.count + MOST_PAID * PRICE)
    due = msgspec.structs.replace(record.due, count=max(record.due.count, count))
    return msgspec.structs.replace(record, due=due)


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
    if record.tried and record.gain:
        return _watched(record, now, stamp)
    if not _is_step_due(record, now, stamp):
        return record
    gain = min(FASTER * record.gain, MOST_GAIN)
    cap = record.cap + max(1, record.cap * gain // WHOLE)
    cap = max(1, min(cap, ceiling or cap))
    step = Mark(now, stamp.serial + cap // 10)
    strikes = record.strikes if record.tried else 0
    return msgspec.structs.replace(record, cap=cap, gain=gain or GAIN, step=step, strikes=strikes)


def _watched(record: Concurrency, now: int, stamp: Stamp) -> Concurrency:
    """One more than is tried goes, or went without being rejected."""
    if record.gain == GAIN:
        return msgspec.structs.replace(record, gain=MOST_GAIN, step=Mark(now, stamp.serial))
    return _none(record, (), record.strikes + 1) if _is_step_due(record, now, stamp) else record


def _is_step_due(record: Concurrency, now: int, stamp: Stamp) -> bool:
    since = record.step if record.gain else record.due
    wait = max(STEP, 2 * (record.blurred[1] - record.blurred[0])) if record.gain else 0
    return now - since.at >= wait and stamp.serial >= since.count


def told(record: Concurrency, cap: int) -> Concurrency:
    """The provider named its limit: that holds, whatever was guessed. Absurd figures change nothing."""
    return (
        msgspec.structs.replace(record, cap=cap, samples=(), tried=0, proven=cap, gain=0)
        if 0 < cap < 1 << 31
        else record
    )


def _capped(record: Concurrency, cap: int, now: int, stamp: Stamp) -> Concurrency:
    strikes = record.strikes if record.cap and not record.tried else 0
    return msgspec.structs.replace(
        record,
        cap=cap,
        samples=(),
        tried=0,
        highest=0,
        proven=0,
        strikes=strikes,
        retries=0,
        gain=0,
        due=Mark(now + REST, stamp.serial + PRICE),
        step=Mark(now, stamp.serial),
    )
