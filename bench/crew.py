"""Other processes: started once, told what to do through a pipe.

1. A process is started by `spawn`: it inherits nothing, as in real life. Where there are very many, by `forkserver`:
   it inherits what was imported.
2. All begin at one instant of the machine's monotonic clock and end at another.
3. Whoever started them ends them, whatever happened; one that died raises `EOFError` here.
"""

from __future__ import annotations

import multiprocessing
import time
from array import array
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from bench.contenders import FOREVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from bench.contenders import Sampler

LEAD = 20_000_000
"""Nanoseconds between the order and the start, in which it reaches everybody."""
PATIENCE = 10.0
"""Seconds a process has to end by itself."""


@contextmanager
def helper(
    serve: Callable[..., None], *arguments: Any, method: str = "spawn"
) -> Iterator[tuple[BaseProcess, Connection[Any, Any]]]:
    """A process that runs `serve(connection, *arguments)`: it says when it is ready, and ends when it is told None."""
    context: Any = multiprocessing.get_context(method)
    context.set_forkserver_preload([serve.__module__])
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        _end(process, here)


def _end(process: BaseProcess, connection: Connection[Any, Any]) -> None:
    with suppress(OSError):
        connection.send(None)
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
    connection.close()


def together(connections: Sequence[Connection[Any, Any]], seconds: float, begin: Callable[[], object]) -> list[Any]:
    """Have helpers work at the same time, once all are ready and `begin` was called; what each of them tells."""
    for connection in connections:
        connection.recv()
    begin()
    for connection in connections:
        connection.send(seconds)
    return [connection.recv() for connection in connections]


class Crew:
    """Processes that compete for one contender's permits."""

    def __init__(self, connections: list[Connection[Any, Any]]) -> None:
        self._connections = connections

    def compete(self, size: int, seconds: float) -> list[int]:
        """Have the first `size` of them take permits as fast as they can; the durations of all, in ns."""
        start = time.monotonic_ns() + LEAD
        until = start + int(seconds * 1e9)
        connections = self._connections[:size]
        for connection in connections:
            connection.send((start, until))
        durations: list[int] = []
        for connection in connections:
            durations.extend(array("q", connection.recv_bytes()))
        return durations


def serve_permits(
    connection: Connection[Any, Any], opener: Callable[[Path], AbstractContextManager[Sampler]], folder: Path
) -> None:
    """The life of a crew's process."""
    with opener(folder) as sample:
        connection.send("ready")
        while (order := connection.recv()) is not None:
            start, until = order
            time.sleep(max(0, start - time.monotonic_ns()) / 1e9)
            connection.send_bytes(sample(FOREVER, until).tobytes())
