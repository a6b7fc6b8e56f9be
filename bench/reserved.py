"""The processes that priorities and reserves are for: one whose requests come at a steady pace, and such as want all
they can get. Each says "ready", hears for how many seconds to work, and tells the durations of its calls.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from bench.strategies import Calls, sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.strategies import Agent

    Work = Callable[[Calls, list[Agent], float], list[Coroutine[Any, Any, None]]]

CRITICAL = "critical-worker"
RESERVE = 100
"""Requests per minute, as in the user guide: what the critical worker is sure of, and what it wants."""
SETTINGS = {"instances": {CRITICAL: {"priority": 10, "reservedCapacity": RESERVE}}}
TASKS = 10
"""Calls that each background worker has under way or waiting."""


def serve_critical(connection: Connection[Any, Any], folder: Path, url: str, settings: dict[str, Any]) -> None:
    """One instance whose calls come at the pace of its reserve, whether or not earlier ones have been answered."""
    asyncio.run(_serve(connection, folder, url, [CRITICAL], settings, _steadily))


def serve_background(
    connection: Connection[Any, Any], folder: Path, url: str, names: Sequence[str], settings: dict[str, Any]
) -> None:
    """Instances with more to do than they get, in one process: to the account it is the same as one process each."""
    asyncio.run(_serve(connection, folder, url, names, settings, _without_end))


async def _serve(
    connection: Connection[Any, Any],
    folder: Path,
    url: str,
    names: Sequence[str],
    settings: dict[str, Any],
    work: Work,
) -> None:
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(sharing(folder, url, name, **settings)) for name in names]
        for agent in agents:
            await agent.client.models.list()
        connection.send("ready")
        seconds = await asyncio.to_thread(connection.recv)
        if seconds is not None:
            calls = Calls()
            connection.send(await calls.during(seconds, work(calls, agents, seconds)))
            await asyncio.to_thread(connection.recv)


def _without_end(calls: Calls, agents: list[Agent], _: float) -> list[Coroutine[Any, Any, None]]:
    return [calls.again(agent, place * TASKS + number) for place, agent in enumerate(agents) for number in range(TASKS)]


def _steadily(calls: Calls, agents: list[Agent], seconds: float) -> list[Coroutine[Any, Any, None]]:
    async def one(number: int) -> None:
        await asyncio.sleep(60 * number / RESERVE)
        await calls.once(agents[0], number)

    return [one(number) for number in range(wanted(seconds))]


def wanted(seconds: float) -> int:
    """The calls that the critical worker makes in so many seconds: the last one half a step before the end."""
    return max(1, round(RESERVE * seconds / 60))
