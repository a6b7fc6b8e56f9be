"""One run of the demo: a fresh provider, a start signal, a stop signal, and the figures in between."""

from __future__ import annotations

import asyncio
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from cross_instance.cli.demo.figures import Seen, run_figures
from cross_instance.cli.demo.scene import PARTS, Ended, Plan, own_files
from cross_instance.cli.processes import OVER, brief_all, started, tell_all
from cross_instance.testing.provider.statistics import Record, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cross_instance.cli.demo.figures import RunFigures
    from cross_instance.cli.processes import Child

    Watch = Callable[[Statistics | None, Mapping[str, Sequence[Ended]]], None]
    """Called a few times a second with what has been seen so far; None before the start signal."""

T = TypeVar("T")

EVERY = 0.2
"""Seconds between two looks at the provider's figures."""


async def perform(workers: Sequence[Child], seconds: float, folder: Path, watch: Watch, *, shared: bool) -> RunFigures:
    """Have the four processes work for so many seconds, sharing or each by itself. Raises `DemoError`."""
    calls: dict[str, list[Ended]] = {worker.name: [] for worker in workers}
    watch(None, calls)
    async with started("demo.provider", "provider") as (provider,):
        url = (await provider.hear()).decode()
        await brief_all(workers, [_plan(worker.name, url, str(folder), shared=shared) for worker in workers])
        seen, ended = await _watched(seconds, url, workers, calls, watch)
        return run_figures(seen, await statistics_of("GET", url), ended)


def _plan(name: str, url: str, folder: str, *, shared: bool) -> bytes:
    place = [part.name for part in PARTS].index(name)
    part, files = PARTS[place], own_files()[place :: len(PARTS)]
    return msgspec.json.encode(Plan(part.name, part.tasks, shared, f"{url}/v1", folder, files))


async def _watched(
    seconds: float, url: str, workers: Sequence[Child], calls: dict[str, list[Ended]], watch: Watch
) -> tuple[Seen, dict[str, tuple[Ended, ...]]]:
    """Start the workers, watch until the time is over, and stop them; what provider and workers had seen then."""
    await statistics_of("DELETE", url)
    end = time.monotonic() + seconds
    await tell_all(workers)
    listeners = [asyncio.ensure_future(listen(worker, calls[worker.name])) for worker in workers]
    try:
        while (left := end - time.monotonic()) > 0:
            watch(await statistics_of("GET", url), calls)
            early, _ = await asyncio.wait(listeners, timeout=min(EVERY, left), return_when=asyncio.FIRST_COMPLETED)
            for listener in early:
                listener.result()
        statistics = await statistics_of("GET", url)
        ended = {name: tuple(of_one) for name, of_one in calls.items()}
        await tell_all(workers)
        await asyncio.gather(*listeners)
    finally:
        for listener in listeners:
            listener.cancel()
    return Seen(statistics, statistics.elapsed - await _first_request(url)), ended


async def listen(worker: Child, calls: list[Ended]) -> None:
    """Collect calls until the worker's run is over."""
    async for line in worker.lines():
        if line.strip() == OVER:
            return
        calls.append(msgspec.json.decode(line, type=Ended))


async def statistics_of(method: str, url: str) -> Statistics:
    """What the provider has seen so far, or, with DELETE, forget it."""
    return await asyncio.to_thread(_ask, method, url, "stats", Statistics)


async def _first_request(url: str) -> float:
    """When the first request of this run arrived, in seconds from the start signal."""
    journal = await asyncio.to_thread(_ask, "GET", url, "journal", tuple[Record, ...])
    return min((record.at for record in journal), default=0.0)


def _ask(method: str, url: str, what: str, form: type[T]) -> T:
    """Ask the provider's admin endpoint."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, f"/_admin/{what}")
        return msgspec.json.decode(connection.getresponse().read(), type=form)
    finally:
        connection.close()
