"""The conformance suite: what every store ships against.

1. Each law of the design that a store decides is one named check on a fresh store.
2. Every operation of every check runs on the model too, at the same instant, and must be answered alike (`mirror`).
3. A law that needs a clock moved by hand, or several stores on one state, is left out for stores that have none;
   nothing else tells one store from another.

    def open_mine(space, clock):
        return MyStore(folder / space, clock=clock)

    check_store(StoreUnderTest(open_mine))

In a test suite of its own, parametrise over `LAWS` and `ASYNC_LAWS` and call `law.check(under_test)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.testing.conformance import (
    admission,
    asynchronous,
    broadcasts,
    configuration,
    delivery,
    learning,
    lifecycle,
    locking,
    queueing,
    repeats,
    settlement,
    stealing,
    task_keeping,
    task_wakes,
    tasks,
)
from cross_instance.testing.conformance.asynchronous import AsyncLaw, blocking
from cross_instance.testing.conformance.law import AsyncStoreUnderTest, Law, Need, StoreUnderTest
from cross_instance.testing.conformance.learning_storm import learning_storm_law
from cross_instance.testing.conformance.mirror import ConformanceError, Mirror
from cross_instance.testing.conformance.storm import Elapse, Storm, random_operations
from cross_instance.testing.conformance.storming import storm_law
from cross_instance.testing.conformance.task_storm import task_storm_law

if TYPE_CHECKING:
    from collections.abc import Iterable

TASKS = (tasks, stealing, task_keeping, task_wakes)
PERMITS = (admission, queueing, lifecycle, settlement, repeats, configuration, locking, broadcasts, delivery, learning)
THEMES = (*PERMITS, *TASKS)
SEEDS = range(4)

LAWS: tuple[Law, ...] = (
    *(value for theme in THEMES for value in vars(theme).values() if isinstance(value, Law)),
    *(storm_law(seed) for seed in SEEDS),
    *(task_storm_law(seed) for seed in SEEDS),
    *(learning_storm_law(seed) for seed in SEEDS),
)
"""Every law, in the order of the design."""

ASYNC_LAWS: tuple[AsyncLaw, ...] = tuple(value for value in vars(asynchronous).values() if isinstance(value, AsyncLaw))
"""What asynchronous stores promise beyond."""


def check_store(under_test: StoreUnderTest, laws: Iterable[Law] = LAWS) -> tuple[Law, ...]:
    """Hold a kind of store to every law that it can be held to; the laws that were left out.

    Raises `ConformanceError` at the first difference, with the operations that led there.
    """
    left_out = []
    for law in laws:
        if under_test.lacks(law.needs):
            left_out.append(law)
        else:
            law.check(under_test)
    return tuple(left_out)


def check_async_store(under_test: AsyncStoreUnderTest, laws: Iterable[Law] = LAWS) -> tuple[Law, ...]:
    """The same for an asynchronous store, and what only tasks can show."""
    with blocking(under_test) as twin:
        left_out = check_store(twin, laws)
    for law in ASYNC_LAWS:
        law.check(under_test)
    return left_out


__all__ = [
    "ASYNC_LAWS",
    "LAWS",
    "AsyncLaw",
    "AsyncStoreUnderTest",
    "ConformanceError",
    "Elapse",
    "Law",
    "Mirror",
    "Need",
    "StoreUnderTest",
    "Storm",
    "blocking",
    "check_async_store",
    "check_store",
    "random_operations",
]
