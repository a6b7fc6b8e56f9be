"""The smallest HTTP/2 server that answers every request with the same JSON (cleartext, with prior knowledge)."""

import asyncio
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded


class Http2Server:
    """`async with Http2Server(body) as server: server.url`; `held_back` answers are sent together, by `release`."""

    def __init__(self, body: bytes, hold_back: int = 1) -> None:
        self._body = body
        self._hold_back = hold_back
        self.connections = 0
        self.requests: list[dict[bytes, bytes]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        waiting: list[int] = []
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                writer.close()
                return
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.requests.append(dict(event.headers or ()))
                elif isinstance(event, StreamEnded):
                    waiting.append(event.stream_id or 0)
            if len(waiting) >= self._hold_back:
                self._answer(connection, waiting)

    def _answer(self, connection: Any, streams: list[int]) -> None:
        while streams:
            stream = streams.pop()
            connection.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
            connection.send_data(stream, self._body, end_stream=True)
