"""Where the tests of tasks play: a runtime at a store whose time passes only by waiting."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.runtime.doubles import AsyncTimeline, Timeline, settings_in

from cross_instance import AsyncRuntime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


class Stage:
    """One store and the runtimes at it."""

    def __init__(self, folder: Path) -> None:
        self.store = Timeline()
        self.twin = AsyncTimeline(self.store)
        self.settings = settings_in(folder, providers={"acme": {"requestsPerMinute": 60_000}})

    def runtime(self, name: str | None) -> AsyncRuntime:
        return AsyncRuntime(name, store=self.store, async_store=self.twin, settings=self.settings)

    def told(self, kind: str) -> list[Any]:
        """The operations of a type that the store decided, in order."""
        return [op for op, _ in self.store.ops if type(op).__name__ == kind]


def play(folder: Path, scenario: Callable[[Stage, AsyncRuntime], Awaitable[None]]) -> Stage:
    """Play a scenario with one runtime, "w"."""
    stage = Stage(folder)

    async def main() -> None:
        async with asyncio.timeout(30), stage.runtime("w") as runtime:
            await scenario(stage, runtime)

    asyncio.run(main())
    return stage


@asynccontextmanager
async def working(runtime: AsyncRuntime, concurrency: int = 4, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Have a runtime work meanwhile, and end well."""
    work = asyncio.ensure_future(runtime.work(concurrency, signals=(), **options))
    try:
        yield work
        runtime.drain()
        await work
    finally:
        work.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Let the others go on until it is so."""
    while not condition():  # noqa: ASYNC110  # the condition is anyone's
        await asyncio.sleep(0)
