"""Pipeline: the one connection of an event loop, which all its tasks share.

1. What is asked while an answer is awaited is sent together afterwards: many tasks that settle at once need one write
   and one read.
2. Commands are carried out in the order in which they were asked. So a cancelled one has happened or never will before
   whatever its task asks next.
3. Where the connection breaks, every command that is under way gets the error; whether to repeat it is its task's
   to decide. Commands sent later see to it that none of them arrives any more (`servers`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from redis import exceptions

from cross_instance.stores.redis.faults import ERRORS
from cross_instance.stores.redis.servers import closing, leave_to_parent

if TYPE_CHECKING:
    from redis.asyncio import Connection

    from cross_instance.stores.redis.calls import Command
    from cross_instance.stores.redis.servers import Servers

    Asked = tuple[Command, asyncio.Future[Any]]

MOST = 64
"""Commands sent at once: the server answers one pipeline after the other, and others want their turn."""


class Pipeline:
    """The connection of one event loop."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._loop = asyncio.get_running_loop()
        self._asked: deque[Asked] = deque()
        self._connection: Connection | None = None
        self._generation = 0
        self._work: asyncio.Task[None] | None = None

    @property
    def is_here(self) -> bool:
        """Whether the running event loop is the one it belongs to."""
        return self._loop is asyncio.get_running_loop()

    async def call(self, command: Command) -> Any:
        """Send a command; its reply. Raises what redis-py raises."""
        future = self._loop.create_future()
        self._asked.append((command, future))
        if self._work is None:
            self._work = self._loop.create_task(self._send_all())
        return await future

    async def _send_all(self) -> None:
        """Send what is asked until nothing is left; the next call starts anew."""
        try:
            while self._asked:
                batch = [self._asked.popleft() for _ in range(min(MOST, len(self._asked)))]
                try:
                    await self._exchange(batch)
                except ERRORS as error:
                    if self._connection is not None:
                        self._servers.leave(self._connection)
                    await self._disconnect()
                    _fail(batch, error)
                except BaseException:
                    _fail(batch, exceptions.ConnectionError("the store is closed"))
                    raise
        finally:
            self._work = None

    async def _exchange(self, batch: list[Asked]) -> None:
        """Send commands together, then read their replies in order."""
        connection = await self._connected()
        async with asyncio.timeout(self._servers.address.timeout):
            strays = self._servers.strays
            commands = [*map(closing, strays), *(command for command, _ in batch)]
            await connection.send_packed_command(b"".join(commands), check_health=False)
            for _ in strays:
                with contextlib.suppress(exceptions.ResponseError):
                    await connection.read_response(timeout=inf)
            self._servers.closed(strays)
            for _, future in batch:
                try:
                    reply = await connection.read_response(timeout=inf)
                except exceptions.ResponseError as error:
                    if not future.done():
                        future.set_exception(error)
                else:
                    if not future.done():
                        future.set_result(reply)

    async def _connected(self) -> Connection:
        if self._connection is not None and self._generation != self._servers.generation:
            await self._disconnect()
        if self._connection is None:
            self._generation = self._servers.generation
            self._connection = await self._servers.connect_async()
        return self._connection

    async def _disconnect(self, *, nowait: bool = True) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(exceptions.TimeoutError):  # it has been closed all the same
                await connection.disconnect(nowait=nowait)

    async def close(self) -> None:
        """Close the connection; commands that are under way fail."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._disconnect(nowait=False)
        _fail(list(self._asked), exceptions.ConnectionError("the store is closed"))
        self._asked.clear()

    def abandon(self) -> None:
        """Let go of the parent's connection in a forked child."""
        leave_to_parent(self._connection, self._loop, self._work)


def _fail(batch: list[Asked], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
