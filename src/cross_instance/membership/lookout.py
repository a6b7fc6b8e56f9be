"""Lookout: notice within half a second that another process of this machine has died.

1. A file in `instances/` that nobody holds is the file of a dead instance (see `presence`).
2. Its name is only a hint at which instance died; what the store knows decides. A new instance of that name may
   have joined meanwhile: it holds the lock before it joins, so whoever has read the registry looks once more.
3. Several stores of a machine share the folder. A file is removed by those of the store that it names, once that
   has dealt with the death; the others leave it to them for as long as anybody there can be waiting for it.
4. A lock taken for looking is dropped explicitly: a child forked at that moment would otherwise keep it.
5. A server may get the join of a process after its death: for `ON_ITS_WAY` a file that it does not know stays.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.membership.presence import SUFFIX, file_name, read_card, set_aside_if_damaged, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORGOTTEN_AFTER = 3600.0
"""Seconds since its last beat after which the file of an instance of another store is removed: its silence has told
that store of its end long before."""
ON_ITS_WAY = 5.0
"""Seconds since a file was written for which the join that follows may be on its way to a server."""


class Trace(NamedTuple):
    """The file of a dead instance: the same death as long as all three are the same."""

    name: str
    inode: int
    written_ns: int


@contextmanager
def _looking_at(path: Path, how: int) -> Iterator[os.stat_result | None]:
    """Hold the lock of another's file for a moment: its state, or None where it is held, missing or no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        if not try_lock(descriptor, how):
            yield None
            return
        try:
            state = os.fstat(descriptor)
            yield state if S_ISREG(state.st_mode) else None
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


class Lookout:
    """Looks for instances of this machine that have died.

    All processes of one store share the work: a look that another took less than `interval` seconds ago is
    not repeated. A process that looks and is stopped before it acts delays the others by no more than that.
    """

    def __init__(self, folder: Path, store: str, interval: float = 0.2) -> None:
        self._folder = folder
        self._store = store
        self._is_remote = "://" in store
        self._stamp = folder / f".looked-{hashlib.sha256(store.encode()).hexdigest()[:16]}"
        self._interval = interval
        self._known: set[Trace] = set()

    def look(self) -> list[Trace]:
        """The files of dead instances that this process has not dealt with yet."""
        if not self._is_due():
            return []
        files = self._folder.glob(f"*{SUFFIX}")
        dead = {trace for path in files if (trace := _trace(path)) is not None}
        self._known &= dead
        return sorted(dead - self._known)

    def confirms(self, trace: Trace) -> bool:
        """Whether that file is still as it was found, and nobody holds it."""
        return _trace(self._folder / trace.name) == trace

    def done(self, trace: Trace, *, known: bool) -> None:
        """Say that this store has dealt with a death; its file goes, unless another store must still learn of it.

        One that is not `known` to this store had not joined yet, or had left already, if this is the store it names;
        one that names none died before it could write. A file that somebody else looks at just now is found again.
        """
        age = time.time() - trace.written_ns / 1e9
        if not known and self._is_remote and 0 <= age < ON_ITS_WAY:
            return
        path = self._folder / trace.name
        card = read_card(path)
        of_another = card is not None and card.store != self._store
        if of_another and age <= FORGOTTEN_AFTER:
            self._known.add(trace)
            return
        with _looking_at(path, fcntl.LOCK_EX) as state:
            if state is not None and trace[1:] == (state.st_ino, state.st_mtime_ns):
                set_aside_if_damaged(path)
                path.unlink(missing_ok=True)

    def _is_due(self) -> bool:
        try:
            age = time.time() - self._stamp.stat().st_mtime
        except FileNotFoundError:
            age = self._interval
        if 0 <= age < self._interval:
            return False
        try:
            self._stamp.touch(mode=0o600)
        except FileNotFoundError:  # the folder was removed; there is nothing to see
            return False
        return True


def _trace(path: Path) -> Trace | None:
    with _looking_at(path, fcntl.LOCK_SH) as state:
        return None if state is None else Trace(path.name, state.st_ino, state.st_mtime_ns)


def is_alive(folder: Path, instance_id: str) -> bool | None:
    """Whether the instance's lock is held; None where it has no file here (another machine's, or gone)."""
    path = folder / file_name(instance_id)
    if not path.exists():
        return None
    return _trace(path) is None
