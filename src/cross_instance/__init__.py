"""One provider account, many agents, no 429s: processes share LLM rate limits exactly.

The main path begins in `runtime`. A public name is imported when it is first used, so that whoever needs one part of
the package, the command line's help for one, does not wait for all of it.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.platform == "win32":
    raise ImportError("cross-instance-runtime does not support Windows; use it within WSL 2", name=__name__)

from cross_instance._version import __version__

if TYPE_CHECKING:
    from cross_instance.coordinator_events import subscribe_coordinator_events
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
    from cross_instance.events import Event, Subscription
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
    "Event",
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
    "Subscription",
    "Usage",
    "__version__",
    "retry_with_backoff",
    "subscribe_coordinator_events",
]

_ELSEWHERE = {
    "AsyncPermit": "permits",
    "AsyncRuntime": "runtime",
    "Event": "events",
    "Outcome": "rules.operations",
    "Permit": "permits",
    "Priority": "rules.operations",
    "Runtime": "runtime",
    "Subscription": "events",
    "Usage": "providers.tokens",
    "retry_with_backoff": "retry",
    "subscribe_coordinator_events": "coordinator_events",
}
"""Where public names are that are no errors."""


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
