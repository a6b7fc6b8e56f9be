"""One provider account, many agents, no 429s: processes share LLM rate limits exactly.

The main path begins in `runtime`.
"""

from cross_instance._version import __version__
from cross_instance.errors import (
    ConfigError,
    CrossInstanceError,
    DuplicateInstance,
    InstanceFenced,
    PermitError,
    RateLimitExceeded,
    RequestTooLarge,
    StoreBusy,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from cross_instance.permits import AsyncPermit, Permit
from cross_instance.providers.tokens import Usage
from cross_instance.retry import retry_with_backoff
from cross_instance.rules.operations import Outcome, Priority
from cross_instance.runtime import AsyncRuntime, Runtime

__all__ = [
    "AsyncPermit",
    "AsyncRuntime",
    "ConfigError",
    "CrossInstanceError",
    "DuplicateInstance",
    "InstanceFenced",
    "Outcome",
    "Permit",
    "PermitError",
    "Priority",
    "RateLimitExceeded",
    "RequestTooLarge",
    "Runtime",
    "StoreBusy",
    "StoreCorrupt",
    "StoreFull",
    "StoreUnavailable",
    "Usage",
    "__version__",
    "retry_with_backoff",
]
