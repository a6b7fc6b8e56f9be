"""The asynchronous twin: the same laws through a loop, and what only tasks can show."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cross_instance.rules.operations import AccountSpec, Acquire, Configure, Join, Settle, Snapshot
from cross_instance.testing.conformance.contention import PATIENCE, Gauge, drive_async, work
from cross_instance.testing.conformance.law import AsyncStoreUnderTest, StoreUnderTest, new_space
from cross_instance.testing.conformance.scene import ACCOUNT, require, slots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from typing import Any

    from cross_instance.rules.operations import Operation, Result, Wake
    from cross_instance.stores.base import AsyncStore, Permit
    from cross_instance.testing.clock import FakeClock

    R = TypeVar("R", bound=Result)

T = TypeVar("T")


class Blocking:
    """An asynchronous store as a synchronous one: each call runs the loop until it has the answer."""

    def __init__(self, runner: asyncio.Runner, under: AsyncStoreUnderTest, space: str, clock: FakeClock | None) -> None:
        self._runner = runner
        self._store = runner.run(_opened(under, space, clock))

    def run(self, op: Operation[R], /) -> R:
        """See `Store`."""
        return self._runner.run(_awaited(self._store.run(op)))

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """See `Store`."""
        return self._runner.run(_awaited(self._store.wait(permit, timeout)))

    def forget(self, permit: Permit, /) -> None:
        """See `Store`."""
        self._store.forget(permit)

    def now(self) -> int:
        """See `Store`."""
        return self._store.now()

    def close(self) -> None:
        """See `Store`."""
        self._runner.run(_awaited(self._store.close()))


async def _opened(under: AsyncStoreUnderTest, space: str, clock: FakeClock | None) -> AsyncStore:
    return under.open(space, clock)


async def _awaited(call: Awaitable[T]) -> T:
    return await call


@contextmanager
def blocking(under: AsyncStoreUnderTest) -> Iterator[StoreUnderTest]:
    """The asynchronous stores as the synchronous laws want them, on an event loop that lives as long."""
    with asyncio.Runner() as runner:
        yield StoreUnderTest(
            lambda space, clock: Blocking(runner, under, space, clock),
            under.takes_clock,
            shares=False,
            learns=under.learns,
        )


@dataclass(frozen=True)
class AsyncLaw:
    """A promise that only tasks can put to the test."""

    name: str
    sentence: str
    body: Callable[[AsyncStore], Coroutine[Any, Any, None]]

    def check(self, under: AsyncStoreUnderTest) -> None:
        """Hold one kind of asynchronous store to this law. Raises `ConformanceError`."""
        asyncio.run(self._on_a_fresh_store(under))

    async def _on_a_fresh_store(self, under: AsyncStoreUnderTest) -> None:
        store = under.open(new_space(self.name), under.clock())
        try:
            await self.body(store)
        finally:
            await store.close()

    def __repr__(self) -> str:
        return f"<law {self.name}>"


def async_law(body: Callable[[AsyncStore], Coroutine[Any, Any, None]]) -> AsyncLaw:
    """Make a law of a coroutine function of a fresh store."""
    return AsyncLaw(body.__name__, (body.__doc__ or "").partition("\n")[0], body)


async def held_and_waited(store: AsyncStore) -> tuple[Permit, Permit]:
    """A permit that is held and one that waits for its only slot."""
    joined = await store.run(Join("a", "nonce", 1, "here", "here.example"))
    incarnation = getattr(joined, "incarnation", 0)
    configured = await store.run(Configure(incarnation, ACCOUNT, AccountSpec((slots(1),))))
    for seq in (1, 2):
        await store.run(Acquire(incarnation, seq, ACCOUNT, revision=getattr(configured, "revision", 0)))
    return (incarnation, 1), (incarnation, 2)


@async_law
async def tasks_take_turns(store: AsyncStore) -> None:
    """Many tasks never exceed the slots, and every one of their waiters is served."""
    gauge = Gauge()
    await asyncio.gather(*(drive_async(work(f"worker-{number}", 20, 2, gauge), store) for number in range(6)))
    require(gauge.most <= 2, f"{gauge.most} were inside at once, of 2")
    require(gauge.passed == 120, f"{gauge.passed} turns were taken, of 120")


@async_law
async def waiting_blocks_nobody(store: AsyncStore) -> None:
    """While one task waits others go on, and one of them wakes it."""
    held, waiter = await held_and_waited(store)
    waiting = asyncio.create_task(_awaited(store.wait(waiter, PATIENCE)))
    await asyncio.sleep(0)
    await store.run(Snapshot())
    require(not waiting.done(), "nothing has woken it yet")
    await store.run(Settle(*held))
    wake = await waiting
    require(wake is not None and (wake.incarnation, wake.seq) == waiter, f"it was woken: {wake}")


@async_law
async def a_cancelled_wait_loses_nothing(store: AsyncStore) -> None:
    """A wait may be cancelled; the wake that comes afterwards is there for the next one."""
    held, waiter = await held_and_waited(store)
    waiting = asyncio.create_task(_awaited(store.wait(waiter, PATIENCE)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    require(waiting.cancelled(), "it was cancelled")
    await store.run(Settle(*held))
    wake = await store.wait(waiter, PATIENCE)
    require(wake is not None and (wake.incarnation, wake.seq) == waiter, f"its wake was kept: {wake}")


@async_law
async def a_cancelled_operation_harms_nobody(store: AsyncStore) -> None:
    """An operation that is cancelled while it runs has happened or not; sent again it gets its answer."""
    held, waiter = await held_and_waited(store)
    settling = asyncio.create_task(_awaited(store.run(Settle(*held))))
    await asyncio.sleep(0)
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    await store.run(Settle(*held))
    world = await store.run(Snapshot())
    node = next(node for node in world.nodes if node.node == ACCOUNT)
    require((node.held, node.waiting) == (1, 0), f"one settlement, one grant to {waiter}: {node}")
