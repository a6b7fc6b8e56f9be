"""Servers: where the primary is at the moment, and the connections to it.

1. What was found holds until an error says that it may be elsewhere (`lost`); then all connections made before are
   out of date, and the next one is made to where the primary is now.
2. Sentinels are asked with each new search, by one thread at a time; nobody else waits for their answer. In a Cluster
   any node tells by its errors which one holds the namespace: where a known node is gone, the next of the URL is tried.
3. redis-py repeats nothing by itself: whoever calls knows better what may be repeated, and for how long.
4. What was sent on a connection that was lost may still arrive, after its repetition and even after what followed. So
   whoever calls next first has the server close that connection: what it carried has happened by then, or never will.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from redis import Connection, SSLConnection, UnixDomainSocketConnection, asyncio as aredis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from cross_instance.stores.redis.address import CLUSTER, SENTINEL, SOCKET
from cross_instance.stores.redis.wire import pack

if TYPE_CHECKING:
    from cross_instance.stores.redis.address import Address
    from cross_instance.stores.redis.calls import Command, Haste
    from cross_instance.stores.redis.faults import Fault

    Target = tuple[str, int]
    Stray = tuple[bytes, bytes]

_Sentinel: Any = Sentinel

CLIENT = "cross-instance"
"""How connections are called in the server's CLIENT LIST."""
_WHO = re.compile(rb"\bid=(\d+) addr=(\S+)")


class Servers:
    """The way to the primary of one address; for any thread."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.generation = 0
        """Connections of an earlier one lead to where the primary was."""
        self.strays: tuple[Stray, ...] = ()
        """Lost connections that the server has not closed yet, by its own names for them: id and address."""
        self._names: WeakKeyDictionary[Any, Stray] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._found: Target | None = None
        self._next = 0

    def connect(self, haste: Haste) -> Any:
        """A new connection to the primary (redis-py's `Connection`). Raises what redis-py raises."""
        kind, arguments = self._way(UnixDomainSocketConnection, SSLConnection, Connection)
        limits = {name: haste.left(arguments[name]) for name in ("socket_timeout", "socket_connect_timeout")}
        connection = kind(**{**arguments, **limits})
        try:
            connection.connect()
            connection.send_command("CLIENT", "INFO")
            with suppress(exceptions.ResponseError):  # it may not ask: then its calls arrive when they do
                self._note(connection, connection.read_response())
        except BaseException:
            connection.disconnect()
            raise
        return connection

    async def connect_async(self) -> aredis.Connection:
        """The same for asyncio. Its calls have no timeout of their own: one for many of them costs less."""
        classes = aredis.UnixDomainSocketConnection, aredis.SSLConnection, aredis.Connection
        asks_others = self.address.kind == SENTINEL
        kind, arguments = await asyncio.to_thread(self._way, *classes) if asks_others else self._way(*classes)
        connection: Any = kind(**{**arguments, "socket_timeout": None})
        try:
            async with asyncio.timeout(self.address.connect_timeout):
                await connection.connect()
                await connection.send_command("CLIENT", "INFO")
                with suppress(exceptions.ResponseError):
                    self._note(connection, await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        made: aredis.Connection = connection
        return made

    def _note(self, connection: Any, info: bytes) -> None:
        who = _WHO.search(info)
        if who is not None:
            self._names[connection] = who[1], who[2]

    def leave(self, connection: Any) -> None:
        """A connection is given up in the middle of a call."""
        name = self._names.get(connection)
        if name is not None:
            with self._lock:
                self.strays += (name,)

    def closed(self, strays: tuple[Stray, ...]) -> None:
        """The server has closed these."""
        with self._lock:
            self.strays = tuple(stray for stray in self.strays if stray not in strays)

    def lost(self, fault: Fault) -> None:
        """Look elsewhere, where a fault says so."""
        if not fault.elsewhere:
            return
        with self._lock:
            self.generation += 1
            target, before = fault.moved_to, self._found
            if target is not None:
                self._found = (target[0] or (before or self.address.hosts[0])[0], target[1])
            else:
                self._found = None
                self._next += 1

    def _way(self, socket: Any, tls: Any, plain: Any) -> tuple[Any, dict[str, Any]]:
        """The class of a connection, and its arguments."""
        address = self.address
        arguments = {
            **address.connection,
            "socket_timeout": address.timeout,
            "socket_connect_timeout": address.connect_timeout,
            "client_name": CLIENT,
            "protocol": 2,
        }
        if address.kind == SOCKET:
            return socket, {**arguments, "path": address.path}
        host, port = self._locate()
        return tls if address.tls else plain, {**arguments, "host": host, "port": port}

    def _locate(self) -> Target:
        if self.address.kind == SENTINEL:
            return self._named_by_sentinels()
        with self._lock:
            if self._found is not None:
                return self._found
            hosts = self.address.hosts
            found: Target = hosts[self._next % len(hosts)]
            if self.address.kind != CLUSTER:
                self._found = found
            return found

    def _named_by_sentinels(self) -> Target:
        """The primary; asked for without `_lock`, which event loops take."""
        with self._asking:
            with self._lock:
                generation, found = self.generation, self._found
            if found is None:
                found = self._ask_sentinels()
                with self._lock:
                    if generation == self.generation:
                        self._found = found
            return found

    def _ask_sentinels(self) -> Target:
        address = self.address
        options: dict[str, Any] = {
            "socket_timeout": address.timeout,
            "socket_connect_timeout": address.connect_timeout,
            "retry": Retry(NoBackoff(), 0),
        }
        tls = {name: value for name, value in address.connection.items() if name.startswith("ssl_")}
        options |= {"ssl": True, **tls} if address.tls else {}
        sentinels: Any = _Sentinel(list(address.hosts), sentinel_kwargs={**options, **address.sentinel})
        try:
            host, port = sentinels.discover_master(address.service)
        except MasterNotFoundError:  # its text has all arguments of the connections, the password among them
            asked = ", ".join(f"{one.host}:{one.port}" for one in address.hosts)
            raise exceptions.ConnectionError(f"no Sentinel names a primary for {address.service}: {asked}") from None
        finally:
            for sentinel in sentinels.sentinels:
                sentinel.close()
        return str(host), int(port)


def closing(stray: Stray) -> Command:
    """The command that has the server close a lost connection; it answers how many it closed, 0 or 1."""
    identity, address = stray
    return pack("CLIENT", "KILL", "ID", identity, "ADDR", address)


_inherited: list[Any] = []


def leave_to_parent(connection: aredis.Connection | None, *others: object) -> None:
    """Let go of a parent's connection in a forked child: the descriptor leads nowhere from now on.

    The objects are kept, for ending them would touch the parent's event loop, which the child shares.
    """
    _inherited.append((connection, *others))
    writer = getattr(connection, "_writer", None)
    if writer is not None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, writer.get_extra_info("socket").fileno(), inheritable=False)
        os.close(null)
