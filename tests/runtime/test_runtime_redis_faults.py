"""Every fault of a server that lasts, as a runtime sees it: it goes on at its share, says so, and comes back alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.looking import DEADLINE, node, until
from tests.runtime.doubles import settings_in
from tests.runtime.program_run import UNHURRIED
from tests.stores.redis_proxy import Proxy
from tests.stores.redis_server import Server, free_port, serving

from cross_instance import AsyncRuntime, Permit, Runtime, events as kinds
from cross_instance.events import Event
from cross_instance.rules.operations import Snapshot
from cross_instance.stores.redis.address import Address
from cross_instance.stores.redis.shared import Shared
from cross_instance.stores.redis.store import RedisStore

RATE, BURST = 100, 100
"""Requests per second, and at once."""
PROVIDERS = {"acme": {"requestsPerMinute": 60 * RATE, "burst": BURST}}
PATIENT = ("patience=60", "timeout=30", "connect_timeout=30")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@contextmanager
def killed(server: Server, _: Proxy) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def hung(server: Server, _: Proxy) -> Iterator[None]:
    with server.stopped():
        yield


@contextmanager
def cut_off(server: Server, proxy: Proxy) -> Iterator[None]:
    proxy.lead_to(free_port())
    yield
    proxy.lead_to(server.port)


@contextmanager
def full(server: Server, _: Proxy) -> Iterator[None]:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def read_only(server: Server, _: Proxy) -> Iterator[None]:
    """A replica of a server that is not there: it keeps what it has, and takes nothing more."""
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def another_password(server: Server, proxy: Proxy) -> Iterator[None]:
    with server.client() as client:
        client.config_set("requirepass", "new")
        proxy.cut()
        yield
        client.config_set("requirepass", "")


@contextmanager
def other_keys(server: Server, _: Proxy) -> Iterator[None]:
    with server.client() as client:
        client.rename("{cir:v2:default}:values", "aside")
        client.set("{cir:v2:default}:values", "somebody's")
        yield
        client.rename("aside", "{cir:v2:default}:values")


@contextmanager
def impatient(runtime: Runtime | AsyncRuntime, proxy: Proxy) -> Iterator[None]:
    """Calls are given up soon, while they are to fail: at any other time a slow machine would be a fault of its own."""
    store = runtime._membership.store._store
    assert isinstance(store, RedisStore)
    shared, patient = store._shared, store._shared.address
    _set_patience(shared, replace(patient, patience=0.3, timeout=0.2, connect_timeout=0.2))
    proxy.cut()  # connections wait for as long as they were told when they were made
    yield
    _set_patience(shared, patient)


def _set_patience(shared: Shared, address: Address) -> None:
    shared.address = shared.servers.address = address
    shared.patience = address.patience


Fault = Callable[[Server, Proxy], AbstractContextManager[None]]
FAULTS: tuple[Fault, ...] = (killed, hung, cut_off, full, read_only, another_password, other_keys)
MEANWHILE = 25
"""Permits that are taken while a fault lasts."""


def take(runtime: Runtime) -> Permit:
    return runtime.permit("acme", "m-1", timeout=DEADLINE).acquire()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_that_lasts_is_bridged_by_the_share_and_charged_afterwards(
    server: Server, tmp_path: Path, fault: Fault
) -> None:
    told: list[Event] = []
    with Proxy(server.port) as proxy:
        settings = settings_in(tmp_path, store=proxy.url(*PATIENT), providers=PROVIDERS, **UNHURRIED)
        with Runtime("one", settings=settings) as runtime:
            runtime.subscribe(told.append)
            held = take(runtime)
            assert runtime.status().degraded is None
            with fault(server, proxy), impatient(runtime, proxy):
                broken = time.monotonic()
                take(runtime).close()
                noticed = time.monotonic()
                for _ in range(MEANWHILE - 1):
                    take(runtime).close()
                assert runtime.status().degraded is not None
                held.close()
            mended = time.monotonic()
            until(lambda: runtime.status().degraded is None and len(told) == 2)
            recovered = time.monotonic()
            until(lambda: node(runtime).held == 0)
            assert node(runtime).used >= 1 + MEANWHILE, "all of them are charged"
            assert [event.kind for event in told] == [kinds.STORE_DEGRADED, kinds.STORE_RECOVERED]
            assert told[1].fields["permits"] == MEANWHILE
            assert server.connections() <= 4
            print(
                f"{fault.__name__}: the first permit from the share came after {noticed - broken:.2f} s, "
                f"it was over {recovered - mended:.2f} s after its end"
            )
    until(lambda: server.connections() == 0)


@pytest.mark.parametrize("fault", [killed, hung, full], ids=lambda fault: fault.__name__)
def test_the_tasks_of_a_loop_go_on_at_the_share_too(server: Server, tmp_path: Path, fault: Fault) -> None:
    async def take_one(runtime: AsyncRuntime) -> None:
        async with runtime.permit("acme", "m-1", timeout=DEADLINE):
            pass

    async def main(proxy: Proxy) -> None:
        settings = settings_in(tmp_path, store=proxy.url(*PATIENT), providers=PROVIDERS, **UNHURRIED)
        async with AsyncRuntime("one", settings=settings) as runtime, asyncio.timeout(DEADLINE):
            await take_one(runtime)
            assert (await runtime.status()).degraded is None
            with fault(server, proxy), impatient(runtime, proxy):
                await asyncio.gather(*(take_one(runtime) for _ in range(MEANWHILE)))
                assert runtime._membership.fallback.outage is not None
            while runtime._membership.fallback.is_busy:  # noqa: ASYNC110  # the heartbeat thread sees to it
                await asyncio.sleep(0)
            (node,) = (node for node in (await runtime.run(Snapshot())).nodes if node.node == "acme/default")
            assert node.held == 0
            assert node.used >= 1 + MEANWHILE, "all of them are charged; some were before they were given back"
            assert server.connections() <= 4

    with Proxy(server.port) as proxy:
        asyncio.run(main(proxy))
    until(lambda: server.connections() == 0)
