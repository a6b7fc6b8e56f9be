"""Connections: a few to the server, for all threads of a store.

1. A connection serves one call at a time; a thread that waits for a wake needs none.
2. The one used last is used next, so that a store that is used little holds few.
3. A connection whose call failed in the middle is closed: its answer could be taken for another's. The next call sees
   to it that what it carried does not arrive any more (`servers`).
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from redis import exceptions

from cross_instance.stores.redis.servers import closing

if TYPE_CHECKING:
    from cross_instance.stores.redis.calls import Command, Haste
    from cross_instance.stores.redis.servers import Servers

MOST = 8
"""Connections of one store at a time; further threads wait for their turn."""


class Connections:
    """The connections of one store; for any thread. `haste`: that of the store."""

    def __init__(self, servers: Servers, haste: Haste) -> None:
        self._servers = servers
        self._haste = haste
        self._turns: SimpleQueue[None] = SimpleQueue()  # a semaphore, in a tenth of a `threading.Semaphore`'s time
        for _ in range(MOST):
            self._turns.put(None)
        self._idle: list[tuple[int, Any]] = []
        self._closed = False

    def call(self, command: Command) -> Any:
        """Send a command; its reply. Raises what redis-py raises."""
        try:
            self._turns.get(timeout=self._haste.left(self._servers.address.patience))
        except Empty:
            raise exceptions.TimeoutError("all connections are in use") from None
        try:
            generation, connection = self._take()
            try:
                if self._servers.strays:
                    self._close_strays(connection)
                connection.send_packed_command([command], check_health=False)
                reply = connection.read_response()
            except exceptions.ResponseError:
                self._put(generation, connection)
                raise
            except BaseException:
                self._servers.leave(connection)
                connection.disconnect()
                raise
            self._put(generation, connection)
            return reply
        finally:
            self._turns.put(None)

    def _close_strays(self, connection: Any) -> None:
        strays = self._servers.strays
        for stray in strays:
            connection.send_packed_command([closing(stray)], check_health=False)
            with suppress(exceptions.ResponseError):
                connection.read_response()
        self._servers.closed(strays)

    def _take(self) -> tuple[int, Any]:
        present = self._servers.generation
        while self._idle:
            try:
                generation, connection = self._idle.pop()
            except IndexError:  # another thread took it
                break
            if generation == present:
                return generation, connection
            connection.disconnect()
        return present, self._servers.connect(self._haste)

    def _put(self, generation: int, connection: Any) -> None:
        self._idle.append((generation, connection))
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close all that are idle; those in use are closed when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].disconnect()

    def abandon(self) -> None:
        """Let go of the parent's connections in a forked child: closed here, without a word to the server."""
        self.close()
