"""Wake-ups over pub/sub: one connection and one thread for all waiters of a process.

1. Messages are hints: what is published while the connection is broken is lost. When it stands again, all waiters of
   the process are roused to ask for themselves.
2. The connection belongs to an event loop of its own in a thread of its own: whoever wants to listen to one channel
   more asks that loop. It starts with the first channel.
3. A connection that says nothing is asked for a sign of life, so that one whose other end is gone is noticed.
4. Nothing here raises: a listener without a server tries again, and its waiters ask by their own timers meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from cross_instance.stores.redis.faults import ERRORS, fault_of
from cross_instance.stores.redis.servers import leave_to_parent

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Connection

    from cross_instance.stores.redis.servers import Servers

log = logging.getLogger("cross_instance")

QUIET = 10.0
"""Seconds of silence after which a sign of life is asked for, and after as many more the connection given up."""
SHORTEST, LONGEST = 0.05, 2.0
"""Seconds between tries to connect: the first, which doubles, and the longest."""


class Listener:
    """Listens to channels, for any thread. `heard` gets a channel and a message; `missed` is told of a gap."""

    def __init__(self, servers: Servers, heard: Callable[[bytes, bytes], None], missed: Callable[[], None]) -> None:
        self._servers = servers
        self._heard = heard
        self._missed = missed
        self._lock = threading.RLock()
        self._wanted: dict[str, threading.Event] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._closed = False

    def is_heard(self, channel: str) -> bool:
        """Whether the server has said that a channel is listened to."""
        confirmed = self._wanted.get(channel)
        return confirmed is not None and confirmed.is_set()

    def begin(self, channel: str) -> threading.Event:
        """Listen to a channel from now on; the event is set when the server has said so, or it is dropped."""
        with self._lock:
            known = self._wanted.get(channel)
            if known is not None:
                return known
            confirmed = threading.Event()
            if self._closed:
                confirmed.set()
                return confirmed
            self._wanted[channel] = confirmed
            if self._thread is None:
                self._start()
            else:
                self._call("SUBSCRIBE", channel)
            return confirmed

    def drop(self, channel: str) -> None:
        """Listen to a channel no longer."""
        with self._lock:
            confirmed = self._wanted.pop(channel, None)
            if confirmed is not None and not self._closed:
                confirmed.set()
                self._call("UNSUBSCRIBE", channel)

    def close(self) -> None:
        """End the thread and its connection."""
        with self._lock:
            self._closed = True
            thread, loop, task = self._thread, self._loop, self._task
        if thread is not None and loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    def abandon(self) -> None:
        """Forget the parent's connection, in a forked child, without touching what both share."""
        self._closed = True
        self._lock = threading.RLock()
        leave_to_parent(self._connection, self._loop, self._task)

    # --- the thread ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start the thread, and wait until its loop is there."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="cross-instance-wakes", daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            started.set()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keep_listening()

        asyncio.run(main())

    def _call(self, command: str, channel: str) -> None:
        """Have the loop send a command, where it is connected; if not, it says what is wanted when it is."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                asyncio.run_coroutine_threadsafe(self._send(command, channel), loop)

    async def _send(self, command: str, *channels: str) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(*ERRORS):  # whoever reads notices too
                await connection.send_command(command, *channels, check_health=False)

    async def _keep_listening(self) -> None:
        pause, gap, is_told = SHORTEST, False, False
        while True:
            generation = self._servers.generation
            try:
                connection = await self._servers.connect_async()
                pause, is_told = SHORTEST, False
                try:
                    self._connection = connection
                    await self._listen(connection, generation, gap)
                finally:
                    self._connection = None
                    await connection.disconnect(nowait=True)
            except ERRORS as error:
                self._servers.lost(fault_of(error))
                if not is_told:
                    log.warning("no wake-ups for now, only from asking again: %s", error)
                is_told = True
            gap = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST)

    async def _listen(self, connection: Connection, generation: int, gap: bool) -> None:
        """Read until the connection breaks, stays silent, or is found to lead to where the primary was."""
        with self._lock:
            unconfirmed = set(self._wanted)
        if unconfirmed:
            await self._send("SUBSCRIBE", *unconfirmed)
        asked = False
        while True:
            message = await connection.read_response(timeout=QUIET)
            if message is not None:
                asked = False
                channel = self._take(message)
                if channel in unconfirmed:
                    unconfirmed.remove(channel)
                    if gap and not unconfirmed:
                        self._missed()
            elif self._servers.generation != generation:
                return
            elif asked:
                raise TimeoutError("the server does not answer any more")
            else:
                asked = True
                await connection.send_command("PING", check_health=False)

    def _take(self, message: Any) -> str | None:
        """Take a message in; the channel that it confirms, if it does that."""
        kind, *rest = message if isinstance(message, list) else (message,)
        if kind == b"message":
            self._heard(*rest)
        elif kind == b"subscribe":
            channel = rest[0].decode()
            confirmed = self._wanted.get(channel)
            if confirmed is not None:
                confirmed.set()
            return str(channel)
        return None
