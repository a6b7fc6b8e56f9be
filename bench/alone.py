"""What a fresh process measures of itself: `python -m bench.alone WHAT FOLDER COUNT` prints it.

`join`: milliseconds until an instance has joined. `ours`, `aiolimiter`, `tasks`: the megabytes that so many waiting
tasks take, for a permit, for aiolimiter's, or for nothing but a future.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.ours import MODEL, PROVIDER, settings_in
from bench.slots import ONE_SLOT
from cross_instance import AsyncRuntime, Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TO_WAIT = 0.5
"""Seconds between looks whether all have come to wait; the last look finds them idle."""


def join(folder: Path, _: int) -> float:
    settings = settings_in(folder, **ONE_SLOT)
    begun = time.monotonic_ns()
    with Runtime(settings=settings):
        return (time.monotonic_ns() - begun) / 1e6


async def ours(folder: Path, count: int) -> float:
    async with AsyncRuntime(settings=settings_in(folder, **ONE_SLOT)) as runtime:

        async def waiting() -> int:
            world = (await runtime.status()).world
            return 0 if world is None else sum(node.waiting for node in world.nodes if node.node.startswith(PROVIDER))

        async with runtime.permit(PROVIDER, MODEL):
            return await _growth(count, lambda: runtime.permit(PROVIDER, MODEL).acquire(), waiting)


async def aiolimiter(_: Path, count: int) -> float:
    limiter: Any = import_module("aiolimiter").AsyncLimiter(1, 3600)
    await limiter.acquire()
    return await _growth(count, limiter.acquire, _soon(count))


async def tasks(_: Path, count: int) -> float:
    loop = asyncio.get_running_loop()
    return await _growth(count, lambda: _forever(loop.create_future()), _soon(count))


async def _forever(future: asyncio.Future[None]) -> None:
    await future


def _soon(count: int) -> Callable[[], Awaitable[int]]:
    """For waiters that cannot be counted: all wait once the loop has come round to each."""

    async def waiting() -> int:
        await asyncio.sleep(0)
        return count

    return waiting


async def _growth(count: int, wait: Callable[[], Awaitable[object]], waiting: Callable[[], Awaitable[int]]) -> float:
    """The megabytes by which the process grows while so many tasks come to wait."""
    before = _resident()
    waiters = [asyncio.ensure_future(wait()) for _ in range(count)]
    while await waiting() < count:  # noqa: ASYNC110  # nobody tells when the store has them all
        await asyncio.sleep(TO_WAIT)
    grown = _resident() - before
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    return grown


def _resident() -> float:
    """Megabytes of this process in memory."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], check=True, capture_output=True, text=True)
    return int(told.stdout) * 1024 / 1e6


def main(what: str, folder: str, count: str) -> None:
    if what == "join":
        figure = join(Path(folder), int(count))
    else:
        measure = {"ours": ours, "aiolimiter": aiolimiter, "tasks": tasks}[what]
        figure = asyncio.run(measure(Path(folder), int(count)))
    print(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
