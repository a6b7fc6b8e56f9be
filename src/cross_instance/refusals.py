"""Refusals: why there is no permit, in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.errors import PermitError, RateLimitExceeded, RequestTooLarge
from cross_instance.rules.operations import MINUTE, SECOND, Kind

if TYPE_CHECKING:
    from cross_instance.protocol import Request
    from cross_instance.rules.operations import LimitState, Refused, Waiting


def refusal(request: Request, refused: Refused) -> PermitError:
    """The error that tells a caller why there is no permit, with the figures."""
    limit, retry_after = refused.limit, refused.retry_after / SECOND
    if refused.reason == "too_large":
        text = f"one request takes {refused.needed:,}, but {_describe(limit)} never allows as much"
        return _error(RequestTooLarge, request, text, limit, retry_after)
    if refused.reason == "stale_task":
        text = f"this instance does not own the task {request.task!r} in epoch {request.task_epoch}"
        return _error(PermitError, request, text, None, 0.0)
    asked = f"within {request.timeout / SECOND:.1f} s" if request.timeout else "now"
    text = f"no permit {asked}{_because(limit)}"
    if retry_after:
        text += f"; the earliest is in {retry_after:.1f} s"
    return _error(RateLimitExceeded, request, text, limit, retry_after)


def too_late(request: Request, answer: Waiting, waited: int, now: int) -> PermitError:
    """The error of a request that waited until its deadline; times in µs."""
    text = f"no permit after {waited / SECOND:.1f} s{_because(answer.limit)}"
    return _error(RateLimitExceeded, request, text, answer.limit, max(0, answer.not_before - now) / SECOND)


def _error(
    kind: type[PermitError], request: Request, text: str, limit: LimitState | None, retry_after: float
) -> PermitError:
    outage = request.membership.fallback.outage
    share = "" if outage is None else f"; the store is out of reach, and this is the instance's share: {outage.error}"
    return kind(
        f"{_target(request)}: {text}{share}",
        provider=request.provider,
        model=request.model,
        limit=limit,
        retry_after=retry_after,
    )


def _target(request: Request) -> str:
    return f"{request.provider}/{request.model}" if request.model else request.provider


def _because(limit: LimitState | None) -> str:
    return "" if limit is None else f": {_describe(limit)} has {max(0, limit.available):,} left"


def _describe(limit: LimitState | None) -> str:
    """For example "the limit of 500 requests/min (configured) of openai/default"."""
    if limit is None:
        return "a limit"
    return f"the limit of {_amount(limit)} ({limit.source.value}) of {limit.node or 'totalMaxLlm'}"


def _amount(limit: LimitState) -> str:
    if limit.kind is Kind.CONCURRENCY:
        return f"{limit.amount:,} at a time"
    if limit.kind is Kind.REQUESTS_DAY:
        return f"{limit.amount:,} requests/day"
    period = "/min" if limit.period == MINUTE else f" per {limit.period / SECOND:g} s"
    return f"{limit.amount:,} {limit.kind.value.replace('_', ' ')}{period}"
