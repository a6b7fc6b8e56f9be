"""Waiting while the store is lost and comes back: the embedded store, behind a gate that somebody keeps shut."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from typing import TYPE_CHECKING

from tests.runtime.doubles import one_at_a_time, settings_in

from cross_instance import AsyncRuntime, Runtime, events as kinds
from cross_instance.rules.operations import Snapshot
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.stores.folder import GATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cross_instance.events import Event

PATIENCE = 1.0
"""Seconds after which the gate counts as stuck; who lives is never kept from the processor for so long."""


@contextmanager
def gate_shut(folder: Path) -> Iterator[None]:
    with (folder / GATE).open("rb+") as gate:
        flock(gate, LOCK_EX)
        yield


async def until_true(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0)


def test_tasks_wait_for_the_share_and_go_on_in_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "runtime"

    async def scenario() -> None:
        stores = EmbeddedStore(folder, patience=PATIENCE), AsyncEmbeddedStore(folder, patience=PATIENCE)
        told: asyncio.Queue[Event] = asyncio.Queue()

        async def until(kind: str) -> None:
            while (await told.get()).kind != kind:
                pass

        async def take(order: list[str], name: str) -> None:
            async with runtime.permit("acme", "m-1"):
                order.append(name)

        settings, order = one_at_a_time(tmp_path), list[str]()
        async with AsyncRuntime("one", store=stores[0], async_store=stores[1], settings=settings) as runtime:
            runtime.subscribe(told.put)
            held = await runtime.permit("acme", "m-1").acquire()
            await runtime.status()
            before = asyncio.create_task(take(order, "asked before"))
            await until_true(lambda: runtime._membership.waiters)
            with gate_shut(folder):
                await until(kinds.STORE_DEGRADED)
                during = asyncio.create_task(take(order, "asked meanwhile"))
                await asyncio.sleep(0)
                assert order == [], "a call under way holds the share's only slot"
                await held.close()
                await before
                await during
                assert sorted(order) == ["asked before", "asked meanwhile"]
                held = await runtime.permit("acme", "m-1").acquire()
                after = asyncio.create_task(take(order, "goes on"))
                await until_true(lambda: runtime._membership.waiters)
            await until(kinds.STORE_RECOVERED)
            await held.close()
            await after
            assert not any(node.waiting for node in (await runtime.run(Snapshot())).nodes)
        stores[0].close()
        await stores[1].close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_short_heartbeat_timeout_leaves_time_for_the_share(tmp_path: Path) -> None:
    """A gate that stays shut is noticed in a quarter of it."""
    settings = settings_in(
        tmp_path,
        providers={"acme": {"requestsPerMinute": 60_000}},
        heartbeat_interval_ms=400,
        heartbeat_timeout_ms=6_000,
    )
    with Runtime("one", settings=settings) as runtime:
        runtime.permit("acme", "m-1").acquire().close()
        assert runtime.status().world is not None
        with gate_shut(settings.runtime_dir):
            runtime.permit("acme", "m-1").acquire().close()
            assert runtime._membership.fallback.outage is not None
            assert runtime._membership.fallback.loans
