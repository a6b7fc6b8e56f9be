"""Presence: a process shows that it lives by a lock which the kernel drops when it dies.

1. `instances/<id>.lock` in the runtime folder is locked for as long as the instance lives. Its JSON is for
   people: no decision about its instance rests on it. The file is as old as the instance's last beat.
2. A file that nobody holds belongs to a dead instance; one that is missing says nothing. Whoever looks takes
   the lock shared and for an instant, so one who fails to take it tries again before believing in a rival.
3. A file is locked, then checked to be still the one in the folder: whoever removes it holds its lock.
4. A forked child closes its copy of the descriptor without unlocking: the lock is its parent's.
5. A file that does not hold what it should is reported and set aside.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import platform
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from cross_instance.errors import ConfigError, DuplicateInstance
from cross_instance.stores.folder import boot_id, make_private

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("cross_instance")

INSTANCES = "instances"
"""The folder of the lock files, below the runtime folder."""
SUFFIX = ".lock"
LONGEST_NAME = 200
"""Of an encoded id, in bytes; file systems allow 255 with the suffix."""
TRIES = 10
PAUSE = 0.02
"""Seconds between tries to take a lock that a looker may be holding."""


class Card(msgspec.Struct, frozen=True, rename="camel"):
    """What the file of an instance tells people; `started_at` as RFC 3339, `store` without any password."""

    instance_id: str
    pid: int
    session_id: str
    started_at: str
    cwd: str
    host: str
    store: str = ""
    version: str = ""


def file_name(instance_id: str) -> str:
    """The name of an instance's file: every character but letters, digits and `_.-~` is percent-encoded.

    Raises `ConfigError` for an id that is empty or cannot be written as UTF-8.
    """
    try:
        encoded = quote(instance_id, safe="")
    except UnicodeEncodeError:
        encoded = ""
    if not encoded or "\0" in instance_id:
        raise ConfigError(f"{instance_id!r} cannot be an instance id: give some text", key="instanceId")
    if len(encoded) > LONGEST_NAME:
        digest = hashlib.sha256(instance_id.encode()).hexdigest()[:16]
        encoded = f"{encoded[: LONGEST_NAME - 17]}~{digest}"
    return encoded + SUFFIX


def instances_folder(runtime_dir: Path) -> Path:
    """The folder of the lock files, made where it is missing, for its owner only.

    Raises `StoreUnavailable` where the runtime folder is not, and cannot be made, the owner's alone.
    """
    make_private(runtime_dir)
    folder = runtime_dir / INSTANCES
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def machine_of(folder: Path) -> str:
    """What two processes share exactly when they see each other's locks: kernel, boot and folder."""
    found = folder.stat()
    return f"{this_boot()}{found.st_dev:x}.{found.st_ino:x}"


def this_boot() -> str:
    """How the names of all `machine_of` this boot of this kernel begin."""
    return f"{platform.node()}/{boot_id()}/"


class Presence:
    """The lock of one instance, held from `take` to `release`; shared by all of this process under one id."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._holders = 1

    @classmethod
    def take(cls, folder: Path, card: Card) -> Presence:
        """Hold the lock of an instance id.

        Raises `DuplicateInstance` where another process holds it, `OSError` where the folder does not allow it.
        """
        path = folder / file_name(card.instance_id)
        with _guard:
            held = _held.get(path)
            if held is not None:
                held._holders += 1
                return held
            presence = _held[path] = cls(path, _lock_and_write(path, card))
            return presence

    def renew(self, card: Card) -> None:
        """Date the file, and hold the lock again where somebody has removed it, or its folder, while it was held.

        Raises `DuplicateInstance` where another process has taken the id meanwhile.
        """
        with _guard:
            if _is_at(self.path, self._descriptor):
                os.utime(self._descriptor)
            else:
                descriptor = _lock_and_write(self.path, card)
                os.close(self._descriptor)
                self._descriptor = descriptor

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still where the others look for it."""
        return _is_at(self.path, self._descriptor)

    def release(self, *, remove: bool) -> None:
        """Let go. The last holder removes the file, unless others must still learn of this end from it."""
        with _guard:
            self._holders -= 1
            if self._holders or _held.get(self.path) is not self:
                return
            del _held[self.path]
            if remove and _is_at(self.path, self._descriptor):
                with suppress(OSError):  # then others find that nobody holds it
                    self.path.unlink()
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)


_guard = threading.Lock()
_held: dict[Path, Presence] = {}


def _let_go_in_child() -> None:
    global _guard  # a thread that does not exist in the child may have held it
    _guard = threading.Lock()
    for presence in _held.values():
        os.close(presence._descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


def _lock_and_write(path: Path, card: Card) -> int:
    descriptor = _lock(path, card.instance_id)
    try:
        set_aside_if_damaged(path)
        _write(descriptor, msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(path: Path, instance_id: str) -> int:
    """A descriptor that holds the lock of the file at this path."""
    for _ in range(TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if try_lock(descriptor, fcntl.LOCK_EX):
            if _is_at(path, descriptor):
                return descriptor
            os.close(descriptor)
        else:
            os.close(descriptor)
            time.sleep(PAUSE)
    raise DuplicateInstance(instance_id, _pid_in(path))


def try_lock(descriptor: int, how: int) -> bool:
    """Lock a file without waiting; `how` is `LOCK_EX` or `LOCK_SH`."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    opened = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def read_card(path: Path) -> Card | None:
    """What a file says; None where it is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _pid_in(path: Path) -> int:
    card = read_card(path)
    return 0 if card is None else card.pid


def is_damaged(path: Path) -> bool:
    """Whether a file is there, and holds something other than it should."""
    return path.exists() and path.stat().st_size > 0 and read_card(path) is None


def set_aside_if_damaged(path: Path) -> None:
    """Report a damaged file and keep a copy of it; the caller holds its lock."""
    if is_damaged(path):
        aside = path.with_suffix(f".corrupt-{time.time_ns()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(path.read_bytes())
        log.warning("the instance file %s was damaged; what it held is in %s now", path, aside)


def _write(descriptor: int, contents: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, contents, 0)
