"""Transports and clients for httpx2 and httpx alike: the one is a fork of the other, with the same shape.

1. Everything that differs between the two libraries is their module, handed in as `http`.
2. A transport wraps the real one, below redirects and below the SDK: it sees every attempt, and nothing that it does
   is visible above but time.
3. What happens is decided in the flow. The synchronous and the asynchronous classes, here and in `wires`, contain
   only what cannot be said without `await`.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.clients.calls import Caller
from cross_instance.clients.flow import arun, run, serve
from cross_instance.clients.wires import AsyncWire, SyncWire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

    from cross_instance.clients.attempts import Attempt
    from cross_instance.clients.calls import Runtime

C = TypeVar("C")


def require(name: str) -> ModuleType:
    """The HTTP library of this name; raises `ImportError` that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is not installed; in a clone of cross-instance-runtime: pip install '.[{name}]'", name=name
        ) from error


class Library:
    """An HTTP library's clients, taking turns."""

    def __init__(self, http: ModuleType) -> None:
        self.http: Any = http
        self._transport = type("SharedTransport", (_Transport, http.BaseTransport), {})
        self._async_transport = type("AsyncSharedTransport", (_AsyncTransport, http.AsyncBaseTransport), {})
        self.stream = type("SharedStream", (_Stream, http.SyncByteStream), {})
        self.async_stream = type("AsyncSharedStream", (_AsyncStream, http.AsyncByteStream), {})

    def client(self, make: type[C], runtime: Runtime, provider: str | None, account: str | None, **options: Any) -> C:
        """A client of the class `make`, with the options of that class; what they leave open is as in the SDKs.

        The SDKs allow more connections than the libraries do, and follow redirects. Fewer connections than permits
        would make requests wait after their turn has come.
        """
        options.setdefault("limits", self.http.Limits(max_connections=1000, max_keepalive_connections=100))
        options.setdefault("follow_redirects", True)
        return self.share(make(**options), Caller(runtime, provider, account))

    def share(self, client: C, caller: Caller) -> C:
        """Put the transports of a client below the queue, those for proxies and mounts too.

        The attributes are private, but a client built with `transport=` would no longer heed the environment's
        proxies; instrumentation libraries rely on these two names as well.
        """
        kind = self._async_transport if isinstance(client, self.http.AsyncClient) else self._transport
        wrap = partial(kind, self, caller)
        inner: Any = client
        inner._transport = wrap(inner._transport)
        inner._mounts = {pattern: mount and wrap(mount) for pattern, mount in inner._mounts.items()}
        return client


class _Wrapping:
    """What both kinds of transport are made of: the one that they wrap, and who takes permits for its requests."""

    def __init__(self, library: Library, caller: Caller, inner: Any) -> None:
        self._library = library
        self._caller = caller
        self._inner = inner


class _Transport(_Wrapping):
    """A transport in which each model call takes its turn; closing it closes the wrapped one."""

    def __enter__(self) -> Any:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)

    def handle_request(self, request: Any) -> Any:
        return run(serve(self._caller, SyncWire(self._library, self._inner, request)))

    def close(self) -> None:
        self._inner.close()


class _AsyncTransport(_Wrapping):
    """The same for asyncio."""

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)

    async def handle_async_request(self, request: Any) -> Any:
        return await arun(serve(self._caller, AsyncWire(self._library, self._inner, request)))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Metered:
    """What both kinds of body are made of: the one that they pass on, and the attempt that follows it."""

    def __init__(self, inner: Any, attempt: Attempt, timeouts: tuple[type[BaseException], ...]) -> None:
        self._inner = inner
        self._attempt = attempt
        self._timeouts = timeouts


class _Stream(_Metered):
    """A response's body; its permit is given back at the end, or when it is closed before."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self._attempt.feed(chunk)
                yield chunk
        except GeneratorExit:  # the caller stopped reading; `close` follows
            raise
        except BaseException as error:
            self._attempt.failed(error, self._timeouts)
            self._attempt.permit.close()
            raise
        self._attempt.completed()
        self._attempt.permit.close()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._attempt.abandoned()
            self._attempt.permit.close()


class _AsyncStream(_Metered):
    """The same for asyncio."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._attempt.feed(chunk)
                yield chunk
        except GeneratorExit:  # the caller stopped reading; `aclose` follows
            raise
        except BaseException as error:
            self._attempt.failed(error, self._timeouts)
            await self._attempt.permit.close()
            raise
        self._attempt.completed()
        await self._attempt.permit.close()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._attempt.abandoned()
            await self._attempt.permit.close()
