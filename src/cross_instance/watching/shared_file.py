"""A text file that several processes add lines to, moved aside when it is too long, and read along by others.

1. A line is one write to the file's end, so that none is torn. After a write that the disk had no room for, the next
   line begins anew.
2. Who finds the file too long and gets the lock moves it aside; the others go on in the new one.
3. The file is its owner's alone. A link is not followed, and a pipe that nobody reads is waited for by nobody.
4. Who reads along looks at the file only, and finishes one that was moved aside before it begins the next.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 5 << 20
"""Bytes of a file from which on it is moved aside."""
KEPT = 3
"""Files moved aside that are kept: `coordinator.log.1` is the newest."""
AT_ONCE = 1 << 20
"""Bytes that are read along at once."""


class SharedFile(RotatingFileHandler):
    """A rotated file that several processes write."""

    stream: Any

    def __init__(self, path: Path, longest: int = LONGEST, kept: int = KEPT) -> None:
        super().__init__(path, maxBytes=longest, backupCount=kept, delay=True)
        self._torn = False

    def _open(self) -> IO[Any]:  # type: ignore[override]  # bytes, unbuffered: a line is one write
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return cast("IO[Any]", os.fdopen(os.open(self.baseFilename, flags, 0o600), "ab", buffering=0))

    def write(self, line: str) -> None:
        """Add a line. Raises `OSError`."""
        data = b"\n" * self._torn + (line + "\n").encode(errors="backslashreplace")
        assert self.lock is not None
        with self.lock:
            self._reopen_if_moved()
            if os.fstat(self.stream.fileno()).st_size + len(data) > self.maxBytes:
                self._rotate_once(len(data))
            written = self.stream.write(data) or 0  # None: a full pipe
            self._torn = 0 < written < len(data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.baseFilename)

    def _reopen_if_moved(self) -> None:
        if self.stream is not None and not _is_at(self.stream, self.baseFilename):
            self.stream.close()
            self.stream = None
        if self.stream is None:
            self.stream = self._open()

    def _rotate_once(self, more: int) -> None:
        """Move the file aside, unless somebody else does so at this moment or has done it."""
        lock = os.open(f"{self.baseFilename}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._reopen_if_moved()
            size = os.fstat(self.stream.fileno()).st_size
            if size and size + more > self.maxBytes:
                self.doRollover()
                self._reopen_if_moved()
        except BlockingIOError:
            return
        finally:
            let_go(lock)


def let_go(lock: int) -> None:
    """Give a file's lock back, and close it: a child forked meanwhile has the descriptor too, and would keep it."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


class Reader:
    """Reads along what others add to a `SharedFile`: from its end, as it is now, on; `whole`: from its beginning."""

    def __init__(self, path: Path, *, whole: bool = False) -> None:
        self._path = path
        self._begun = b""
        self._file = _opened(path)
        if self._file is not None and not whole:
            self._file.seek(0, os.SEEK_END)

    def read(self) -> list[bytes]:
        """The lines that have been added. Raises `OSError`."""
        lines = self._rest()
        if lines or self._is_current():
            return lines
        lines = self._rest()  # what came before it was moved aside
        if not lines:
            self.close()
            self._file = _opened(self._path)
            lines = self._rest()
        return lines

    def _is_current(self) -> bool:
        return self._file is not None and _is_at(self._file, self._path)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._begun = None, b""

    def _rest(self) -> list[bytes]:
        if self._file is None:
            return []
        *lines, self._begun = (self._begun + (self._file.read(AT_ONCE) or b"")).split(b"\n")
        return [line for line in lines if line]


def _opened(path: Path) -> IO[bytes] | None:
    with suppress(FileNotFoundError):
        return path.open("rb", buffering=0)
    return None


def _is_at(file: IO[Any], path: Path | str) -> bool:
    """Whether an open file is still the one at its place."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))  # noqa: PTH116
    return False
