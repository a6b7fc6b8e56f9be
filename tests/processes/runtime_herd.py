"""Real processes for the tests of runtimes: started by a zygote, told apart by pid, ended whatever happens.

All of them say what they do into one pipe. What they write to standard error is kept; no part may meet an error that
it does not handle, also not while its interpreter shuts down.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path
from select import select
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from tests.processes import runtime_zygote
from tests.processes.runtime_parts import now

from cross_instance.stores.folder import GATE
from cross_instance.stores.gate import Tries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE = 40.0
"""Seconds until a test gives up: the machine may be busy. Less than the default heartbeat timeout."""
ROOT = Path(__file__).parents[2]


def move_away(folder: Path) -> Path:
    """Give a folder that is in use another name, which is returned."""
    return folder.rename(folder.with_name(f"{folder.name}-{time.time_ns()}"))


def take_away(folder: Path) -> None:
    """Remove a folder that is in use; emptied where it is, it could be written to meanwhile."""
    shutil.rmtree(move_away(folder))


class Event(NamedTuple):
    """A line that a part has said. `at`: the store's clock, µs."""

    word: str
    pid: int
    at: int
    rest: tuple[str, ...]


class Herd:
    """Processes that share one pipe for what they say; `events` is what has been read from it so far.

    `package` is a folder that holds another version of the package, for them to import.
    """

    def __init__(self, package: Path | None = None) -> None:
        self.events: list[Event] = []
        self.living: dict[int, int] = {}
        """Pids, each with the descriptor that writes to its standard input."""
        self._partial = b""
        self._path = os.pathsep.join(map(str, [*filter(None, [package]), ROOT, *sys.path]))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self._ear, self._mouth = os.pipe()
            stack.callback(os.close, self._ear)
            stack.callback(os.close, self._mouth)
            self._requests, theirs = socket.socketpair()
            self._answers = stack.enter_context(self._requests.makefile("r"))
            stack.enter_context(self._requests)
            with theirs:
                self._zygote = subprocess.Popen(
                    [sys.executable, "-W", "error", runtime_zygote.__file__],
                    stdin=theirs.fileno(),
                    stderr=self._errors.fileno(),
                    env=os.environ | {"PYTHONPATH": self._path},
                )
            stack.callback(self._zygote.wait)
            stack.callback(self._requests.shutdown, socket.SHUT_RDWR)
            stack.callback(self._end_all)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._end_all()
            complaints = self.complaints()
        assert "Traceback" not in complaints, complaints
        assert "Error" not in complaints, complaints

    def complaints(self) -> str:
        """What all of them have written to standard error."""
        length = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), length, 0).decode()

    # --- life and death ----------------------------------------------------------------------------------------

    def start(self, part: Callable[..., None], **arguments: Any) -> int:
        """Start a part; its pid."""
        theirs, ours = os.pipe()
        request = json.dumps({"part": part.__name__, "arguments": arguments}, default=str).encode()
        try:
            socket.send_fds(self._requests, [request], [theirs, self._mouth, self._errors.fileno()])
        finally:
            os.close(theirs)
        pid = int(self._answers.readline())
        self.living[pid] = ours
        return pid

    def begin(self, part: Callable[..., None], count: int, **arguments: Any) -> list[int]:
        """Start so many of a part that says when it is ready, and have all of them go on at once; their pids."""
        pids = [self.start(part, **arguments) for _ in range(count)]
        for pid in pids:
            self.hear("ready", pid)
        for pid in pids:
            self.tell(pid)
        return pids

    def tell(self, pid: int, *words: object) -> None:
        """Write a line to a part's standard input."""
        os.write(self.living[pid], " ".join(map(str, words)).encode() + b"\n")

    def stop(self, pid: int, runtime_dir: Path) -> None:
        """Stop a process; at a store in this folder somewhere outside of it: inside, it would hold up everybody."""
        if not (runtime_dir / GATE).exists():
            os.kill(pid, signal.SIGSTOP)
            assert self._answer(-pid) == 0
            return
        with (runtime_dir / GATE).open("rb+") as gate:
            while True:
                os.kill(pid, signal.SIGSTOP)
                assert self._answer(-pid) == 0
                if _passes(gate, 1.0):
                    return
                os.kill(pid, signal.SIGCONT)
                assert _passes(gate, PATIENCE)

    def put_file_for(self, runtime_dir: Path) -> int:
        """Have a file where the folder is, while all are stopped: nobody makes it again in between. The store's clock
        (µs) when they went on."""
        for pid in self.living:
            self.stop(pid, runtime_dir)
        take_away(runtime_dir)
        runtime_dir.touch()
        at = now()
        for pid in self.living:
            os.kill(pid, signal.SIGCONT)
        return at

    def kill(self, *pids: int) -> int:
        """Kill at one moment, which is returned: the store's clock (µs), read before."""
        at = now()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            assert self.end(pid) == -signal.SIGKILL, "it had ended by itself"
        return at

    def end(self, pid: int) -> int:
        """Await the end of a process: its exit code, or the negative number of the signal that ended it."""
        code = self._answer(pid)
        os.close(self.living.pop(pid))
        return code

    def _answer(self, request: int) -> int:
        """The zygote's answer; meanwhile nobody is kept from speaking."""
        self._requests.sendall(b"%d" % request)
        while not select([self._requests], [], [], 0)[0]:
            self._hear()
        return int(self._answers.readline())

    def _end_all(self) -> None:
        for pid in list(self.living):
            os.kill(pid, signal.SIGKILL)
            self.end(pid)

    # --- listening ---------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object]) -> None:
        """Listen until it is so; fail where it takes too long."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"it never came true; {self.complaints()}"
            self._hear()

    def hear(self, word: str, pid: int | None = None, *, count: int = 1, since: int = 0) -> Event:
        """Listen until `count` events have come, of one process or any, after the first `since`; the last of them."""

        def come() -> list[Event]:
            return [e for e in self.events[since:] if e.word == word and pid in {None, e.pid}]

        self.until(lambda: len(come()) >= count)
        return come()[count - 1]

    def hear_more(self, count: int) -> None:
        """Listen until so many more events have come."""
        enough = len(self.events) + count
        self.until(lambda: len(self.events) >= enough)

    def await_all(self, word: str, pids: Sequence[int], since: int) -> int:
        """Listen until each has said it since an instant; when the last of them said it for the first time."""
        self.until(lambda: all(self.said(word, pid, since) for pid in pids))
        return max(self.said(word, pid, since)[0].at for pid in pids)

    def hear_out(self) -> None:
        """Take what has been said until now."""
        while select([self._ear], [], [], 0)[0]:
            self._hear()

    # --- what was heard ----------------------------------------------------------------------------------------

    def said(self, word: str, pid: int, since: int) -> list[Event]:
        """What a process has said since an instant (the store's clock, µs)."""
        return [event for event in self.events if event.word == word and event.pid == pid and event.at >= since]

    def granted_between(self, begin: int, end: int) -> int:
        """How many permits all of them were granted in a time."""
        return sum(event.word == "granted" and begin <= event.at <= end for event in self.events)

    def _hear(self) -> None:
        """Take what has been said, or what is said within a moment."""
        if select([self._ear, self._requests.fileno()], [], [], 0.1)[0][:1] == [self._ear]:
            *lines, self._partial = (self._partial + os.read(self._ear, 65_536)).split(b"\n")
            for line in lines:
                word, pid, at, *rest = line.decode().split(" ")
                self.events.append(Event(word, int(pid), int(at), tuple(rest)))


def _passes(gate: IO[bytes], seconds: float) -> bool:
    """Whether the store's gate can be entered within so long."""
    for _ in Tries(time.monotonic() + seconds, Path(gate.name).parent, lambda: 0):
        with suppress(BlockingIOError):
            flock(gate, LOCK_EX | LOCK_NB)
            flock(gate, LOCK_UN)
            return True
    return False
