"""Reading what strangers send: JSON values, counts, durations, instants.

1. Nothing here raises: what cannot be read, or makes no sense, is None (or empty).
2. A count is a whole number from 0 to 10^12; negative, fractional, infinite and larger ones are nonsense.
3. Durations are µs, above zero and at most 31 days; instants are Unix time in µs.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

LARGEST_COUNT = 10**12
"""No provider grants more per minute; what is beyond it is a sentinel or an error."""
LONGEST = 31 * 86_400 * 1_000_000
"""The longest wait (µs) that can be meant as one: a month's quota."""

_UNITS = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
    "µs": 1,
    "ns": 0.001,
}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_BARE = re.compile(_NUMBER)
_PART = re.compile(rf"({_NUMBER})({_UNIT})")
_WHOLE = re.compile(rf"(?:{_NUMBER}(?:{_UNIT}))+")


def decode_json(body: bytes) -> object:
    """The decoded JSON document; None for anything that is not one."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None


def dig(value: object, *keys: str) -> object:
    """The value under a path of keys; None where the path ends early."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text_at(value: object, *keys: str) -> str:
    """The string under a path of keys; empty where there is none."""
    found = dig(value, *keys)
    return found if isinstance(found, str) else ""


def count_of(value: object) -> int | None:
    """A count, from a JSON number or from the text of a header (`40,000` too)."""
    if isinstance(value, str):
        digits = value.strip().replace(",", "")
        if not _BARE.fullmatch(digits):
            return None
        value = float(digits)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= LARGEST_COUNT or value != int(value):
        return None
    return int(value)


def seconds_of(text: str) -> int | None:
    """µs from a plain number of seconds, whole or fractional."""
    return _bare(text, "s")


def milliseconds_of(text: str) -> int | None:
    """µs from a plain number of milliseconds, whole or fractional."""
    return _bare(text, "ms")


def _bare(text: str, unit: str) -> int | None:
    text = text.strip()
    return _sensible(float(text) * _UNITS[unit]) if _BARE.fullmatch(text) else None


def duration_of(text: str) -> int | None:
    """µs from a duration with units, such as `1s`, `6m0s`, `12ms`, `1h2m3.5s`."""
    text = text.strip()
    if not _WHOLE.fullmatch(text):
        return None
    return _sensible(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def http_date_of(text: str) -> int | None:
    """Unix time in µs from an HTTP date (RFC 9110, `Sun, 06 Nov 1994 08:49:37 GMT`)."""
    try:
        return _unix(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def rfc3339_of(text: str) -> int | None:
    """Unix time in µs from an RFC 3339 instant (`2026-11-21T10:00:00Z`)."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if instant.tzinfo is None else _unix(instant)


def _unix(instant: datetime) -> int | None:
    if instant.tzinfo is None:  # "-0000": the time is UTC, the place unknown (RFC 5322, 3.3)
        instant = instant.replace(tzinfo=UTC)
    try:
        return int(instant.timestamp() * 1_000_000)
    except OverflowError:
        return None


def _sensible(duration: float) -> int | None:
    return round(duration) if 0.5 < duration <= LONGEST else None
