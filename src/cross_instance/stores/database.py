"""One LMDB file of the embedded store, and what its errors mean.

1. Every call is made inside the gate, so LMDB's own locks are off and there is never a second reader or writer.
2. A durable file is synced with every commit, and its name with its creation. The coordination file is never
   synced: it need not outlive the boot, and a killed process loses nothing that the kernel already has.
3. The coordination file is written through its map where that cannot fail half-way: on file systems that overwrite
   in place, with every block allocated beforehand, so that a full disk is an error of the allocation and never a
   signal at a store. Measured: 1.5 µs instead of 6.2 µs for one read-modify-write.
4. A map that is too small grows by doubling; whoever did not grow it follows.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
from functools import partial
from typing import TYPE_CHECKING

import lmdb
from lmdb.verify import VerifyError, verify

from cross_instance.errors import StoreCorrupt, StoreFull, StoreUnavailable
from cross_instance.stores.folder import FULL, describe

if TYPE_CHECKING:
    from pathlib import Path

FIRST_SIZE = 4 << 20
LARGEST_SIZE = 4 << 30
"""Bytes of a map: where it starts, and where something other than its size must be wrong."""

VERIFIED = 1 << 20
"""Bytes up to which a file is verified page by page when it is opened (18 ms per MiB; usual are 0.2): on some damaged
pages LMDB aborts the process, and the next one must not meet them again. Outside the gate a copy is."""

IN_PLACE = frozenset({"ext2", "ext3", "ext4", "tmpfs"})
"""File systems whose allocated blocks can always be overwritten; btrfs, zfs, APFS and XFS clones copy on write."""

DAMAGED = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.PageFullError,
    lmdb.CursorFullError,
)
"""Errors by which LMDB says that a file is not what it should be; within our limits the last two mean the same."""


class Database:
    """One open file; `begin` starts its transaction."""

    def __init__(self, path: Path, filesystem: str, *, durable: bool, verify: bool = True) -> None:
        self.path = path
        self._verifies = verify
        self.durable = durable
        self._in_place = not durable and filesystem in IN_PLACE
        try:
            if not path.exists():
                self._create()
            self._environment = self._open()
        except lmdb.Error as error:
            raise self.explain(error) from error
        except OSError as error:
            raise describe(error, path) from error
        self.begin = partial(self._environment.begin, write=True)
        """Start a transaction. Raises `lmdb.MapResizedError` until `follow` was called, where another process grew
        the map."""

    def _create(self) -> None:
        """Make the file under another name first: one that stands under its own is whole."""
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)
        lmdb.Environment(str(new), subdir=False, lock=False, mode=0o600, map_size=FIRST_SIZE).close()
        if self.durable:
            _sync(new)
        new.rename(self.path)
        if self.durable:
            _sync(self.path.parent)

    def _open(self) -> lmdb.Environment:
        length = self.path.stat().st_size
        size = _size_for(length)
        if self._in_place:
            _allocate(self.path, size)
        environment = lmdb.Environment(
            str(self.path),
            subdir=False,
            create=False,
            lock=False,
            mode=0o600,
            map_size=size,
            sync=self.durable,
            metasync=self.durable,
            writemap=self._in_place,
            map_async=self._in_place,
            meminit=False,
        )
        _keep_from_children(self.path)
        try:
            self._check(length, _used(environment))
        except BaseException:
            environment.close()
            raise
        return environment

    def _check(self, length: int, used: int) -> None:
        if used > length:
            raise self.damaged(f"it ends at {length} of {used} bytes")
        if self._verifies and used <= VERIFIED:
            problem = _problem_at(str(self.path))
            if problem is not None:
                raise self.damaged(problem)

    def copy(self) -> bytes | None:
        """What is to be verified (`problem_of`), as it is now; None where it is too much."""
        used = _used(self._environment)
        if used > VERIFIED:
            return None
        with self.path.open("rb", buffering=0) as file:
            return file.read(used)

    def follow(self) -> None:
        """Map as much as the file has: another process grew it."""
        self._resize(_size_for(max(self.path.stat().st_size, self._size())))

    def grow(self) -> None:
        """Make room. Raises `StoreFull` where there is none; the file is as it was."""
        size = 2 * self._size()
        if size > LARGEST_SIZE:
            raise StoreFull(f"{self.path} has reached {self._size()} bytes; something fills it without end")
        self._resize(size)

    def _size(self) -> int:
        size: int = self._environment.info()["map_size"]
        return size

    def _resize(self, size: int) -> None:
        try:
            if self._in_place:
                _allocate(self.path, size)
            self._environment.set_mapsize(size)
        except OSError as error:
            raise describe(error, self.path) from error
        except lmdb.Error as error:
            raise self.explain(error) from error

    def explain(self, error: lmdb.Error) -> StoreUnavailable:
        """What an error of LMDB on this file means to people."""
        if isinstance(error, DAMAGED):
            return self.damaged(str(error))
        for number in (*FULL, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            if str(error).endswith(os.strerror(number)):
                cause = self._write_a_page() if number == errno.EIO else None
                return describe(cause or OSError(number, os.strerror(number)), self.path)
        return StoreUnavailable(f"{self.path} cannot be used: {error}")

    def _write_a_page(self) -> OSError | None:
        """What the system says to one more page at the end of the file, where LMDB does not mind it.

        LMDB calls a write that ended early an input/output error; usually the disk was full.
        """
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(0, os.SEEK_END)
                file.write(bytes(mmap.PAGESIZE))
        except OSError as error:
            return error
        return None

    def damaged(self, how: str) -> StoreCorrupt:
        """The error for a damaged file, with the way on."""
        return StoreCorrupt(
            f"{self.path} is damaged ({how}). It was left as it is: stop all processes that use it, then put a backup "
            "in its place, or move it away to go on without what it holds"
        )

    def close(self) -> None:
        """Unmap and close; nothing is written."""
        self._environment.close()


def problem_of(copy: bytes) -> str | None:
    """What is wrong with the pages of a file, if anything is."""
    in_memory = hasattr(os, "memfd_create")
    with os.fdopen(os.memfd_create("copy"), "wb") if in_memory else tempfile.TemporaryFile() as file:
        file.write(copy)
        file.flush()
        return _problem_at(f"/dev/fd/{file.fileno()}")


def _problem_at(path: str) -> str | None:
    try:
        problems: list[str] = verify(path, subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        return str(error)
    return problems[0] if problems else None


def _used(environment: lmdb.Environment) -> int:
    """The bytes of a file's pages that are in use."""
    pages: int = environment.info()["last_pgno"] + 1
    return pages * environment.stat()["psize"]


def _size_for(length: int) -> int:
    """The size of the map for a file: all processes arrive at the same one."""
    size = FIRST_SIZE
    while size < length:
        size *= 2
    return size


def _allocate(path: Path, size: int) -> None:
    """Give every block of the file a place on the disk, without changing what is in it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _keep_from_children(path: Path) -> None:
    """Make no descriptor of the file inheritable; LMDB leaves one that is, and does not tell which."""
    file = path.stat()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  # only the names: the entries are links to anything
        with contextlib.suppress(OSError):  # the listing's own descriptor, and what other threads close meanwhile
            if os.path.samestat(os.fstat(int(name)), file):
                os.set_inheritable(int(name), False)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
