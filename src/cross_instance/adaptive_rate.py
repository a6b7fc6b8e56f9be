"""Adaptive rate control by the reference's names: what was learned of limits, for programs.

    from cross_instance import adaptive_rate, coordinator

    coordinator.register_instance("session-1", "/home/me/project")
    adaptive_rate.record_429("openai", "gpt-4o")  # met by a call that was made without a permit
    print(adaptive_rate.format_adaptive_summary())

1. The store learns, from every permit, whoever took it: these functions show what it learned, and report calls that
   were made without a permit. Nothing is kept here.
2. Before `coordinator.register_instance` nothing is known and nothing is reported; nothing raises for that.
3. Prediction is off unless `adaptiveRateControl.predictive` says so: then the figures are shown, and change nothing.
4. An error is judged by what it says of itself, never by words in its message.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cross_instance.config import account_names
from cross_instance.coordinator import this_process
from cross_instance.errors import RateLimitExceeded
from cross_instance.explaining import explanations, reason_of, text_of
from cross_instance.prediction import Prediction, prediction_of
from cross_instance.provider_limits import resolve_limits
from cross_instance.retry import is_rate_limit
from cross_instance.rules.learning_values import UNIT
from cross_instance.rules.operations import Snapshot, Source, Unlearn
from cross_instance.rules.patterns import most_specific
from cross_instance.spelling import Plain, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cross_instance.explaining import Explained
    from cross_instance.rules.operations import LearnedState

__all__ = [
    "LearnedLimit",
    "PredictiveAnalysis",
    "analyze_429_probability",
    "format_adaptive_summary",
    "get_adaptive_state",
    "get_effective_limit",
    "get_learned_limit",
    "get_predictive_analysis",
    "get_predictive_concurrency",
    "is_rate_limit_error",
    "record_429",
    "record_success",
    "reset_all_learned_limits",
    "reset_learned_limit",
    "should_proactively_throttle",
]

_REJECTED = 429
_FIRST = "critical"
"""A report asks for no capacity that others wait for: it tells of a call that was made."""


@dataclass(frozen=True)
class LearnedLimit(Plain):
    """What was learned of an account, or of the group of its models that fit `pattern` ("": the account).

    Rates per minute: `requests_per_minute` is allowed now, `original_requests_per_minute` what it began with,
    `estimated_limit` what the provider's limit is taken to be (None: not known yet), `tokens_per_minute` that of the
    tokens that are learned (None: none are). `concurrency`: calls at once (None: no such limit was met).
    `last_updated` is when it changed last (RFC 3339), `notes` why.
    """

    provider: str
    account: str
    pattern: str
    requests_per_minute: float
    original_requests_per_minute: float
    estimated_limit: float | None
    tokens_per_minute: float | None
    concurrency: int | None
    total_requests: int
    total_429_count: int
    last_updated: str
    notes: str


@dataclass(frozen=True)
class PredictiveAnalysis(Plain):
    """The share (of 1) of requests that met 429 in the last 10, 30 and 60 minutes, and what it implies.

    `predicted_429_probability`: the risk, 1 where one request in twenty met 429. `proactive_cut`: the share of the rate
    that is to be left unused for it; `enabled`: whether prediction is on, `should_proactively_throttle`: whether it is
    and there is something to cut.
    """

    provider: str
    model: str
    share_10_min: float
    share_30_min: float
    share_60_min: float
    predicted_429_probability: float
    proactive_cut: float
    enabled: bool
    should_proactively_throttle: bool


# --- what is in force, and what was learned --------------------------------------------------------------------------


def get_effective_limit(provider: str, model: str = "", preset_limit: int | None = None) -> int | None:
    """The requests per minute that hold for a model: configured, told by the provider or learned.

    `preset_limit` is the answer where nothing but a preset or a guess is known; None: that preset or guess itself.
    Raises `StoreUnavailable`, `ConfigError`, and `ValueError` for a name that makes no sense.
    """
    limits = resolve_limits(provider, model)
    if preset_limit is not None and limits.source in {None, Source.PRESET, Source.GUESS}:
        return preset_limit
    return limits.requests_per_minute


def get_learned_limit(provider: str, model: str = "", *, account: str | None = None) -> LearnedLimit | None:
    """What was learned for a model, or for the account itself; None: nothing. Raises `StoreUnavailable`."""
    found = _explained(provider, model, account)
    return None if found is None or found.learned is None else _limit(found, found.learned)


def get_adaptive_state() -> dict[str, LearnedLimit]:
    """All that was learned, by account and model pattern: "openai/default", "openai/default#o3*"."""
    found = ((one, one.learned) for one in _all())
    return {one.node: _limit(one, learned) for one, learned in found if learned is not None}


def format_adaptive_summary() -> str:
    """What was learned with its evidence, as `cross-instance limits --explain` prints it."""
    return "\n\n".join(text_of(one) for one in _all() if one.learned is not None) or "Nothing was learned."


def reset_learned_limit(provider: str, model: str = "", *, account: str | None = None) -> tuple[str, ...]:
    """Forget what was learned of the group of limits that a model belongs to; "": of the account with all its groups.

    Gives the names of what was forgotten. Raises `StoreUnavailable`.
    """
    runtime = this_process.runtime
    if runtime is None:
        return ()
    provider, account = account_names(provider, account or runtime.account)
    return runtime.run(Unlearn(account=f"{provider}/{account}", model=model)).nodes


def reset_all_learned_limits() -> tuple[str, ...]:
    """Forget what was learned, of all accounts. Gives the names of what was forgotten. Raises `StoreUnavailable`."""
    runtime = this_process.runtime
    return () if runtime is None else runtime.run(Unlearn()).nodes


# --- reports ---------------------------------------------------------------------------------------------------------


def record_429(
    provider: str,
    model: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout: float = 0.0,
    account: str | None = None,
) -> bool:
    """Report a 429 that a call met which was made without a permit; `headers` and `body` as they were answered.

    The call is counted now, as if it had just been made: it needs a permit, and waits up to `timeout` seconds for one.
    False: there was none, since the account is at its limit or paused, which is what a 429 would say. Raises
    `StoreUnavailable`.
    """
    return _report(provider, model, _REJECTED, headers or {}, body, timeout, account)


def record_success(provider: str, model: str = "", *, timeout: float = 0.0, account: str | None = None) -> bool:
    """Report a call that succeeded without a permit; see `record_429`. False: it could not be counted."""
    return _report(provider, model, 200, {}, b"", timeout, account)


def is_rate_limit_error(error: object) -> bool:
    """Whether a rate limit was met: an error of this package or of an SDK, a response, or a status as a number."""
    if isinstance(error, BaseException) and is_rate_limit(error):
        return True
    response = getattr(error, "response", error)
    return _REJECTED in (error, getattr(response, "status_code", None))


# --- prediction ------------------------------------------------------------------------------------------------------


def get_predictive_analysis(provider: str, model: str = "", *, account: str | None = None) -> PredictiveAnalysis:
    """How many requests of a model's limits met 429 lately, and what that implies. Raises `StoreUnavailable`."""
    found = _explained(provider, model, account)
    seen = Prediction() if found is None or found.learned is None else prediction_of(found.learned)
    runtime = this_process.runtime
    enabled = seen.in_force or (runtime is not None and runtime.settings.adaptive.predictive)
    throttle = enabled and seen.cut > 0
    return PredictiveAnalysis(provider.lower(), model, *seen.shares, seen.risk, seen.cut, enabled, throttle)


def analyze_429_probability(provider: str, model: str = "") -> float:
    """The risk (of 1) that the 429s of the last hour imply. Raises `StoreUnavailable`."""
    return get_predictive_analysis(provider, model).predicted_429_probability


def should_proactively_throttle(provider: str, model: str = "") -> bool:
    """Whether the rate is cut beforehand: never while prediction is off. Raises `StoreUnavailable`."""
    return get_predictive_analysis(provider, model).should_proactively_throttle


def get_predictive_concurrency(provider: str, model: str, current_concurrency: int) -> int:
    """So many calls at once less the cut that is in force, at least one. Raises `StoreUnavailable`."""
    seen = get_predictive_analysis(provider, model)
    if not seen.should_proactively_throttle:
        return current_concurrency
    return max(1, int(current_concurrency * (1 - seen.proactive_cut)))


# --- how -------------------------------------------------------------------------------------------------------------


def _all() -> list[Explained]:
    runtime = this_process.runtime
    return [] if runtime is None else explanations(runtime.run(Snapshot(counts=False)))


def _explained(provider: str, model: str, account: str | None) -> Explained | None:
    """The group that decides for a model; its account where none does, or nothing is learned of that."""
    runtime = this_process.runtime
    if runtime is None:
        return None
    provider, account = account_names(provider, account or runtime.account)
    found = {one.model: one for one in _all() if (one.provider, one.account) == (provider, account)}
    group = found.get(most_specific({*found} - {""}, model)) if model else None
    return found.get("") if group is None or group.learned is None else group


def _limit(one: Explained, state: LearnedState) -> LearnedLimit:
    return LearnedLimit(
        one.provider,
        one.account,
        one.model,
        requests_per_minute=state.rate / UNIT,
        original_requests_per_minute=state.started / UNIT,
        estimated_limit=state.estimate / UNIT or None,
        tokens_per_minute=state.tokens / UNIT or None,
        concurrency=state.cap or None,
        total_requests=state.granted,
        total_429_count=state.rejected,
        last_updated=time_text(state.changed_at),
        notes=reason_of(state),
    )


def _report(
    provider: str, model: str, status: int, headers: Mapping[str, str], body: bytes, timeout: float, account: str | None
) -> bool:
    runtime = this_process.runtime
    if runtime is None or not runtime.settings.enabled:
        return False
    with (
        suppress(RateLimitExceeded),
        runtime.permit(provider, model, priority=_FIRST, timeout=timeout, account=account) as permit,
    ):
        permit.settle(status=status, headers=headers, body=body)
        return True
    return False
