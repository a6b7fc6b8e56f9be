"""What the adjuster is told and tells: frozen data, in the reference's camelCase by `to_dict()`.

Durations and instants are milliseconds, instants since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from cross_instance.spelling import Plain

ErrorType = Literal["429", "timeout", "error"]
"""What an answer can be that was none: the account's rate limit was met, time ran out, or anything else."""


@dataclass(frozen=True)
class DynamicAdjusterConfig(Plain):
    """How parallelism is adjusted; the defaults are the reference's.

    `reduction_on_429` and `reduction_on_timeout` are the fractions cut, `increase_on_recovery` the fraction added, at
    most once per `recovery_interval_ms` and only without an error within `error_window_ms`. `max_error_history` errors
    and `max_response_samples` response times are kept. `max_parallelism` caps `base_parallelism`, too.

    Raises `ValueError` for figures that make no sense.
    """

    min_parallelism: int = 1
    base_parallelism: int = 4
    max_parallelism: int = 16
    reduction_on_429: float = 0.3
    reduction_on_timeout: float = 0.1
    increase_on_recovery: float = 0.1
    recovery_interval_ms: float = 60_000
    error_window_ms: float = 300_000
    max_error_history: int = 100
    max_response_samples: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.min_parallelism <= self.max_parallelism:
            raise ValueError("1 <= min_parallelism <= max_parallelism must hold")
        if self.base_parallelism < self.min_parallelism:
            raise ValueError("base_parallelism is at least min_parallelism")
        for name in ("reduction_on_429", "reduction_on_timeout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a fraction from 0 to 1")
        rest = ("increase_on_recovery", "recovery_interval_ms", "error_window_ms")
        for name in (*rest, "max_error_history", "max_response_samples"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is more than 0")


NAMES = tuple(field.name for field in fields(DynamicAdjusterConfig))
"""The fields of the configuration."""


@dataclass(frozen=True)
class ParallelismConfig(Plain):
    """How many calls may be under way at once, before they are shared with other instances, and why."""

    base_parallelism: int
    current_parallelism: int
    min_parallelism: int
    max_parallelism: int
    adjustment_reason: str
    last_adjusted_at: float


@dataclass(frozen=True)
class ProviderHealth(Plain):
    """How a model does: healthy is without an error in the window, and at 80 % of the base parallelism or more.

    `recommended_backoff_ms`: how long to wait before the next call; 0 without a recent 429.
    """

    healthy: bool
    active_requests: int
    recent429_count: int
    avg_response_ms: float
    recommended_backoff_ms: float


@dataclass(frozen=True)
class ErrorEvent(Plain):
    """An error as it was told."""

    provider: str
    model: str
    type: ErrorType
    timestamp: float
    details: str | None = None

    OPTIONAL = frozenset({"details"})


@dataclass(frozen=True)
class ParallelismChange(Plain):
    """The parallelism of `key` ("provider:model"), shared with other instances, has changed."""

    key: str
    old_parallelism: int
    new_parallelism: int
    reason: str


@dataclass(frozen=True)
class ModelState(Plain):
    """How a model stands: its parallelism, its health, and how many instances share it."""

    config: ParallelismConfig
    health: ProviderHealth
    instances: int


@dataclass(frozen=True)
class ResponseTimes(Plain):
    """How long the last `samples` answers took; 0 without any.

    `status` is "overloaded" after a 429 in the window, "slow" where answers came late though none was refused (the
    median of the newest half is twice that of all before, or a call timed out), else "normal". Of the last `streamed`
    answers that came in pieces it is known when the first one came.
    """

    samples: int
    p50_ms: float
    p95_ms: float
    status: Literal["normal", "slow", "overloaded"]
    streamed: int = 0
    first_token_p50_ms: float = 0.0
    first_token_p95_ms: float = 0.0
