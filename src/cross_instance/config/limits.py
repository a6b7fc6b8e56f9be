"""From configured figures to the limits that the rules apply; pure.

1. What is configured is `Source.CONFIGURED`; the requests limit that nobody configured is the provider's preset, and
   so is the concurrency of a provider of which nothing at all is known or configured. A configured `burst` makes the
   whole limit configured, the preset's amount with it: otherwise a told limit would replace the burst as well.
2. A model group has only what is configured for it: it comes on top of its account.
3. Bucket levels are counted in units * period / gcd(amount, period), which must stay below 2^53; a limit for which it
   would not is refused with the greatest value that is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import gcd
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cross_instance.config.forms import MAX_AMOUNT
from cross_instance.errors import ConfigError
from cross_instance.providers import presets
from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import DAY, MINUTE, Kind, LimitSpec, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cross_instance.providers.presets import Preset

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class _Bucket:
    """A key of the configuration that gives a bucket's amount, and the one that gives its burst."""

    key: str
    kind: Kind
    period: int
    burst_key: str | None


BUCKETS = (
    _Bucket("requestsPerMinute", Kind.REQUESTS, MINUTE, "burst"),
    _Bucket("requestsPerDay", Kind.REQUESTS_DAY, DAY, None),
    _Bucket("tokensPerMinute", Kind.TOKENS, MINUTE, "tokenBurst"),
    _Bucket("inputTokensPerMinute", Kind.INPUT_TOKENS, MINUTE, "tokenBurst"),
    _Bucket("outputTokensPerMinute", Kind.OUTPUT_TOKENS, MINUTE, "tokenBurst"),
)
"""In the order of `Kind`; concurrency, which is no bucket, comes last."""


def greatest_burst(amount: int, period: int) -> int:
    """The largest burst accepted beside `amount` units per `period` µs, so that every level is counted exactly."""
    return min(MAX_AMOUNT, (EXACT - 1) // (period // gcd(amount, period)))


def account_limits(provider: str, limits: Mapping[str, int], wall: int) -> tuple[LimitSpec, ...]:
    """The limits of a whole account: what is configured, filled up from the preset. `wall`: Unix time in µs."""
    preset = presets.preset(provider)
    specs = group_limits(provider, limits, wall)
    if "requestsPerMinute" not in limits:
        burst = limits.get("burst", preset.burst)
        source = Source.CONFIGURED if "burst" in limits else preset.source
        specs = (_spec(provider, BUCKETS[0], preset.requests_per_minute, burst, source, wall), *specs)
    if not limits and preset.concurrency is not None:
        specs = (*specs, _slots(preset.concurrency, preset.source))
    return specs


def group_limits(provider: str, limits: Mapping[str, int], wall: int) -> tuple[LimitSpec, ...]:
    """The limits configured in one place. `wall`: Unix time in µs."""
    preset = presets.preset(provider)
    specs = tuple(
        _spec(provider, bucket, amount, _burst(bucket, amount, limits, preset), Source.CONFIGURED, wall)
        for bucket in BUCKETS
        if (amount := limits.get(bucket.key)) is not None
    )
    slots = limits.get("concurrency")
    return specs if slots is None else (*specs, _slots(slots, Source.CONFIGURED))


def first_problem(provider: str, limits: Mapping[str, int], *, group: bool) -> tuple[str, str] | None:
    """The first key that cannot be applied beside the others, with what would be right; None where all can."""
    if group and "burst" in limits and "requestsPerMinute" not in limits:
        return "burst", "needs `requestsPerMinute` beside it"
    if "tokenBurst" in limits and not any(b.key in limits for b in BUCKETS if b.burst_key == "tokenBurst"):
        return "tokenBurst", "needs a limit of tokens per minute beside it"
    preset = presets.preset(provider)
    amounts = {bucket: limits.get(bucket.key) for bucket in BUCKETS}
    if not group and amounts[BUCKETS[0]] is None:
        amounts[BUCKETS[0]] = preset.requests_per_minute
    problems = (_overflow(bucket, amount, limits, preset) for bucket, amount in amounts.items() if amount)
    return next((problem for problem in problems if problem is not None), None)


def midnight_pacific(wall: int) -> int:
    """The anchor of 24-hour windows that end with the day in California at `wall` (Unix time, µs), in [0, `DAY`).

    A day of 25 hours has one hour more than a window: its first hour ends the windows of the day before, so that no
    day's requests are given twice. Whoever publishes the anchor anew at least every few hours resets with the
    provider all year round. Raises `ConfigError` where the machine has no time zone data.
    """
    try:
        zone = ZoneInfo("America/Los_Angeles")
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ConfigError(
            "requestsPerDay of gemini ends at midnight, Pacific time, and this machine has no time zone data; "
            "install the package tzdata"
        ) from error
    today = (_EPOCH + wall * _MICROSECOND).astimezone(zone).date()
    begin, end = (
        (datetime.combine(day, time(), zone) - _EPOCH) // _MICROSECOND for day in (today, today + timedelta(days=1))
    )
    return (end if end - DAY <= wall else begin) % DAY


def _spec(provider: str, bucket: _Bucket, amount: int, burst: int, source: Source, wall: int) -> LimitSpec:
    charging = presets.charging(provider, bucket.kind)
    anchored = provider == "gemini" and bucket.kind is Kind.REQUESTS_DAY
    return LimitSpec(
        kind=bucket.kind,
        amount=amount,
        burst=burst,
        period=bucket.period,
        source=source,
        correct=charging.correct,
        refund=charging.refund,
        anchor=midnight_pacific(wall) if anchored else None,
    )


def _slots(amount: int, source: Source) -> LimitSpec:
    return LimitSpec(kind=Kind.CONCURRENCY, amount=amount, burst=0, period=0, source=source)


def _burst(bucket: _Bucket, amount: int, limits: Mapping[str, int], preset: Preset) -> int:
    """The bucket's size: as configured, else the default that fits its kind."""
    given = None if bucket.burst_key is None else limits.get(bucket.burst_key)
    if bucket.kind in {Kind.INPUT_TOKENS, Kind.OUTPUT_TOKENS}:
        return min(given or amount, amount)
    if given is not None:
        return given
    if bucket.kind is not Kind.REQUESTS:
        return amount
    return min(preset.burst, amount) if preset.source is Source.PRESET else max(1, amount // 10)


def _overflow(bucket: _Bucket, amount: int, limits: Mapping[str, int], preset: Preset) -> tuple[str, str] | None:
    """The key to lower where the level of a bucket could not be counted exactly."""
    burst = _burst(bucket, amount, limits, preset)
    greatest = greatest_burst(amount, bucket.period)
    if burst <= greatest:
        return None
    if bucket.burst_key is not None and limits.get(bucket.burst_key) == burst:
        return bucket.burst_key, f"must be at most {greatest} beside `{bucket.key}` {amount}"
    lower = amount
    while _burst(bucket, lower, limits, preset) > greatest_burst(lower, bucket.period):
        lower -= 1
    return bucket.key, f"{amount} cannot be counted exactly; the greatest accepted value below it is {lower}"
