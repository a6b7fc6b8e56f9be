"""Wake-ups between the processes of one folder: each that has waiters reads a named pipe.

1. A wake is a hint of three integers. One that cannot be delivered, because the reader is dead or far behind, is
   dropped without a word.
2. `<incarnation>` in the folder is a link to the pipe of the process that owns it. Wakes for incarnations of the
   same process take no pipe.
3. Records are written whole (POSIX: up to PIPE_BUF bytes) and never wait. One read takes all that is there.
4. A pipe without a reader belongs to a dead process: whoever finds it removes it. Pipes are made and removed inside
   the gate, so that none is taken for dead before it is read; they are looked through outside, which takes long where
   there are many.
5. Writing to a dead reader's pipe must not kill a process that lets SIGPIPE have its way.

Pipes rather than datagram sockets: the same latency, but room for 2,730 wakes instead of 11 (the default of
net.unix.max_dgram_qlen), no limit on the length of the folder's path, and one system call for any number of wakes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import threading
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING

from cross_instance.rules.operations import Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

RECORD = struct.Struct("=QQQ")
"""Incarnation, seq, at; in the machine's order, for a pipe never leaves it."""
AT_ONCE = select.PIPE_BUF // RECORD.size
ROOM = 65_536
"""Bytes of one read: the most that a Linux pipe holds."""
OPEN_PIPES = 16
"""Pipes of others kept open for writing; the least recently used is closed first."""
GONE = frozenset({errno.ENXIO, errno.ENOENT})
"""Opening a pipe that nobody reads, or a link to nothing."""
STOP = RECORD.pack(0, 0, 0)


class Post:
    """Sends wakes to other processes and receives those for this one."""

    def __init__(self, folder: Path, deliver: Callable[[Iterable[Wake]], None]) -> None:
        self._folder = folder
        self._deliver = deliver
        self._lock = threading.RLock()
        self._open: OrderedDict[int, int] = OrderedDict()
        self._mine: set[int] = set()
        self._pipe: _Pipe | None = None

    # --- receiving ---------------------------------------------------------------------------------------------

    def seemingly_dead(self) -> list[Path]:
        """What nobody reads at this moment: dead, or just being made. None once this process has its own pipe."""
        if self._pipe is not None or not self._folder.exists():
            return []
        return [path for path in self._folder.iterdir() if _is_unread(path)]

    def own(self, incarnation: int, seemingly_dead: Iterable[Path] = ()) -> None:
        """Receive the wakes of an incarnation of this process, and remove what is dead; called inside the gate.

        Raises `OSError` where the folder cannot be written.
        """
        with self._lock:
            if incarnation in self._mine:
                return
            if self._pipe is None:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                for path in filter(_is_unread, seemingly_dead):
                    path.unlink(missing_ok=True)
                self._pipe = _Pipe(self._folder / f"pipe-{uuid.uuid4().hex}", self._deliver)
            link = self._link(incarnation)
            link.unlink(missing_ok=True)
            link.symlink_to(self._pipe.path.name)
            self._mine.add(incarnation)

    def disown(self, incarnation: int) -> None:
        """Stop receiving for an incarnation."""
        with self._lock:
            if incarnation in self._mine:
                self._mine.remove(incarnation)
                _remove(self._link(incarnation))

    # --- sending -----------------------------------------------------------------------------------------------

    def send(self, wakes: tuple[Wake, ...]) -> None:
        """Deliver wakes to whom they are for."""
        mine = self._mine
        here = [wake for wake in wakes if wake.incarnation in mine]
        if here:
            self._deliver(here)
        if len(here) == len(wakes):
            return
        others: dict[int, list[bytes]] = {}
        for wake in wakes:
            if wake.incarnation not in mine:
                record = RECORD.pack(wake.incarnation, wake.seq, wake.at)
                others.setdefault(wake.incarnation, []).append(record)
        with self._lock:
            for incarnation, records in others.items():
                self._write(incarnation, records)

    def _write(self, incarnation: int, records: list[bytes]) -> None:
        try:
            descriptor = self._descriptor(incarnation)
        except OSError as error:
            if error.errno in GONE:
                _remove(self._link(incarnation))
            return
        try:
            with _without_sigpipe():
                for start in range(0, len(records), AT_ONCE):
                    os.write(descriptor, b"".join(records[start : start + AT_ONCE]))
        except BlockingIOError:  # the reader is far behind; it asks the store by itself in time
            pass
        except BrokenPipeError:
            os.close(self._open.pop(incarnation))
            _remove(self._link(incarnation))

    def _descriptor(self, incarnation: int) -> int:
        descriptor = self._open.get(incarnation)
        if descriptor is None:
            while len(self._open) >= OPEN_PIPES:
                os.close(self._open.popitem(last=False)[1])
            descriptor = os.open(self._link(incarnation), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._open[incarnation] = descriptor
        else:
            self._open.move_to_end(incarnation)
        return descriptor

    def _link(self, incarnation: int) -> Path:
        return self._folder / str(incarnation)

    # --- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop receiving, and remove the pipe."""
        with self._lock:
            for incarnation in list(self._mine):
                self.disown(incarnation)
            self._close_others()
            if self._pipe is not None:
                self._pipe.stop()
                self._pipe = None

    def abandon(self) -> None:
        """Close this process's copies in a forked child; pipe and links are its parent's."""
        self._close_others()
        if self._pipe is not None:
            self._pipe.abandon()

    def _close_others(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


class _Pipe:
    """The pipe of this process, and the thread that reads it."""

    def __init__(self, path: Path, deliver: Callable[[Iterable[Wake]], None]) -> None:
        self.path = path
        self._deliver = deliver
        os.mkfifo(path, 0o600)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Held open so that reading waits instead of ending when the last other writer closes.
        self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self._reader, True)
        self._stopped = False
        self._thread = threading.Thread(target=self._read, name="cross-instance-wakes", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            data = os.read(self._reader, ROOM)
            if self._stopped:
                return
            whole = len(data) - len(data) % RECORD.size
            self._deliver([Wake(*record) for record in RECORD.iter_unpack(data[:whole])])

    def stop(self) -> None:
        """Remove the pipe, end the thread, and close."""
        _remove(self.path)
        self._stopped = True
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes the thread as well
            os.write(self._writer, STOP)
        self._thread.join()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors."""
        os.close(self._reader)
        os.close(self._writer)


def _is_unread(path: Path) -> bool:
    """Whether it is a pipe that nobody reads, or a link to one, or to nothing."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in GONE
    return False


def _remove(path: Path) -> None:
    """Remove a pipe or a link where that can be; whoever opens the folder next removes what is left."""
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _without_sigpipe() -> Iterator[None]:
    """Turn SIGPIPE of this thread into `BrokenPipeError` alone, also where the process has not ignored it."""
    if signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN:  # what Python sets at its start
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE in signal.sigpending():
            signal.sigwait({signal.SIGPIPE})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
