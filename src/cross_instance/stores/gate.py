"""The gate: one `flock` that every transaction of every process of this folder passes through.

1. The kernel drops the lock of a process that dies, at once, on Linux and macOS alike.
2. Threads of a process share its descriptor and so its lock: a thread lock comes first, and is never held while
   waiting for another process.
3. Waiting is trying again: a few times at once, then after short sleeps, then in line (`line`). `flock` itself can
   wait, but neither for a limited time nor, in an event loop, at all; a library must not use signals to change that.
   With four saturating processes on two busy cores both ways measured alike (75 k and 67 k operations/s, longest wait
   44 and 43 ms). Yielding the processor instead of sleeping measured worse: up to 220 ms, for a yield gives up a whole
   time slice.
4. The gate's file names the last process that entered, so that one which is stopped inside can be named. It is
   written only when it changes hands: reading it costs nothing, a map of the file shows it.
5. It also counts the generations of the files behind it: who replaces one makes every process open them anew.
6. And it keeps the newest format of records that a process behind it may have written (`records.FORMAT`), so that an
   earlier version of the package can say why it cannot read one.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
import time
import uuid
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from functools import partial
from typing import TYPE_CHECKING

from cross_instance.errors import StoreBusy
from cross_instance.stores.line import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TRY = LOCK_EX | LOCK_NB
HOLDER, GENERATION, FORMAT = 0, 1, 2
"""Where the file keeps what: signed 64-bit integers in the machine's order."""
SIZE = 4096

TRIES_AT_ONCE = 4
"""Tries before the first sleep."""
SHORTEST, LONGEST_BUSY, LONGEST = 50e-6, 1e-3, 10e-3
"""Sleeps between tries, in seconds: below 50 µs timers are not that exact (prctl(2), PR_SET_TIMERSLACK)."""
IN_LINE_AFTER, BEHIND = 5e-3, 50e-3
"""Seconds after which who waits stands in line, and between its tries while others are before it (`line`)."""
WHILE_IT_MOVES = 2
"""Times the patience for which it is waited where others come and go, which is a matter of time: nobody is stuck."""
CONTENDED = 0.1
"""Seconds for which a process that stays inside is taken to be busy; after them it may be stuck, and sleeps grow on."""


class Gate:
    """The gate of one folder, for one process."""

    __slots__ = ("_descriptor", "_header", "_map", "_path", "_pid", "leave")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = os.getpid()
        if not path.exists():
            _create(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            length = os.fstat(self._descriptor).st_size
            os.pwrite(self._descriptor, bytes(max(0, SIZE - length)), length)  # somebody has cut it short
            self._map = mmap.mmap(self._descriptor, SIZE, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._header = memoryview(self._map).cast("q")
        self.leave: Callable[[], object] = partial(flock, self._descriptor, LOCK_UN)
        """Open the gate for others; harmless where `enter` failed. Not a function of Python's, so that Ctrl-C in a
        `finally` block cannot come before its work is done."""

    def enter(self) -> bool:
        """Try once to enter; whether it worked."""
        try:
            flock(self._descriptor, TRY)
        except BlockingIOError:
            return False
        if self._header[HOLDER] != self._pid:
            with contextlib.suppress(OSError):  # the disk may be full, and the name is only shown to people
                self._write(HOLDER, self._pid)
        return True

    def holder(self) -> int:
        """The process that entered last."""
        return self._header[HOLDER]

    def generation(self) -> int:
        """How often files behind the gate were replaced; to be read inside."""
        return self._header[GENERATION]

    def replace(self) -> None:
        """Make every process open the files behind the gate anew; called inside."""
        self._write(GENERATION, self.generation() + 1)

    def newest_format(self) -> int:
        """The newest format of records that may stand in the files behind the gate."""
        return self._header[FORMAT]

    def announce_format(self, number: int) -> None:
        """Say in which format this process writes; called inside."""
        if self._header[FORMAT] < number:
            with contextlib.suppress(OSError):  # as for the holder: it is only for what people are told
                self._write(FORMAT, number)

    def is_gone(self) -> bool:
        """Whether the path does not lead to the open file any more, which was removed or moved with its folder: then
        others stand at another gate."""
        try:
            found = self._path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # it cannot be told just now
            return False
        return not os.path.samestat(found, os.fstat(self._descriptor))

    def close(self) -> None:
        """Close the descriptor without unlocking: a forked child's copy must not open its parent's gate."""
        self._header.release()
        self._map.close()
        os.close(self._descriptor)

    def _write(self, field: int, value: int) -> None:
        os.pwrite(self._descriptor, struct.pack("=q", value), 8 * field)


def _create(path: Path) -> None:
    """Make the file, unless another process does; under its name it is whole, and no read of its map meets a hole."""
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, bytes(SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        os.close(descriptor)
        new.unlink()


class Tries:
    """Paces one wait at the gate of `folder` until `deadline` (`time.monotonic`): some tries at once, then after sleeps
    that double, then in line; the first there tries as often as who has just come.

    `holder` tells who entered last. While that changes, the wait goes on for up to `WHILE_IT_MOVES` times as long; a
    process that stays inside is no reason to try often.
    """

    def __init__(self, deadline: float, folder: Path, holder: Callable[[], int]) -> None:
        self._deadline = deadline
        self._folder = folder
        self._holder = holder
        self._place: Place | None = None
        self._begun = self._moved = time.monotonic()
        self._patience = deadline - self._begun

    def __iter__(self) -> Iterator[None]:
        for _ in range(TRIES_AT_ONCE):
            yield
        pause, before, in_line_at = SHORTEST, self._holder(), self._begun + IN_LINE_AFTER
        try:
            while self._is_worth_waiting(now := time.monotonic()):
                if now >= in_line_at:
                    in_line_at = math.inf
                    self._stand_in_line()
                self._pause(pause)
                yield
                present = self._holder()
                if present != before:
                    self._moved, before = now, present
                pause = min(2 * pause, self._longest(now))
        finally:
            if self._place is not None:
                self._place.leave()

    def _is_worth_waiting(self, now: float) -> bool:
        return now < self._deadline or (not self._is_stuck(now) and now < self._begun + WHILE_IT_MOVES * self._patience)

    def _is_stuck(self, now: float) -> bool:
        """Whether the same process was inside at every look, for half of the patience at least."""
        return now - self._moved >= self._patience / 2

    def _stand_in_line(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._place = Place(self._folder)

    def _longest(self, now: float) -> float:
        """The longest sleep: who is first in line tries as often as who has just come, while others come and go."""
        if now - self._moved > CONTENDED:
            return LONGEST
        return LONGEST_BUSY if self._place is None else SHORTEST

    def _pause(self, seconds: float) -> None:
        if self._place is None or self._place.is_first:
            time.sleep(seconds)
        else:
            self._place.wait(BEHIND)

    def refusal(self) -> StoreBusy:
        """What to say once they are over."""
        pid = self._holder()
        if self._is_stuck(time.monotonic()):
            return StoreBusy(
                f"the process {pid} holds the store in {self._folder} and does not let go; is it stopped? "
                f"`kill -CONT {pid}` lets it go on, ending it frees the store",
                pid,
            )
        return StoreBusy(
            f"other processes, one after the other, were in the store in {self._folder} whenever this one tried: the "
            "machine has more to do than it can; try again, or start fewer processes at a time"
        )
