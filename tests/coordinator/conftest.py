"""Coordinators on one store whose clock is set by hand, in memory and on a real server; each test has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.doubles import settings_in
from tests.stores.redis_fixtures import server, shared_server
from tests.stores.redis_server import Server, open_redis

from cross_instance.coordinator import Coordinator
from cross_instance.stores.base import Store
from cross_instance.stores.memory import MemoryStore
from cross_instance.testing import FakeClock

__all__ = ["clock", "join", "server", "shared_server", "store"]

Join = Callable[..., Coordinator]
UNHURRIED = {"heartbeat_interval_ms": 60_000, "heartbeat_timeout_ms": 120_000}
"""No beat comes within a test, but those that it sends."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    real: Server = request.getfixturevalue("server")
    with closing(open_redis(real.socket_url(tmp_path.name), clock)) as store:
        yield store


@pytest.fixture
def join(tmp_path: Path, store: Store) -> Iterator[Join]:
    """`join("a")` registers an instance; keyword arguments are settings."""
    with ExitStack() as stack:

        def made(name: str, **settings: Any) -> Coordinator:
            coordinator = Coordinator(name, store=store, settings=settings_in(tmp_path, **UNHURRIED | settings))
            coordinator.register_instance(f"session of {name}", tmp_path)
            stack.callback(coordinator.unregister_instance)
            return coordinator

        yield made
