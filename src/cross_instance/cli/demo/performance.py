"""One run of the demo: a fresh provider, four fresh processes, a start signal, and the figures at the end."""

from __future__ import annotations

import asyncio
import time
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from cross_instance.cli.demo.figures import run_figures
from cross_instance.cli.demo.processes import started
from cross_instance.cli.demo.scene import PARTS, Ended, Plan, own_files
from cross_instance.testing.provider.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cross_instance.cli.demo.figures import RunFigures
    from cross_instance.cli.demo.processes import Child

    Watch = Callable[[Statistics | None, Mapping[str, Sequence[Ended]]], None]
    """Called a few times a second with what has been seen so far; None before the start signal."""

EVERY = 0.2
"""Seconds between two looks at the provider's figures."""


async def perform(seconds: float, watch: Watch, *, shared: bool) -> RunFigures:
    """Run the four processes for so many seconds, sharing or each by itself. Raises `DemoError`."""
    calls: dict[str, list[Ended]] = {part.name: [] for part in PARTS}
    watch(None, calls)
    with TemporaryDirectory(prefix="cross-instance-demo-", ignore_cleanup_errors=True) as folder:
        _shut_off(Path(folder))
        async with started("provider", "provider") as (provider,):
            url = (await provider.hear()).decode()
            async with started("worker", *calls) as workers:
                await asyncio.gather(*(_brief(worker, url, folder, shared=shared) for worker in workers))
                seen = await _watched(seconds, url, workers, calls, watch)
                finished = {name: tuple(ended) for name, ended in calls.items()}
            return run_figures(seen, await _statistics("GET", url), finished)


def _shut_off(folder: Path) -> None:
    """A configuration of its own keeps those of the folders above out."""
    config = folder / ".pi" / "config.json"
    config.parent.mkdir()
    config.write_text("{}\n")


async def _brief(worker: Child, url: str, folder: str, *, shared: bool) -> None:
    """Tell a worker its plan, and wait until it is ready."""
    place = [part.name for part in PARTS].index(worker.name)
    part, files = PARTS[place], own_files()[place :: len(PARTS)]
    plan = Plan(part.name, part.tasks, shared, f"{url}/v1", folder, files)
    await worker.tell(msgspec.json.encode(plan))
    await worker.hear()


async def _watched(
    seconds: float, url: str, workers: Sequence[Child], calls: dict[str, list[Ended]], watch: Watch
) -> Statistics:
    """Give the start signal and watch until the time is over; what the provider had seen then."""
    await _statistics("DELETE", url)
    end = time.monotonic() + seconds
    for worker in workers:
        await worker.tell(b"go")
    listeners = [asyncio.ensure_future(_listen(worker, calls[worker.name])) for worker in workers]
    try:
        while (left := end - time.monotonic()) > 0:
            watch(await _statistics("GET", url), calls)
            ended, _ = await asyncio.wait(listeners, timeout=min(EVERY, left), return_when=asyncio.FIRST_COMPLETED)
            for listener in ended:
                listener.result()
        return await _statistics("GET", url)
    finally:
        for listener in listeners:
            listener.cancel()


async def _listen(worker: Child, calls: list[Ended]) -> None:
    async for line in worker.lines():
        calls.append(msgspec.json.decode(line, type=Ended))


async def _statistics(method: str, url: str) -> Statistics:
    """What the provider has seen so far, or, with DELETE, forget it."""
    return await asyncio.to_thread(_ask, method, urlsplit(url).netloc)


def _ask(method: str, address: str) -> Statistics:
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request(method, "/_admin/stats")
        return msgspec.json.decode(connection.getresponse().read(), type=Statistics)
    finally:
        connection.close()
