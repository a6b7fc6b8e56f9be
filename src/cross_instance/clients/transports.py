"""Transports and clients for httpx2 and httpx alike: the one is a fork of the other, with the same shape.

1. Everything that differs between the two libraries is their module, handed in as `http`.
2. A transport wraps the real one, below redirects and below the SDK: it sees every attempt, and nothing that it does
   is visible above but time.
3. The synchronous and the asynchronous half contain only what cannot be said without `await`; what happens is
   decided in the flow.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.clients.calls import OWN_HEADERS, Caller, Head
from cross_instance.clients.flow import arun, run, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

    from cross_instance.clients.attempts import Attempt
    from cross_instance.clients.calls import Runtime
    from cross_instance.clients.refusals import Refusal

C = TypeVar("C")


def require(name: str) -> ModuleType:
    """The HTTP library of this name; raises `ImportError` that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is not installed; install it with: pip install 'cross-instance-runtime[{name}]'", name=name
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


class _Wire:
    """One request's way through the library; the halves below add what does I/O."""

    def __init__(self, library: Library, inner: Any, request: Any) -> None:
        self._library = library
        self._http = library.http
        self._inner = inner
        self._request = request
        self._body = request.stream
        self.timeouts: tuple[type[BaseException], ...] = (self._http.TimeoutException, TimeoutError)
        self.head = Head(
            method=request.method,
            host=request.url.netloc.decode(),
            path=request.url.raw_path.decode(),
            headers=request.headers,
            read_timeout=request.extensions.get("timeout", {}).get("read"),
        )

    def _outgoing(self, **extensions: Any) -> Any:
        """The request as it is sent: without the headers that are for this library."""
        request = self._request
        headers = [(name, value) for name, value in request.headers.raw if name.decode().lower() not in OWN_HEADERS]
        return self._http.Request(
            request.method,
            request.url,
            headers=headers,
            stream=self._body,
            extensions={**request.extensions, **extensions},
        )

    def _tells_when_sent(self) -> bool:
        """Whether the transport reports its progress, as the library's own do."""
        return isinstance(self._inner, self._http.HTTPTransport | self._http.AsyncHTTPTransport)

    def _stream_of(self, chunks: Any) -> Any:
        return self._http.Request("POST", self._request.url, content=chunks).stream

    def replayed(self, response: Any, body: bytes, headers: dict[str, str]) -> Any:
        """See `Wire.replayed`."""
        answer = self._response(response, self._http.ByteStream(body))
        answer.headers.update(headers)
        return answer

    def refuse(self, refusal: Refusal, provider: str) -> Any:
        """See `Wire.refuse`."""
        return self._http.Response(refusal.status, headers=refusal.headers(), content=refusal.body(provider))

    def _response(self, response: Any, stream: Any) -> Any:
        return self._http.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )


class _SyncWire(_Wire):
    """The steps, done when called."""

    def keep_body(self, limit: int) -> bytes | None:
        chunks, kept, size = iter(self._body), [], 0
        for chunk in chunks:
            kept.append(chunk)
            size += len(chunk)
            if size > limit and not isinstance(self._body, self._http.ByteStream):
                self._body = self._stream_of(chain(kept, chunks))
                return None
        body = b"".join(kept)
        self._body = self._http.ByteStream(body)
        return body

    def send(self, attempt: Attempt | None) -> Any:
        if attempt is None:
            return self._inner.handle_request(self._outgoing())
        if not self._tells_when_sent():
            attempt.sent()
        return self._inner.handle_request(self._outgoing(trace=self._trace(attempt)))

    def _trace(self, attempt: Attempt) -> Any:
        outer = self._request.extensions.get("trace")

        def trace(event: str, info: dict[str, Any]) -> None:
            if _goes_out(event, info):
                attempt.sent()
            if outer is not None:
                outer(event, info)

        return trace

    def read(self, response: Any) -> bytes:
        try:
            return b"".join(response.stream)
        finally:
            response.close()

    def metered(self, response: Any, attempt: Attempt) -> Any:
        return self._response(response, self._library.stream(response.stream, attempt, self.timeouts))


class _AsyncWire(_Wire):
    """The steps, to be awaited."""

    async def keep_body(self, limit: int) -> bytes | None:
        chunks, kept, size = aiter(self._body), [], 0
        async for chunk in chunks:
            kept.append(chunk)
            size += len(chunk)
            if size > limit and not isinstance(self._body, self._http.ByteStream):
                self._body = self._stream_of(_achain(kept, chunks))
                return None
        body = b"".join(kept)
        self._body = self._http.ByteStream(body)
        return body

    async def send(self, attempt: Attempt | None) -> Any:
        if attempt is None:
            return await self._inner.handle_async_request(self._outgoing())
        if not self._tells_when_sent():
            attempt.sent()
        return await self._inner.handle_async_request(self._outgoing(trace=self._trace(attempt)))

    def _trace(self, attempt: Attempt) -> Any:
        outer = self._request.extensions.get("trace")

        async def trace(event: str, info: dict[str, Any]) -> None:
            if _goes_out(event, info):
                attempt.sent()
            if outer is not None:
                await outer(event, info)

        return trace

    async def read(self, response: Any) -> bytes:
        try:
            return b"".join([chunk async for chunk in response.stream])
        finally:
            await response.aclose()

    def metered(self, response: Any, attempt: Attempt) -> Any:
        return self._response(response, self._library.async_stream(response.stream, attempt, self.timeouts))


class _Transport:
    """A transport in which each model call takes its turn; closing it closes the wrapped one."""

    def __init__(self, library: Library, caller: Caller, inner: Any) -> None:
        self._library = library
        self._caller = caller
        self._inner = inner

    def __enter__(self) -> Any:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)

    def handle_request(self, request: Any) -> Any:
        return run(serve(self._caller, _SyncWire(self._library, self._inner, request)))

    def close(self) -> None:
        self._inner.close()


class _AsyncTransport:
    """The same for asyncio."""

    def __init__(self, library: Library, caller: Caller, inner: Any) -> None:
        self._library = library
        self._caller = caller
        self._inner = inner

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)

    async def handle_async_request(self, request: Any) -> Any:
        return await arun(serve(self._caller, _AsyncWire(self._library, self._inner, request)))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Stream:
    """A response's body; its permit is given back at the end, or when it is closed before."""

    def __init__(self, inner: Any, attempt: Attempt, timeouts: tuple[type[BaseException], ...]) -> None:
        self._inner = inner
        self._attempt = attempt
        self._timeouts = timeouts

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


class _AsyncStream:
    """The same for asyncio."""

    def __init__(self, inner: Any, attempt: Attempt, timeouts: tuple[type[BaseException], ...]) -> None:
        self._inner = inner
        self._attempt = attempt
        self._timeouts = timeouts

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


def _goes_out(event: str, info: dict[str, Any]) -> bool:
    """Whether the library's trace says that the request's head is being written; a proxy's CONNECT does not count."""
    return event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT"


async def _achain(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in first:
        yield chunk
    async for chunk in rest:
        yield chunk
