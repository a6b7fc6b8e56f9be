"""Wires: how one request goes out through httpx2 or httpx, and how its response comes back. See `flow.Wire`.

1. The request that is sent is the caller's, without the headers meant for this library. One that takes no permit and
   carries no such header is sent as the very object that it is.
2. The library's trace tells when the first byte goes out: after connecting and after waiting for a connection. A
   transport that does not report its progress is taken to send at once.
3. A body from a stream is read before the permit is asked for, so that nothing slow happens between grant and sending.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from cross_instance.clients.calls import OWN_HEADERS, Head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cross_instance.clients.attempts import Attempt
    from cross_instance.clients.refusals import Refusal
    from cross_instance.clients.transports import Library


_OWN_HEADERS = {name.encode() for name in OWN_HEADERS}


class _Wire:
    """What needs no I/O; the classes below add the rest. `inner` is the transport that is wrapped."""

    def __init__(self, library: Library, inner: Any, request: Any) -> None:
        self._library = library
        self._http = library.http
        self._inner = inner
        self._request = request
        self._stream = request.stream
        self.timeouts: tuple[type[BaseException], ...] = (self._http.TimeoutException, TimeoutError)
        self.head = Head(
            method=request.method,
            host=request.url.netloc.decode(),
            path=request.url.raw_path.decode(),
            headers=request.headers,
            read_timeout=request.extensions.get("timeout", {}).get("read"),
        )

    def _outgoing(self, **extensions: Any) -> Any:
        request = self._request
        headers = [(name, value) for name, value in request.headers.raw if name.lower() not in _OWN_HEADERS]
        if not extensions and len(headers) == len(request.headers.raw) and self._stream is request.stream:
            return request
        outgoing = self._http.Request(
            request.method,
            request.url,
            headers=headers,
            stream=self._stream,
            extensions={**request.extensions, **extensions},
        )
        if isinstance(self._stream, self._http.ByteStream):
            outgoing.read()  # for transports that look at `content`, as they can with the caller's request
        return outgoing

    def _keep(self, body: bytes) -> bytes:
        if not isinstance(self._stream, self._http.ByteStream):
            self._stream = self._http.ByteStream(body)
        return body

    def _tells_when_sent(self) -> bool:
        """Whether the transport reports its progress, as the library's own do."""
        return isinstance(self._inner, self._http.HTTPTransport | self._http.AsyncHTTPTransport)

    def _stream_of(self, chunks: Any) -> Any:
        return self._http.Request("POST", self._request.url, content=chunks).stream

    def replayed(self, response: Any, body: bytes, headers: dict[str, str]) -> Any:
        """See `flow.Wire.replayed`."""
        answer = self._response(response, self._http.ByteStream(body))
        answer.headers.update(headers)
        return answer

    def refuse(self, refusal: Refusal, provider: str) -> Any:
        """See `flow.Wire.refuse`."""
        return self._http.Response(refusal.status, headers=refusal.headers(), content=refusal.body(provider))

    def _response(self, response: Any, stream: Any) -> Any:
        return self._http.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )


class SyncWire(_Wire):
    """The steps, done when called."""

    def keep_body(self, limit: int) -> bytes | None:
        """See `flow.Wire.keep_body`."""
        chunks, kept, size = iter(self._stream), [], 0
        for chunk in chunks:
            kept.append(chunk)
            size += len(chunk)
            if size > limit and not isinstance(self._stream, self._http.ByteStream):
                self._stream = self._stream_of(chain(kept, chunks))
                return None
        return self._keep(b"".join(kept))

    def send(self, attempt: Attempt | None) -> Any:
        """See `flow.Wire.send`."""
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
        """See `flow.Wire.read`."""
        try:
            return b"".join(response.stream)
        finally:
            response.close()

    def metered(self, response: Any, attempt: Attempt) -> Any:
        """See `flow.Wire.metered`."""
        return self._response(response, self._library.stream(response.stream, attempt, self.timeouts))


class AsyncWire(_Wire):
    """The steps, to be awaited."""

    async def keep_body(self, limit: int) -> bytes | None:
        """See `flow.Wire.keep_body`."""
        chunks, kept, size = aiter(self._stream), [], 0
        async for chunk in chunks:
            kept.append(chunk)
            size += len(chunk)
            if size > limit and not isinstance(self._stream, self._http.ByteStream):
                self._stream = self._stream_of(_achain(kept, chunks))
                return None
        return self._keep(b"".join(kept))

    async def send(self, attempt: Attempt | None) -> Any:
        """See `flow.Wire.send`."""
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
        """See `flow.Wire.read`."""
        try:
            return b"".join([chunk async for chunk in response.stream])
        finally:
            await response.aclose()

    def metered(self, response: Any, attempt: Attempt) -> Any:
        """See `flow.Wire.metered`."""
        return self._response(response, self._library.async_stream(response.stream, attempt, self.timeouts))


def _goes_out(event: str, info: dict[str, Any]) -> bool:
    """Whether the library's trace says that the request's head is being written; a proxy's CONNECT does not count."""
    return event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT"


async def _achain(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in first:
        yield chunk
    async for chunk in rest:
        yield chunk
