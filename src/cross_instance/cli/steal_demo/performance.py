"""One run of the steal demo: a fresh store, a start signal, and a look at the tasks until all of them are done."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cross_instance.cli.looking import perform as ask
from cross_instance.cli.processes import OVER, brief_all, tell_all
from cross_instance.cli.steal_demo.figures import run_figures
from cross_instance.cli.steal_demo.scene import LADEN, WEIGHTS, Plan, durations
from cross_instance.config import load_settings
from cross_instance.stores.urls import open_store
from cross_instance.tasks.flows import counting, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cross_instance.cli.processes import Child
    from cross_instance.cli.steal_demo.figures import RunFigures
    from cross_instance.config import Settings
    from cross_instance.stores.base import Store

    Watch = Callable[[RunFigures | None], None]
    """Called a few times a second with what has been done so far; None before the start signal."""

EVERY = 0.1
"""Seconds between two looks at the tasks."""


def settings_in(folder: str | Path) -> Settings:
    """Settings of the demo alone."""
    home = Path(folder)
    return load_settings(home, environ={}, home=home, runtime_dir=str(home / "runtime"))


async def perform(workers: Sequence[Child], seconds: float, folder: Path, watch: Watch, *, steal: bool) -> RunFigures:
    """Have the three processes do all tasks in a folder of their own, stealing or not. Raises `DemoError`."""
    watch(None)
    plans = [
        Plan(worker.name, str(folder), steal, durations(seconds) if worker.name == LADEN else ()) for worker in workers
    ]
    await brief_all(workers, [msgspec.json.encode(plan) for plan in plans])
    settings = settings_in(folder)
    store = open_store(str(settings.runtime_dir), settings)
    try:
        return await _watched(workers, store, watch)
    finally:
        store.close()


async def _watched(workers: Sequence[Child], store: Store, watch: Watch) -> RunFigures:
    """Start the workers, watch until everything is done, and stop them."""
    begun = time.time()
    await tell_all(workers)
    listeners = [asyncio.ensure_future(_listen(worker)) for worker in workers]
    try:
        while (seen := _look(store, begun)).tasks < len(WEIGHTS):
            watch(seen)
            early, _ = await asyncio.wait(listeners, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
            for listener in early:
                listener.result()
        await tell_all(workers)
        await asyncio.gather(*listeners)
    finally:
        for listener in listeners:
            listener.cancel()
    return seen


def _look(store: Store, begun: float) -> RunFigures:
    return run_figures(
        ask(store, listing(None, None, None, len(WEIGHTS))), ask(store, counting()).steals, begun, time.time()
    )


async def _listen(worker: Child) -> None:
    """Wait until the worker's run is over."""
    async for line in worker.lines():
        if line.strip() == OVER:
            return
