"""Parallelism that follows health: the reference's `dynamic-parallelism`, name for name in snake_case.

    from cross_instance import dynamic_parallelism

    dynamic_parallelism.adjust_for_error("anthropic", "claude-sonnet-4", "429")
    limit = dynamic_parallelism.get_parallelism("anthropic", "claude-sonnet-4")

1. The functions act on one adjuster of this process, made when it is first used. It follows the registry that
   `coordinator.register_instance` joins: a model's parallelism is shared among the instances that have it active.
2. It hears of every call that takes a permit (`health`), and of what programs tell it of other calls. What it says is
   advice: nothing waits for it. What is really capped after an overload is told in `in_flight`.

Data flows one way: an event → `machine` (pure) → `adjuster` (lock, timer, who wants to know) → `models`.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from cross_instance.dynamic_parallelism.adjuster import DynamicParallelismAdjuster, wall_ms
from cross_instance.dynamic_parallelism.models import (
    DynamicAdjusterConfig,
    ErrorEvent,
    ErrorType,
    ModelState,
    ParallelismChange,
    ParallelismConfig,
    ProviderHealth,
    ResponseTimes,
)
from cross_instance.dynamic_parallelism.registry import Registry
from cross_instance.dynamic_parallelism.summary import summary_of

__all__ = [
    "DynamicAdjusterConfig",
    "DynamicParallelismAdjuster",
    "ErrorEvent",
    "ModelState",
    "ParallelismChange",
    "ParallelismConfig",
    "ProviderHealth",
    "ResponseTimes",
    "adjust_for_error",
    "attempt_recovery",
    "create_parallelism_adjuster",
    "format_dynamic_parallelism_summary",
    "get_parallelism",
    "get_parallelism_adjuster",
    "reset_parallelism_adjuster",
]

_adjuster: DynamicParallelismAdjuster | None = None
_making = threading.Lock()


def get_parallelism_adjuster() -> DynamicParallelismAdjuster:
    """The adjuster of this process."""
    global _adjuster
    with _making:
        if _adjuster is None:
            _adjuster = create_parallelism_adjuster()
        return _adjuster


def create_parallelism_adjuster(
    config: DynamicAdjusterConfig | None = None, **fields: Any
) -> DynamicParallelismAdjuster:
    """An adjuster of its own, which follows the registry too. `fields` are those of `DynamicAdjusterConfig`.

    Raises `ValueError` for figures that make no sense, `TypeError` for a field that there is none of.
    """
    return DynamicParallelismAdjuster(config, **{"count": Registry(fields.get("clock", wall_ms)).count, **fields})


def reset_parallelism_adjuster() -> None:
    """Forget the adjuster of this process; the next use makes a new one."""
    global _adjuster
    with _making:
        adjuster, _adjuster = _adjuster, None
    if adjuster is not None:
        adjuster.shutdown()


def get_parallelism(provider: str, model: str) -> int:
    """How many calls this instance may have under way to a model, at least 1."""
    return get_parallelism_adjuster().get_parallelism(provider, model)


def adjust_for_error(provider: str, model: str, error_type: ErrorType) -> None:
    """A call failed with "429", "timeout" or "error". Raises `ValueError` for another type."""
    get_parallelism_adjuster().adjust_for_error(provider, model, error_type)


def attempt_recovery(provider: str, model: str) -> None:
    """Raise the parallelism, where it is due."""
    get_parallelism_adjuster().attempt_recovery(provider, model)


def format_dynamic_parallelism_summary() -> str:
    """How every model stands, for people."""
    return summary_of(get_parallelism_adjuster())


def _become_child() -> None:
    global _adjuster, _making  # its timer does not exist in a forked child, and a thread may have held the lock
    _adjuster, _making = None, threading.Lock()


os.register_at_fork(after_in_child=_become_child)
