"""The state of one model under one adjuster, and how it changes: pure, the caller tells the time.

1. An error cuts at once: by 30 % on a 429, 10 % on a timeout, 5 % on anything else, rounded down, not below the least.
2. Recovery adds 10 %, rounded up, not above the base; at most once in an interval, and only without an error within
   the window.
3. What others may use of the same model is theirs: the parallelism that is told is divided by the instances.

Instants are milliseconds. Each change is a new state; figures are the reference's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import quantiles
from typing import TYPE_CHECKING

from cross_instance.dynamic_parallelism.models import (
    DynamicAdjusterConfig,
    ErrorType,
    ModelState,
    ParallelismConfig,
    ProviderHealth,
    ResponseTimes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

REDUCTION_ON_ERROR = 0.05
HEALTHY_SHARE = 0.8
"""The share of the base parallelism from which a model counts as healthy."""
LONGEST_BACKOFF = 60_000.0
FIRST_BACKOFF = 1_000.0
MOST_DOUBLINGS = 6
"""2^6 seconds are more than the longest backoff."""
SLOW = 2.0
"""Slow is what takes so many times as long as before."""
FEWEST_TO_COMPARE = 10
"""Response times from which on slowness is judged."""


@dataclass(frozen=True)
class State:
    """What is known of a model: `errors` are (instant, type), the newest last; `times` and `first_tokens` (until the
    first token came) in ms, likewise."""

    base: int
    current: int
    reason: str = "initial"
    adjusted_at: float = 0.0
    recovered_at: float = -math.inf
    active: int = 0
    errors: tuple[tuple[float, ErrorType], ...] = ()
    times: tuple[float, ...] = ()
    first_tokens: tuple[float, ...] = ()
    instances: int = 1

    @property
    def parallelism(self) -> int:
        """How many calls this instance may have under way: its part of the current figure, at least 1."""
        return max(1, self.current // self.instances)


def new_state(config: DynamicAdjusterConfig, now: float) -> State:
    """A model that nothing is known of."""
    base = min(config.base_parallelism, config.max_parallelism)
    return State(base, base, adjusted_at=now)


def failed(state: State, config: DynamicAdjusterConfig, error: ErrorType, now: float) -> State:
    """After an error. Raises `ValueError` for a type that there is none of."""
    reductions = {"429": config.reduction_on_429, "timeout": config.reduction_on_timeout, "error": REDUCTION_ON_ERROR}
    if error not in reductions:
        raise ValueError(f'an error\'s type is "429", "timeout" or "error", not {error!r}')
    kept = (*state.errors, (now, error))[-config.max_error_history :]
    state = replace(state, errors=kept)
    # a hair is added so that ten less 30 %, which is 6.999… in doubles, is 7
    cut = max(config.min_parallelism, math.floor(state.current * (1 - reductions[error]) + 1e-9))
    return _changed(state, cut, f"{error} error", now)


def recovered(state: State, config: DynamicAdjusterConfig, now: float) -> State:
    """After a quiet time: more, where it is due."""
    if state.current >= state.base or now - state.recovered_at < config.recovery_interval_ms:
        return state
    if recent(state, config, now):
        return state
    more = min(state.base, math.ceil(state.current * (1 + config.increase_on_recovery) - 1e-9))
    return replace(_changed(state, more, "recovery", now), recovered_at=now)


def shared(state: State, instances: int) -> State:
    """Where so many instances use the model. Raises `ValueError` for less than one."""
    if instances < 1:
        raise ValueError(f"at least one instance uses a model, not {instances}")
    return replace(state, instances=instances)


def started(state: State) -> State:
    """One more call is under way."""
    return replace(state, active=state.active + 1)


def completed(state: State) -> State:
    """One call less is under way."""
    return replace(state, active=max(0, state.active - 1))


def succeeded(state: State, config: DynamicAdjusterConfig, response_ms: float) -> State:
    """An answer came after so long. Raises `ValueError` for a time that cannot be."""
    if not 0 <= response_ms < math.inf:
        raise ValueError(f"a response time is a number of milliseconds, not {response_ms}")
    return passed(state, config, 0, 0, (response_ms,), ())


def passed(
    state: State,
    config: DynamicAdjusterConfig,
    begun: int,
    ended: int,
    response_ms: Sequence[float],
    first_token_ms: Sequence[float],
) -> State:
    """After many calls: so many have begun and ended, and these are the times of those that were answered."""
    most = config.max_response_samples
    return replace(
        state,
        active=max(0, state.active + begun - ended),
        times=(*state.times, *response_ms)[-most:],
        first_tokens=(*state.first_tokens, *first_token_ms)[-most:],
    )


def recent(state: State, config: DynamicAdjusterConfig, now: float) -> list[ErrorType]:
    """The types of the errors within the window."""
    return [error for at, error in state.errors if now - at < config.error_window_ms]


def health(state: State, config: DynamicAdjusterConfig, now: float) -> ProviderHealth:
    """How the model does."""
    errors = recent(state, config, now)
    return ProviderHealth(
        healthy=not errors and state.current >= HEALTHY_SHARE * state.base,
        active_requests=state.active,
        recent429_count=errors.count("429"),
        avg_response_ms=sum(state.times) / len(state.times) if state.times else 0.0,
        recommended_backoff_ms=_backoff(state, errors.count("429"), now),
    )


def response_times(state: State, config: DynamicAdjusterConfig, now: float) -> ResponseTimes:
    """How long answers take, and whether that is more than they used to."""
    errors, times, firsts = recent(state, config, now), state.times, state.first_tokens
    slow = "timeout" in errors or _slowed(times)
    return ResponseTimes(
        samples=len(times),
        p50_ms=_percentile(times, 50),
        p95_ms=_percentile(times, 95),
        status="overloaded" if "429" in errors else "slow" if slow else "normal",
        streamed=len(firsts),
        first_token_p50_ms=_percentile(firsts, 50),
        first_token_p95_ms=_percentile(firsts, 95),
    )


def described(state: State, config: DynamicAdjusterConfig) -> ParallelismConfig:
    """The parallelism in the reference's terms."""
    return ParallelismConfig(
        base_parallelism=state.base,
        current_parallelism=state.current,
        min_parallelism=config.min_parallelism,
        max_parallelism=config.max_parallelism,
        adjustment_reason=state.reason,
        last_adjusted_at=state.adjusted_at,
    )


def shown(state: State, config: DynamicAdjusterConfig, now: float) -> ModelState:
    """Everything there is to say of a model."""
    return ModelState(described(state, config), health(state, config, now), state.instances)


def _changed(state: State, current: int, reason: str, now: float) -> State:
    return replace(state, current=current, reason=reason, adjusted_at=now)


def _backoff(state: State, count: int, now: float) -> float:
    if not count:
        return 0.0
    last = max(at for at, error in state.errors if error == "429")
    wait = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(count, MOST_DOUBLINGS))
    return max(0.0, wait - (now - last))


def _percentile(times: tuple[float, ...], percent: int) -> float:
    if len(times) < 2:
        return times[0] if times else 0.0
    return float(quantiles(times, n=100, method="inclusive")[percent - 1])


def _slowed(times: tuple[float, ...]) -> bool:
    half = len(times) // 2
    if len(times) < FEWEST_TO_COMPARE:
        return False
    before = _percentile(times[:half], 50)
    return before > 0 and _percentile(times[half:], 50) >= SLOW * before
