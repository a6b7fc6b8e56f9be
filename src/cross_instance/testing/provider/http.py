"""HTTP/1.1 for the test provider: just enough of it, strict in what it accepts.

1. One connection carries one request after another; pipelined ones wait in the buffer.
2. A request is a head of at most 64 KiB and a body of at most 64 MiB, with a length or in chunks, never both.
3. When the peer goes away the task that serves it is cancelled at once, so that its slot is free.
4. A handler either completes its reply or cuts it; what it leaves undone is cut.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

    Handler = Callable[["Request", "Reply"], Awaitable[None]]

HEAD_LIMIT = 64 << 10
BODY_LIMIT = 64 << 20
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}
_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One request; the names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class Malformed(Exception):
    """The peer does not speak HTTP/1.1; `status` is the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_request(buffer: bytearray, go_on: Callable[[], None]) -> Generator[None, None, Request]:
    """Take one request out of the buffer; yields where more bytes are needed.

    `go_on` is called when the peer waits for leave to send its body. Raises `Malformed`.
    """
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if len(buffer) > HEAD_LIMIT:
            raise Malformed(431, "the head is longer than 64 KiB")
        yield
    lines = buffer[:end].decode("latin-1").split("\r\n")
    del buffer[: end + 4]
    method, target, version = _request_line(lines[0])
    headers = _headers(lines[1:])
    if headers.get("expect", "").lower() == "100-continue":
        go_on()
    if "transfer-encoding" in headers:
        body = yield from _chunks(buffer, headers)
    else:
        body = yield from _exactly(buffer, _length(headers.get("content-length", "0"), 10))
    path, _, query = target.partition("?")
    keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(method, path, query, headers, body, keep_alive)


def _request_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/") or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Malformed(400, "the request line is not METHOD /path HTTP/1.1")
    return parts[0], parts[1], parts[2]


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed(400, "a header is not `name: value`")
        headers[name.lower()] = value.strip()
    return headers


def _length(text: str, base: int) -> int:
    if not (text.isascii() and text.isalnum()):
        raise Malformed(400, "the length of the body is not a number")
    try:
        length = int(text, base)
    except ValueError:
        raise Malformed(400, "the length of the body is not a number") from None
    if length > BODY_LIMIT:
        raise Malformed(413, "the body is longer than 64 MiB")
    return length


def _exactly(buffer: bytearray, length: int) -> Generator[None, None, bytes]:
    while len(buffer) < length:
        yield
    data = bytes(buffer[:length])
    del buffer[:length]
    return data


def _line(buffer: bytearray) -> Generator[None, None, str]:
    while (end := buffer.find(b"\r\n")) < 0:
        if len(buffer) > HEAD_LIMIT:
            raise Malformed(400, "a line of the chunked body does not end")
        yield
    line = yield from _exactly(buffer, end + 2)
    return line[:-2].decode("latin-1")


def _chunks(buffer: bytearray, headers: Mapping[str, str]) -> Generator[None, None, bytes]:
    if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
        raise Malformed(400, "the body is neither chunked nor of a given length")
    body = bytearray()
    while True:
        line = yield from _line(buffer)
        size = _length(line.partition(";")[0].strip(), 16)
        if len(body) + size > BODY_LIMIT:
            raise Malformed(413, "the body is longer than 64 MiB")
        if not size:
            break
        body += yield from _exactly(buffer, size)
        if (yield from _line(buffer)):
            raise Malformed(400, "a chunk does not end where it says")
    while (yield from _line(buffer)):
        pass
    return bytes(body)


class Reply:
    """The answer to one request: `send` it whole, or `start`, `write` and `finish` it; `cut` breaks the connection."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._bodiless = request.method == "HEAD"
        self._keep_alive = request.keep_alive
        self._head_to_send = b""
        self.started = False
        self.done = False

    def send(self, status: int, headers: Mapping[str, str], body: bytes, *, cut_at: int | None = None) -> None:
        """Send a whole reply; with `cut_at` only so many bytes of its body, and then the connection breaks."""
        self.started = True
        head = self._head(status, headers, f"content-length: {len(body)}\r\n")
        self._connection.transport.write(head if self._bodiless else head + body[:cut_at])
        self.cut() if cut_at is not None else self._end()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin a reply of unknown length; its head goes out with the first `write`, even one of nothing."""
        self.started = True
        self._head_to_send = self._head(status, headers, "transfer-encoding: chunked\r\n")

    async def write(self, data: bytes) -> None:
        """Send a part of the body, as fast as the peer takes it."""
        self._write(data)
        await self._connection.drained()

    def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        self._write(data, b"0\r\n\r\n")
        self._end()

    def _write(self, data: bytes, end: bytes = b"") -> None:
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._connection.transport.write(self._head_to_send + chunk + end)
        self._head_to_send = b""

    def cut(self) -> None:
        """Break the connection here."""
        self.done = True
        self._connection.transport.close()

    def _head(self, status: int, headers: Mapping[str, str], framing: str) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection = "" if self._keep_alive else "connection: close\r\n"
        return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n{lines}{framing}{connection}\r\n".encode("latin-1")

    def _end(self) -> None:
        self.done = True
        if not self._keep_alive:
            self._connection.transport.close()


class Connection(asyncio.Protocol):
    """One peer; it stands in `connections` as long as it is there."""

    transport: asyncio.Transport

    def __init__(self, handle: Handler, connections: set[Connection]) -> None:
        self._handle = handle
        self._connections = connections
        self._buffer = bytearray()
        self._parser = read_request(self._buffer, self._go_on)
        self._drained: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has come."""
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; while a request is served they wait."""
        self._buffer += data
        if self.task is None:
            self._advance()
        elif len(self._buffer) > HEAD_LIMIT:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The peer is gone, and with it the reason to serve it."""
        self._connections.discard(self)
        self.resume_writing()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    async def drained(self) -> None:
        """Wait until the peer takes more."""
        if self._drained is not None:
            await self._drained

    def _go_on(self) -> None:
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _advance(self) -> None:
        try:
            next(self._parser)
        except StopIteration as complete:
            self.task = asyncio.get_running_loop().create_task(self._serve(complete.value))
        except Malformed as error:
            request = Request("GET", "/", "", {}, b"", keep_alive=False)
            Reply(self, request).send(error.status, {"content-type": "text/plain"}, str(error).encode())

    async def _serve(self, request: Request) -> None:
        reply = Reply(self, request)
        try:
            await self._handle(request, reply)
        except Exception:  # noqa: BLE001 - logged, and the other requests go on
            _log.exception("the test provider failed to serve %s %s", request.method, request.path)
            if not reply.started:
                reply.send(500, {"content-type": "text/plain"}, b"the test provider failed; see its log")
        if not reply.done:
            reply.cut()
        self.task = None
        if not self.transport.is_closing():
            self._parser = read_request(self._buffer, self._go_on)
            self.transport.resume_reading()
            self._advance()
