"""The test provider as a server: in a thread of its own (`with`), or in the present event loop (`async with`).

It listens on loopback unless told otherwise, takes any API key and writes none down.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self, TypeVar

from cross_instance.errors import ConfigError
from cross_instance.testing.provider import admin
from cross_instance.testing.provider.app import Application
from cross_instance.testing.provider.config import ProviderConfig
from cross_instance.testing.provider.http import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.testing.provider.config import Fault, Limit, Provider
    from cross_instance.testing.provider.http import Reply, Request
    from cross_instance.testing.provider.statistics import Record, Statistics

T = TypeVar("T")

_BACKLOG = 4096
_BASE_PATHS = {"openai": "/v1", "anthropic": "", "gemini": ""}


class ProviderServer:
    """A local provider: `with ProviderServer(ProviderConfig(...)) as server: server.base_url("openai")`.

    Its methods may be called from any thread while it runs, and still tell what was seen when it has ended.
    Raises `ConfigError` on entering where it cannot listen.
    """

    def __init__(self, config: ProviderConfig | None = None) -> None:
        self._config = config or ProviderConfig()
        self._app = Application(self._config)
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self.port = 0

    def __repr__(self) -> str:
        state = f"on {self.url}" if self._server is not None else "not running"
        return f"<ProviderServer {state}, {len(self._app.limits)} limits>"

    @property
    def url(self) -> str:
        """`http://host:port`, without a path."""
        host = self._config.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def base_url(self, provider: Provider = "openai") -> str:
        """What the provider's SDK wants as its base URL."""
        return self.url + _BASE_PATHS[provider]

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force."""
        return self._app.limits

    def set_limits(self, *limits: Limit) -> None:
        """Put other limits in force. One that differs only in amount or burst goes on where it stood."""
        self._in_loop(lambda: self._app.set_limits(limits))

    def set_faults(self, *faults: Fault) -> None:
        """Put other faults in force; their numbers and times count from now."""
        self._in_loop(lambda: self._app.set_faults(faults))

    def statistics(self) -> Statistics:
        """Everything seen since the start or the last reset."""
        return self._in_loop(self._app.statistics)

    def journal(self) -> tuple[Record, ...]:
        """The last requests one by one, in the order in which they ended."""
        return self._in_loop(self._app.journal)

    def reset_statistics(self) -> None:
        """Forget everything seen so far."""
        self._in_loop(self._app.reset_statistics)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        host, port = self._config.host, self._config.port
        try:
            self._server = await self._loop.create_server(
                lambda: Connection(self._serve, self._connections), host, port, backlog=_BACKLOG
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}", key="host, port") from None
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for connection in list(self._connections):
            connection.transport.abort()
        await self._server.wait_closed()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server = self._loop = None

    def __enter__(self) -> Self:
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="test-provider", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except Exception:
            self._thread.join()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._thread is not None
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self, ready: Future[None]) -> None:
        self._stop = asyncio.Event()
        try:
            async with self:
                ready.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)  # for the thread that waits in `__enter__`

    async def _serve(self, request: Request, reply: Reply) -> None:
        if request.path.startswith(admin.PREFIX):
            admin.serve(self._app, request, reply)
        else:
            await self._app.serve(request, reply)

    def _in_loop(self, call: Callable[[], T]) -> T:
        """Run a call where the server runs, so that nothing changes under it."""
        loop = self._loop
        if loop is None or loop is _running_loop():
            return call()

        async def run() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), loop).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
