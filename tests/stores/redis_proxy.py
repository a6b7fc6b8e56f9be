"""A TCP proxy between a store and its server: it loses answers, delays calls, cuts connections, changes servers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

ROOM = 65_536


class Proxy:
    """Listens on `port` of loopback and leads to `target`, also of loopback."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.connections = 0
        """How many were ever made."""
        self.answers_lost = 0
        self._losing = 0
        self._delaying = 0
        self._delayed: dict[socket.socket, bytes] = {}
        self._readers: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, *options: str) -> str:
        return f"redis://127.0.0.1:{self.port}/0?{'&'.join(options)}"

    def lose_answers(self, count: int) -> None:
        """Let the server carry out what is asked next, but cut the connection instead of answering, so many times."""
        self._losing = count

    def delay_calls(self, count: int) -> None:
        """Keep what is asked next, so many times, from arriving before `deliver`, though its connection be closed."""
        self._delaying = count

    def deliver(self) -> int:
        """Let what was delayed arrive, where the server still takes it, and be answered; how many it was."""
        delayed = list(self._delayed.items())
        for sink, data in delayed:
            with suppress(OSError):
                sink.sendall(data)
            self._readers[sink].join()
        return len(delayed)

    def lead_to(self, target: int) -> None:
        """Cut all connections; new ones go to another server."""
        self.target = target
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        with self._lock:
            ends = list(self._open)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for ends in ((near, far, False), (far, near, True)):
                self._threads.append(threading.Thread(target=self._forward, args=ends))
                self._readers[ends[0]] = self._threads[-1]
                self._threads[-1].start()

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(ROOM):
                if not answers and self._delaying:
                    self._delaying -= 1
                    self._delayed[sink] = data
                    return
                if answers and source in self._delayed:
                    break
                if answers and self._losing:
                    self._losing -= 1
                    self.answers_lost += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, __: object, ___: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in self._open:
            end.close()
