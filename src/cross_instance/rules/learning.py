"""The learner of hidden limits: one record for each account, provider and model group.

1. A record is changed only inside store operations, by the functions here; they are pure and know no clock.
2. A success changes next to nothing: the rates count grants (`learning_rate`), the slots look only at what beats their
   highest (`learning_concurrency`).
3. An overload is answered by one part alone: by the kind that the provider named; else by the slots, where they are
   known and were full; else by the requests' rate, and the slots take a sample. While slots are tried the rate is as
   high as where the overload was met, so that they alone hold it back, and answers as before if it was none.
4. What the provider tells of its limit is used at once if the counts agree, and doubted as soon as they do not. A told
   limit that is believed needs no probing.
5. Exhausted quota teaches nothing (do not call), and a configured limit is a ceiling, whatever was learned.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules import learning_concurrency as slots, learning_rate as rates
from cross_instance.rules.learning_concurrency import Concurrency
from cross_instance.rules.learning_estimate import (
    blind_pause,
    echoed,
    meets_full_window,
    next_row,
    pause,
    rejected as by_rate,
)
from cross_instance.rules.learning_rate import Phase, Rate, cruising
from cross_instance.rules.learning_values import HIGHEST, LOWEST, UNIT, WHOLE, Stamp, part, per_minute
from cross_instance.rules.values import MINUTE, Kind

__all__ = [
    "AGREES",
    "Learner",
    "Stamp",
    "granted",
    "header_told",
    "new_learner",
    "pause_of",
    "rejected",
    "succeeded",
    "timed_out",
]

TOKENS = (Kind.TOKENS, Kind.INPUT_TOKENS, Kind.OUTPUT_TOKENS)
AGREES = 100_000
"""How far the counts may lie from a told limit, as a share of it, without doubt."""


class Learner(msgspec.Struct, frozen=True, array_like=True):
    """What is learned of one account, provider and model group. `tokens`: None until the provider speaks of tokens."""

    requests: Rate
    tokens: Rate | None = None
    slots: Concurrency = Concurrency()
    epoch: int = 0


def new_learner(rate: int, now: int, serial: int = 0) -> Learner:
    """Begin with a preset or a guess, in thousandths of a request per minute."""
    return Learner(requests=rates.start(rate, now, serial))


def granted(
    record: Learner,
    now: int,
    stamp: Stamp,
    tokens: Stamp | None = None,
    *,
    ceiling: int = HIGHEST,
    most_slots: int = 0,
    most_tokens: int = HIGHEST,
) -> Learner:
    """A request goes. `stamp` counts requests, `tokens` tokens; `ceiling` (requests), `most_slots` (0: none) and
    `most_tokens` are what the user configured."""
    requests = rates.granted(record.requests, now, stamp.serial, ceiling)
    held = slots.granted(record.slots, now, stamp, most_slots)
    if record.slots.tried and not held.tried:
        requests = _regained(requests)
    learned = record.tokens
    if learned is not None and tokens is not None:
        learned = rates.granted(learned, now, tokens.serial, most_tokens)
    if requests is record.requests and held is record.slots and learned is record.tokens:
        return record
    return msgspec.structs.replace(record, requests=requests, slots=held, tokens=learned)


def succeeded(record: Learner, stamp: Stamp) -> Learner:
    """A request was answered."""
    held = slots.succeeded(record.slots, stamp)
    return record if held is record.slots else msgspec.structs.replace(record, slots=held)


def pause_of(record: Learner, now: int, stamp: Stamp, kind: Kind | None, draw: int, draws: int) -> int:
    """The µs to wait after the first rejection of an epoch where the provider did not say."""
    accepted = stamp.serial - record.requests.rejections
    if slots.is_retry(record.slots, accepted):
        return blind_pause(record.slots.retries + 1, draw, draws)
    if kind in (None, Kind.REQUESTS) and not (kind is None and slots.is_own(record.slots, stamp, accepted)):
        return pause(record.requests, now, stamp, draw, draws)
    return blind_pause(next_row(record.requests, stamp), draw, draws)


def _is_sample(rate: Rate, stamp: Stamp) -> bool:
    """Whether a rejection may speak of slots: the first of its block, and not of a full window."""
    return not next_row(rate, stamp) and not meets_full_window(rate, stamp)


def rejected(
    record: Learner,
    now: int,
    stamp: Stamp,
    resume: int,
    *,
    moved: bool,
    told: bool,
    kind: Kind | None = None,
    tokens: Stamp | None = None,
) -> Learner:
    """A request met 429. `moved`: it is the first of its epoch; `resume`: when the pause ends; `told`: the provider
    said so; `kind`: what the provider named; `tokens`: its stamp in tokens."""
    if not moved:
        learned = record.tokens if record.tokens is None or tokens is None else echoed(record.tokens, tokens)
        held = slots.echoed(record.slots, now)
        return msgspec.structs.replace(record, requests=echoed(record.requests, stamp), tokens=learned, slots=held)
    record = msgspec.structs.replace(record, epoch=record.epoch + 1)
    accepted = stamp.serial - record.requests.rejections
    own = kind is Kind.CONCURRENCY or (kind is None and slots.is_own(record.slots, stamp, accepted))
    tried = kind is None and bool(record.slots.tried)
    sampled = kind is None and not slots.is_retry(record.slots, accepted) and _is_sample(record.requests, stamp)
    if own or tried or sampled:
        held = slots.rejected(record.slots, now, stamp, accepted, named=kind is not None)
        record, before = msgspec.structs.replace(record, slots=held), record.slots
        if held.cap and not held.tried and (own or before.tried):
            return _by_slots(record, now, stamp, freed=bool(before.tried))
    if kind in TOKENS and tokens is not None:
        return _by_tokens(record, now, stamp, tokens, resume, told)
    requests = _doubting(by_rate(record.requests, now, stamp, resume, told))
    if kind is None:
        requests = _let_go(requests) if record.slots.tried else _regained(requests)
    return msgspec.structs.replace(record, requests=requests)


def _by_tokens(record: Learner, now: int, stamp: Stamp, tokens: Stamp, resume: int, told: bool) -> Learner:
    """The tokens' rate answers; without one, begin with as many tokens as the present rate of such requests takes."""
    sized = max(LOWEST, min(record.requests.rate * tokens.size, HIGHEST))
    learned = record.tokens or rates.start(sized, now - MINUTE, max(0, tokens.serial - sized // UNIT))
    counted = msgspec.structs.replace(record.requests, rejections=record.requests.rejections + stamp.size)
    return msgspec.structs.replace(record, requests=counted, tokens=by_rate(learned, now, tokens, resume, told))


def _by_slots(record: Learner, now: int, stamp: Stamp, *, freed: bool) -> Learner:
    """The slots answer. `freed`: the overloads before were taken for the rate's, but were theirs: it is looked
    for anew."""
    rate = record.requests
    if freed:
        fresh = rates.start(max(rate.rate, LOWEST), now, stamp.serial - rate.rejections)
        rate = _let_go(msgspec.structs.replace(fresh, rejections=rate.rejections))
    rate = msgspec.structs.replace(rate, rejections=rate.rejections + stamp.size)
    return msgspec.structs.replace(record, requests=rate)


def _let_go(rate: Rate) -> Rate:
    """As high as where the last overload was met, and growing while it is used."""
    rate = msgspec.structs.replace(rate, rate=max(rate.rate, rate.block.met))
    return msgspec.structs.replace(rate, phase=Phase.SEARCH, gain=rates.SEARCH_GAIN)


def _regained(rate: Rate) -> Rate:
    """After a trial that has failed: again at the estimate, and climbing where that is not confirmed."""
    if rate.phase != Phase.SEARCH or not rate.estimate:
        return rate
    phase = Phase.CLIMB if rate.learning else Phase.CRUISE
    return msgspec.structs.replace(cruising(rate), phase=phase, gain=rates.CLIMB_GAIN, survived=0)


def timed_out(record: Learner, now: int, stamp: Stamp) -> Learner:
    """A request timed out."""
    return msgspec.structs.replace(record, slots=slots.timed_out(record.slots, now, stamp, record.epoch))


def header_told(record: Learner, now: int, serial: int, limit: int) -> Learner:
    """The provider stated `limit` (thousandths per minute). Believed while the counts agree; absurd figures are not."""
    rate = record.requests
    if not LOWEST <= limit <= HIGHEST or limit == rate.told:
        return record
    rate = msgspec.structs.replace(rate, told=limit, doubted=int(not _agrees(rate, now, serial, limit)))
    if not rate.doubted:
        rate = cruising(msgspec.structs.replace(rate, estimate=limit, learning=0))
    return msgspec.structs.replace(record, requests=rate)


def _agrees(rate: Rate, now: int, serial: int, limit: int) -> bool:
    """Whether what was measured, and what was let in since the present climb began, is possible under a limit."""
    if rate.estimate and not rate.learning and not rate.told:
        return abs(rate.estimate - limit) <= part(limit, AGREES)
    seen = per_minute(serial - rate.rejections - rate.climb.count, max(MINUTE, now - rate.climb.at))
    return seen <= part(limit, WHOLE + AGREES)


def _doubting(rate: Rate) -> Rate:
    if rate.told and not rate.doubted and rate.estimate < part(rate.told, WHOLE - AGREES):
        return msgspec.structs.replace(rate, doubted=1)
    return rate
