"""Coordinators on one store whose clock is set by hand; each test has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.doubles import settings_in

from cross_instance.coordinator import Coordinator
from cross_instance.stores.memory import MemoryStore
from cross_instance.testing import FakeClock

Join = Callable[..., Coordinator]
UNHURRIED = {"heartbeat_interval_ms": 60_000, "heartbeat_timeout_ms": 120_000}
"""No beat comes within a test, but those that it sends."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def join(tmp_path: Path, store: MemoryStore) -> Iterator[Join]:
    """`join("a")` registers an instance; keyword arguments are settings."""
    with ExitStack() as stack:

        def made(name: str, **settings: Any) -> Coordinator:
            coordinator = Coordinator(name, store=store, settings=settings_in(tmp_path, **UNHURRIED | settings))
            coordinator.register_instance(f"session of {name}", tmp_path)
            stack.callback(coordinator.unregister_instance)
            return coordinator

        yield made
