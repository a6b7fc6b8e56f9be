"""What response headers say about limits.

1. Header names are lower-case here (`lowered`); every form is read, whoever the provider is, since gateways and
   compatible servers speak their model's dialect.
2. A stated limit is believed only as far as its own figures agree. A minute's bucket is full again, and a minute's
   window ends, within a minute: a longer reset is no limit per minute. If reset, limit and what is used of it imply
   a day, it is one; if they imply something else, the statement is dropped.
3. A short reset may belong to a day as well, when little of the day is used: such a statement is ambiguous, and
   dropped too. A later response tells.
4. Limits of zero or -1 (Azure sends both) and other nonsense are no statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.providers.presets import AZURE, charging
from cross_instance.providers.reading import (
    count_of,
    duration_of,
    http_date_of,
    milliseconds_of,
    rfc3339_of,
    seconds_of,
)
from cross_instance.rules.operations import DAY, MINUTE, SECOND, Kind, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = (
    ("requests", Kind.REQUESTS),
    ("tokens", Kind.TOKENS),
    ("input-tokens", Kind.INPUT_TOKENS),
    ("output-tokens", Kind.OUTPUT_TOKENS),
)
_FORMS = ("x-ratelimit-{field}-{name}", "anthropic-ratelimit-{name}-{field}", "anthropic-priority-{name}-{field}")
"""OpenAI and its many followers; Anthropic; Anthropic's priority tier, which counts where the plain form is absent."""
_STATEMENTS = tuple(
    (kind, tuple(form.format(field=field, name=name) for field in ("limit", "remaining", "reset")))
    for form in _FORMS
    for name, kind in _KINDS
)

_LONGEST_MINUTE = 66 * SECOND
"""A minute, and a tenth for clocks and rounding."""
_AZURE_WINDOW = 10 * SECOND
"""Azure states requests per 10 s: a deployment of 120 requests/min says `x-ratelimit-limit-requests: 20`."""


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by lower-case name."""
    return {str(name).lower(): str(value) for name, value in headers.items()}


def asked_wait(headers: Mapping[str, str], wall_us: int) -> int | None:
    """The µs that a response asks to wait; None where it does not, or asks for none.

    Forms, first readable one wins: `retry-after-ms`; `retry-after` in seconds (fractions too) or as an HTTP date,
    which is measured against the response's own `date`, else against `wall_us`.
    """
    wait = milliseconds_of(headers.get("retry-after-ms", ""))
    text = headers.get("retry-after", "")
    if wait is None:
        wait = seconds_of(text)
    if wait is None:
        moment = http_date_of(text)
        wait = None if moment is None else max(0, moment - _server_time(headers, wall_us))
    return wait or None


def told_by_headers(provider: str, headers: Mapping[str, str], wall_us: int) -> tuple[Told, ...]:
    """The limits that the headers state, one per kind at most, in the order of `Kind`."""
    told: dict[Kind, Told] = {}
    for kind, (limit_name, remaining_name, reset_name) in _STATEMENTS:
        text = headers.get(limit_name)
        limit = None if text is None else count_of(text)
        if not limit:
            continue
        reset = _reset_of(headers.get(reset_name, ""), headers, wall_us)
        statement = _statement(provider, kind, limit, headers.get(remaining_name), reset)
        if statement is not None:
            told.setdefault(statement.kind, statement)
    return tuple(told[kind] for kind in Kind if kind in told)


def _statement(provider: str, kind: Kind, limit: int, left: str | None, reset: int | None) -> Told | None:
    remaining = count_of(left)
    if left is not None and (remaining is None or remaining > limit):
        return None
    period = _period(limit, remaining, reset)
    if period == DAY:
        if kind is not Kind.REQUESTS:
            return None
        kind = Kind.REQUESTS_DAY
    elif period is None:
        return None
    elif provider == AZURE and kind is Kind.REQUESTS:
        period = _AZURE_WINDOW
    rule = charging(provider, kind)
    return Told(kind, limit, remaining, reset, period, rule.correct, rule.refund)


def _period(limit: int, remaining: int | None, reset: int | None) -> int | None:
    """A minute or a day, by the figures; None where they fit neither, or both."""
    if reset is None:
        return MINUTE
    short = reset <= _LONGEST_MINUTE
    used = 0 if remaining is None else limit - remaining
    implied = limit * reset // used if used else 0
    if short:
        # A bucket's use is rounded up to whole requests, so a day's may imply as little as half a day.
        return None if DAY // 2 <= implied <= DAY * 11 // 10 else MINUTE
    return DAY if abs(implied - DAY) <= DAY * 15 // 100 else None


def _reset_of(text: str, headers: Mapping[str, str], wall_us: int) -> int | None:
    """µs until the reset: a duration, plain seconds, or an instant. One that has just passed is 0."""
    text = text.strip()
    if text in ("0", "0s", "0ms"):
        return 0
    duration = duration_of(text)
    if duration is None:
        duration = seconds_of(text)
    if duration is not None:
        return duration
    moment = rfc3339_of(text)
    return None if moment is None else max(0, moment - _server_time(headers, wall_us))


def _server_time(headers: Mapping[str, str], wall_us: int) -> int:
    """The server's clock, so that a wrong one of ours does no harm; ours where it does not say."""
    date = http_date_of(headers.get("date", ""))
    return wall_us if date is None else date
