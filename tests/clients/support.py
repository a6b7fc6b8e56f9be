"""What the clients' tests share: a runtime of either kind, with the SDKs on each HTTP library they accept.

Every scenario is written once, as a coroutine over a `Side`: the synchronous parts answer at once, the asynchronous
ones are awaited; `told` and `each` make the difference invisible.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cross_instance.rules.operations import Kind, LimitState, NodeState, Snapshot, World
from cross_instance.runtime import AsyncRuntime, Runtime
from cross_instance.testing.provider import ProviderServer

PATIENCE = 60.0
"""Seconds for a call that says nothing else: longer than anything takes that is not broken."""
LIBRARIES = tuple(library for library in ("httpx2", "httpx") if find_spec(library) is not None)


def _major(sdk: str) -> int:
    """The major version of an SDK; -1 where this environment is without it."""
    try:
        return int(version(sdk).partition(".")[0])
    except PackageNotFoundError:
        return -1


CURRENT = _major("openai") >= 3
"""Whether this environment has the SDKs' current major versions; otherwise it has earlier ones."""

SDKS = {
    "openai": LIBRARIES if CURRENT else ("httpx",) if _major("openai") >= 0 else (),
    "anthropic": ("httpx2",) if _major("anthropic") >= 1 else ("httpx",),
    "gemini": LIBRARIES if CURRENT else (),
}
"""The HTTP libraries whose clients each SDK takes, as far as they are here."""


async def told(answer: Any) -> Any:
    """The answer, whether it is to be awaited or not."""
    return await answer if inspect.isawaitable(answer) else answer


def at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """The answer of a coroutine that has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


async def each(stream: Any) -> AsyncIterator[Any]:
    """The items of a stream of either kind."""
    stream = await told(stream)
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


class Side:
    """A runtime of one kind with clients of one HTTP library."""

    def __init__(self, runtime: Any, library: str, *, is_async: bool) -> None:
        self.runtime = runtime
        self.library = library
        self.http: Any = import_module(library)
        self.is_async = is_async
        self._clients: list[Any] = []

    def http_client(self, provider: str | None = None, **options: Any) -> Any:
        client = self.runtime.http_client(provider, self.library, **{"timeout": PATIENCE} | options)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close every client that was made."""
        for client in self._clients:
            await told(client.aclose() if self.is_async else client.close())

    def transport(self, handle: Callable[[Any], Any]) -> Any:
        """The library's own transport that answers with what `handle`, a function or a coroutine, returns."""

        async def handle_async(request: Any) -> Any:
            return await told(handle(request))

        def handle_sync(request: Any) -> Any:
            return at_once(handle_async(request))

        return self.http.MockTransport(handle_async if self.is_async else handle_sync)

    def body(self, chunks: Iterable[bytes]) -> Any:
        """A body that arrives in these pieces and can be read once."""

        async def later() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        return later() if self.is_async else iter(chunks)

    def raw(self, response: Any) -> AsyncIterator[bytes]:
        """The pieces of a response's body as they were transferred."""
        return each(response.aiter_raw() if self.is_async else response.iter_raw())

    def openai(self, server: ProviderServer, **options: Any) -> Any:
        import openai

        client = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        defaults: dict[str, Any] = {"api_key": "none", "base_url": server.base_url("openai"), "max_retries": 0}
        return client(http_client=self.http_client("openai"), **defaults | options)

    def anthropic(self, server: ProviderServer, **options: Any) -> Any:
        import anthropic

        client = anthropic.AsyncAnthropic if self.is_async else anthropic.Anthropic
        defaults: dict[str, Any] = {"api_key": "none", "base_url": server.base_url("anthropic"), "max_retries": 0}
        return client(http_client=self.http_client("anthropic"), **defaults | options)

    def gemini(self, server: ProviderServer) -> Any:
        from google import genai

        place = "httpx_async_client" if self.is_async else "httpx_client"
        http: Any = {"base_url": server.base_url("gemini"), place: self.http_client("gemini")}
        client = genai.Client(api_key="none", http_options=http)
        return client.aio if self.is_async else client

    async def hang_up(self, response: Any) -> None:
        """Close a response that was not read to its end."""
        await told(response.aclose() if self.is_async else response.close())

    async def world(self) -> World:
        """Everything the store knows."""
        world: World = await told(self.runtime.run(Snapshot()))
        return world

    async def node(self, name: str) -> NodeState:
        """An account's node, such as "openai/default"."""
        return next(node for node in (await self.world()).nodes if node.node == name)

    async def limit(self, name: str, kind: Kind) -> LimitState:
        return next(limit for limit in (await self.node(name)).limits if limit.kind is kind)

    async def held(self) -> int:
        """Permits that are held by anyone."""
        return sum(instance.held for instance in (await self.world()).instances)

    async def queued(self, count: int) -> None:
        """Come back when so many requests wait for a permit."""
        while sum(instance.waiting for instance in (await self.world()).instances) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the store tells nobody that somebody waits

    async def holding(self, count: int) -> None:
        """Come back when so many permits are held."""
        while await self.held() < count:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the store tells nobody of a grant to another

    async def idle(self) -> None:
        """Come back when no permit is held, told by whichever thread."""
        while await self.held():  # noqa: ASYNC110
            await asyncio.sleep(0)  # a heartbeat thread tells the store

    async def used(self) -> int:
        """Permits granted in the last minute, at any account."""
        return sum(node.used for node in (await self.world()).nodes)


Scenario = Callable[[Side], Awaitable[None]]


@asynccontextmanager
async def side_in(folder: Path, library: str, *, is_async: bool, **settings: Any) -> AsyncIterator[Side]:
    """A side on a store in this folder; no permit may be left at the end."""
    settings = {"runtime_dir": folder / "runtime", **settings}
    runtime: Any = AsyncRuntime(**settings) if is_async else Runtime(**settings)
    side = Side(runtime, library, is_async=is_async)
    try:
        await told(runtime.join())
        yield side
        assert await side.held() == 0
    finally:
        await side.close()
        await told(runtime.close())
