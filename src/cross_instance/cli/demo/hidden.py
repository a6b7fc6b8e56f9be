"""The hidden part of the demo: three processes find a limit that nobody has told them, in the store they share.

1. The provider tells nothing but 429s: no header, no Retry-After. The processes know its address, and begin with
   OpenAI's preset.
2. What is shown is the provider's own count, and what the store has learned; nobody asks a process what it believes.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click
import msgspec

from cross_instance.cli.demo.performance import EVERY, listen, statistics_of
from cross_instance.cli.demo.scene import (
    FOUND,
    HIDDEN_BURST,
    HIDDEN_PARTS,
    HIDDEN_PER_MINUTE,
    Ended,
    Part,
    Plan,
    own_files,
)
from cross_instance.cli.processes import brief_all, started, tell_all
from cross_instance.config import load_settings
from cross_instance.explaining import explanations, text_of as explained_text
from cross_instance.rules.operations import LearnedState, Snapshot, World
from cross_instance.stores.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cross_instance.cli.processes import Child

LINE_EVERY = 5.0
"""Seconds between the lines of the table."""


class Moment(msgspec.Struct, frozen=True):
    """What had been seen `at` seconds: requests let in, 429s, and the learned rate and estimate per minute."""

    at: float
    accepted: int
    rejected: int
    allowed: float
    estimate: float


class Search(msgspec.Struct, frozen=True):
    """The run: its `limit`, after how many seconds it was `found` (None: it was not), and what was learned."""

    limit: int
    seconds: float
    found: float | None
    moments: tuple[Moment, ...]
    learned: str


async def find(
    workers: Sequence[Child], seconds: float, folder: Path, tell: Callable[[Moment], object] = lambda _: None
) -> Search:
    """Have three processes work against a hidden limit; `tell` hears how it goes. Raises `DemoError`."""
    async with started("demo.hidden_provider", "provider") as (provider,):
        url = (await provider.hear()).decode()
        await brief_all(workers, [_plan(part, url, str(folder)) for part in HIDDEN_PARTS])
        return await _watched(workers, seconds, url, folder, tell)


def _plan(part: Part, url: str, folder: str) -> bytes:
    return msgspec.json.encode(Plan(part.name, part.tasks, True, f"{url}/v1", folder, own_files(), hidden=True))


async def _watched(
    workers: Sequence[Child], seconds: float, url: str, folder: Path, tell: Callable[[Moment], object]
) -> Search:
    """Start the workers, look at provider and store until the time is over, and stop them."""
    await statistics_of("DELETE", url)
    begun, calls = time.monotonic(), list[Ended]()
    moments, found = list[Moment](), None
    store = EmbeddedStore(load_settings(folder, environ={}, home=folder).runtime_dir)
    await tell_all(workers)
    listeners = [asyncio.ensure_future(listen(worker, calls)) for worker in workers]
    try:
        while (at := time.monotonic() - begun) < seconds:
            moment = await _moment(store, url, at)
            if found is None and abs(moment.estimate - HIDDEN_PER_MINUTE) <= FOUND * HIDDEN_PER_MINUTE:
                found = round(at, 1)
            if not moments or at - moments[-1].at >= LINE_EVERY:
                moments.append(moment)
                tell(moment)
            early, _ = await asyncio.wait(listeners, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
            for listener in early:
                listener.result()
        world = await asyncio.to_thread(store.run, Snapshot())
        moments.append(await _moment(store, url, seconds))
        await tell_all(workers)
        await asyncio.gather(*listeners)
    finally:
        for listener in listeners:
            listener.cancel()
        store.close()
    return Search(HIDDEN_PER_MINUTE, seconds, found, tuple(moments), _told(world))


async def _moment(store: EmbeddedStore, url: str, at: float) -> Moment:
    seen = await statistics_of("GET", url)
    learned = _learned(await asyncio.to_thread(store.run, Snapshot(counts=False))) or LearnedState()
    return Moment(
        round(at, 1), seen.total.accepted, seen.total.rejected, learned.rate / 1_000, learned.estimate / 1_000
    )


def _learned(world: World) -> LearnedState | None:
    return next((node.learned for node in world.nodes if node.node.startswith("openai/")), None)


def _told(world: World) -> str:
    return "\n\n".join(explained_text(one) for one in explanations(world, "openai"))


def show(moment: Moment) -> None:
    """How it goes, on stderr."""
    click.echo(_line(moment), err=True)


def _line(moment: Moment) -> str:
    estimate = f"{moment.estimate:,.0f}/min" if moment.estimate else "unknown"
    return (
        f"{moment.at:4.0f} s  {moment.accepted:5,} answered  {moment.rejected:3,} 429s"
        f"  {moment.allowed:5,.0f}/min allowed  limit {estimate}"
    )


def text_of(search: Search) -> str:
    """The run for people."""
    last = search.moments[-1]
    share = last.rejected / max(1, last.accepted + last.rejected)
    most = search.limit * search.seconds / 60 + HIDDEN_BURST
    count = f"{last.rejected} of {last.accepted + last.rejected:,} requests met 429 ({share:.1%})"
    found = f"found after {search.found:.0f} s" if search.found is not None else "not found"
    return "\n".join(
        (
            *map(_line, search.moments),
            "",
            f"The hidden limit of {search.limit}/min was {found}; {count}, {last.accepted / most:.0%} of it used.",
            "",
            search.learned,
        )
    )


def json_of(search: Search) -> str:
    """The run for programs."""
    return msgspec.json.format(msgspec.json.encode(search), indent=2).decode()
