"""Processes that work at our own tasks; in a module that imports little, so that they are soon at work."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from bench.effects import BEGAN, DID, Effect
from bench.ours import settings_for
from cross_instance import Runtime
from cross_instance.tasks import current_task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

EFFECTS_AT_ONCE = 4
LOG = "effects"


def work_until_told(connection: Connection[Any, Any], runtime: Runtime, concurrency: int, **options: Any) -> None:
    """Say that it works, and work; once the process is to end, what runs may end."""

    def drain() -> None:
        connection.recv()
        runtime.drain()

    threading.Thread(target=drain, daemon=True).start()
    connection.send("ready")
    runtime.work(concurrency, **options)


def serve_effects(connection: Connection[Any, Any], folder: Path) -> None:
    """Run tasks that write what they do into a log, until killed or told to end."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(word: str) -> None:
        at = time.monotonic_ns() // 1000
        os.write(log, f"{word} {os.getpid()} {at} {current_task().task} {current_task().epoch}\n".encode())

    with Runtime(settings=settings_for(folder, {})) as runtime:

        @runtime.task("effect")
        async def effect(seconds: float) -> None:
            tell(BEGAN)
            await asyncio.sleep(seconds)
            tell(DID)

        work_until_told(connection, runtime, EFFECTS_AT_ONCE)


def effects_in(folder: Path) -> Iterator[Effect]:
    """The log that they have written."""
    for line in (folder / LOG).read_text().splitlines():
        word, pid, at, task, epoch = line.split()
        yield Effect(word, int(pid), int(at), task, int(epoch))


def serve_waits(connection: Connection[Any, Any], folder: Path, name: str, steal: bool) -> None:
    """Run tasks that take a time, one after the other."""
    with Runtime(name, settings=settings_for(folder, {})) as runtime:
        runtime.task("wait")(time.sleep)
        work_until_told(connection, runtime, 1, steal=steal)
