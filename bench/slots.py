"""One slot that processes hand to each other, by whichever means: for wake-ups and for recovery.

1. `take` waits until the slot is free and tells the instant (`monotonic_ns`) at which it was had; `give` frees it.
2. A slot opened with `holds` is used by the process that gives it away.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bench.measuring import Role
from bench.ours import MODEL, PROVIDER, settings_in
from cross_instance import AsyncRuntime, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cross_instance.permits import AsyncPermit, Permit

ONE_SLOT = {"requestsPerMinute": 60_000_000, "burst": 1_000_000, "concurrency": 1}


class Slot(Protocol):
    """A slot as one process sees it."""

    def take(self) -> int:
        """Wait for it; the instant at which it was had."""

    def give(self) -> object:
        """Free it."""


class Means(NamedTuple):
    """A way to hand a slot over; `module` must be installed."""

    name: str
    role: Role
    open: Callable[[Path, bool], AbstractContextManager[Slot]]
    module: str = "cross_instance"

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


class _RuntimeSlot:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._permit: Permit | None = None

    def take(self) -> int:
        self._permit = self._runtime.permit(PROVIDER, MODEL).acquire()
        return monotonic_ns()

    def give(self) -> None:
        assert self._permit is not None
        self._permit.close()


@contextmanager
def runtime(folder: Path, holds: bool) -> Iterator[Slot]:  # noqa: ARG001  # the same on both sides
    with Runtime(settings=settings_in(folder, **ONE_SLOT)) as joined:
        yield _RuntimeSlot(joined)


class _AsyncRuntimeSlot:
    def __init__(self, runtime: AsyncRuntime, runner: asyncio.Runner) -> None:
        self._runtime = runtime
        self._runner = runner
        self._permit: AsyncPermit | None = None

    def take(self) -> int:
        return self._runner.run(self._take())

    async def _take(self) -> int:
        self._permit = await self._runtime.permit(PROVIDER, MODEL).acquire()
        return monotonic_ns()

    def give(self) -> None:
        assert self._permit is not None
        self._runner.run(self._permit.close())


@contextmanager
def async_runtime(folder: Path, holds: bool) -> Iterator[Slot]:
    """An event loop waits; who gives has none, so that entering it is not timed."""
    if holds:
        with runtime(folder, holds) as slot:
            yield slot
        return
    joined = AsyncRuntime(settings=settings_in(folder, **ONE_SLOT))
    with asyncio.Runner() as runner:
        yield _AsyncRuntimeSlot(joined, runner)
        runner.run(joined.close())


class _Ping:
    """No slot at all: one datagram from who gives to who takes."""

    def __init__(self, socket: socket.socket, address: str, holds: bool) -> None:
        self._socket, self._address, self._holds = socket, address, holds

    def take(self) -> int:
        if not self._holds:
            self._socket.recv(1)
        return monotonic_ns()

    def give(self) -> None:
        if self._holds:
            self._socket.sendto(b"!", self._address)


@contextmanager
def datagram(folder: Path, holds: bool) -> Iterator[Slot]:
    address = str(folder / "ping")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as endpoint:
        if not holds:
            endpoint.bind(address)
        yield _Ping(endpoint, address, holds)


class _Flock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def take(self) -> int:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return monotonic_ns()

    def give(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)


@contextmanager
def bare_flock(folder: Path, holds: bool) -> Iterator[Slot]:  # noqa: ARG001
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    yield _Flock(descriptor)
    os.close(descriptor)


class _Lock:
    """Anything with `acquire` and `release`."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def take(self) -> int:
        self._lock.acquire()
        return monotonic_ns()

    def give(self) -> None:
        self._lock.release()


@contextmanager
def file_lock(folder: Path, holds: bool) -> Iterator[Slot]:  # noqa: ARG001
    filelock: Any = import_module("filelock")
    yield _Lock(filelock.FileLock(folder / "lock"))


@contextmanager
def diskcache_semaphore(folder: Path, holds: bool) -> Iterator[Slot]:  # noqa: ARG001
    diskcache: Any = import_module("diskcache")
    with diskcache.Cache(str(folder)) as cache:
        yield _Lock(diskcache.BoundedSemaphore(cache, "slot", value=1))


RUNTIME = Means("cross-instance, Runtime", Role.OURS, runtime)
ASYNC_RUNTIME = Means("cross-instance, AsyncRuntime", Role.OURS, async_runtime)
DATAGRAM = Means("Unix datagram, no slot", Role.FLOOR, datagram)
FLOCK = Means("bare flock, freed by the kernel", Role.FLOOR, bare_flock)
FILELOCK = Means("filelock, polls", Role.PEER, file_lock, "filelock")
SEMAPHORE = Means("diskcache semaphore, polls", Role.PEER, diskcache_semaphore, "diskcache")
