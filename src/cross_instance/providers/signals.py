"""From a response to what the rules are told about it.

1. Everything is read, nothing is decided: the rules judge what a told limit is worth.
2. Headers go before bodies where both say the same: they are the account's state, a message is prose.
3. Whatever comes (any bytes, any headers), nothing raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.providers.bodies import read_error
from cross_instance.providers.headers import asked_wait, lowered, told_by_headers
from cross_instance.providers.presets import AZURE
from cross_instance.rules.operations import MINUTE, NO_SIGNALS, Kind, Outcome, Signals, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_ERROR = 400
_REJECTED = frozenset({429})
_OVERLOADED = frozenset({503, 529})
"""Service unavailable (OpenAI `server_is_overloaded`, Gemini `UNAVAILABLE`); Anthropic `overloaded_error`."""
_TIMED_OUT = frozenset({408, 504, 524})
_QUOTA_GONE = 10 * MINUTE
"""Azure asks for so long a wait (86,400 s are common) where quota is exhausted, not where a rate is exceeded."""


def read_signals(provider: str, status: int, headers: Mapping[str, str], body: bytes, wall_us: int) -> Signals:
    """What one response says about limits. `body` may be cut or empty; `wall_us` is Unix time in µs.

    Only error bodies are read. A 429 that does not name its limit hit the one told to have nothing left, if that is
    a single one.
    """
    provider = provider.lower()
    fields = lowered(headers)
    told = told_by_headers(provider, fields, wall_us)
    if status < _FIRST_ERROR:
        return Signals(told=told) if told else NO_SIGNALS
    error = read_error(provider, status, body)
    retry_after = asked_wait(fields, wall_us) or error.retry_after
    kind = error.kind
    if kind is None and status in _REJECTED:
        kind = _used_up(told)
    return Signals(
        kind=kind,
        retry_after=retry_after,
        told=_merged(told, error.told),
        exhausted=error.exhausted or _not_worth_it(provider, status, fields, retry_after),
    )


def outcome_of(status: int, signals: Signals) -> Outcome:
    """How a permit ends whose response had this status. A limit named in the response makes it a rejection, also
    under another status than 429 (OpenAI's `slow_down` comes as a 503 too)."""
    if status < _FIRST_ERROR:
        return Outcome.SUCCESS
    if status in _REJECTED or signals.kind is not None:
        return Outcome.REJECTED
    if status in _OVERLOADED:
        return Outcome.OVERLOADED
    return Outcome.TIMEOUT if status in _TIMED_OUT else Outcome.ERROR


def worth_retrying(status: int, signals: Signals) -> bool:
    """Whether waiting in the queue and sending again can help: rejected or overloaded, and not exhausted."""
    return signals.exhausted is None and outcome_of(status, signals) in (Outcome.REJECTED, Outcome.OVERLOADED)


def _used_up(told: tuple[Told, ...]) -> Kind | None:
    empty = [limit.kind for limit in told if limit.remaining == 0]
    return empty[0] if len(empty) == 1 else None


def _merged(first: tuple[Told, ...], second: tuple[Told, ...]) -> tuple[Told, ...]:
    kinds = {limit.kind for limit in first}
    return (*first, *(limit for limit in second if limit.kind not in kinds))


def _not_worth_it(provider: str, status: int, headers: Mapping[str, str], retry_after: int | None) -> str | None:
    """Why the provider does not want to see the request again, beyond its error codes."""
    if status in _REJECTED | _OVERLOADED and headers.get("x-should-retry", "").strip().lower() == "false":
        return "x-should-retry: false"
    if provider == AZURE and status in _REJECTED and (retry_after or 0) >= _QUOTA_GONE:
        return "quota_exhausted"
    return None
