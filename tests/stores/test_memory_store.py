"""The store in a process's own memory keeps the laws of every store, and some of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cross_instance import StoreUnavailable
from cross_instance.rules.operations import Instant, Join, Joined, Snapshot
from cross_instance.stores.memory import MemoryStore
from cross_instance.testing import FakeClock
from cross_instance.testing.conformance import LAWS, Law, StoreUnderTest

if TYPE_CHECKING:
    from collections.abc import Callable

JOIN = Join(instance_id="one", nonce="x", pid=1, machine="here", host="here")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_it_keeps_the_law(law: Law) -> None:
    store = StoreUnderTest(lambda _, clock: MemoryStore(FakeClock() if clock is None else clock), shares=False)
    if store.lacks(law.needs):
        pytest.skip(f"needs {', '.join(need.value for need in law.needs)}")
    law.check(store)


def test_a_clock_that_runs_back_stands_still() -> None:
    at = [Instant(1_000, 5), Instant(400, 6), Instant(1_001, 7)]
    store = MemoryStore(lambda: at.pop(0))
    assert [store.run(Snapshot()).at for _ in range(3)] == [Instant(1_000, 5), Instant(1_000, 6), Instant(1_001, 7)]


def test_a_call_from_inside_is_refused_and_changes_nothing() -> None:
    refused: list[str] = []

    def clock() -> Instant:
        if interrupt:
            interrupt.pop()
            with pytest.raises(StoreUnavailable) as error:
                store.run(JOIN)
            refused.append(str(error.value))
        return Instant(1, 1)

    interrupt: list[Callable[[], None]] = [lambda: None]
    store = MemoryStore(clock)
    assert isinstance(store.run(JOIN), Joined)
    assert "from inside one of its operations" in refused[0]
    assert len(store.run(Snapshot()).instances) == 1
