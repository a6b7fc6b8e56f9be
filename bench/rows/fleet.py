"""Many processes of one machine with their logs on: what they cost idle, and with a request a second each."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from bench.crew import helper
from bench.measuring import Role, Row, Subject
from bench.ours import MODEL, NEVER_BINDING, PROVIDER, settings_in
from cross_instance import Runtime
from cross_instance.watching.feed import feed_path
from cross_instance.watching.journal import COORDINATOR_LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.measuring import Figures, Scale

    Member = Callable[[Connection[Any, Any], Path, float], None]

APART = 1.0
"""Seconds between two requests of one process."""
READ_EVERY = 0.05
"""Seconds between two readings of what was seen last: far less than looks are apart."""
LEAD = 0.2
"""Seconds between the order and the start, in which it reaches everybody."""
REQUESTED = re.compile(r"requested (\d+) request")
LINE = b"[2026-02-25 02:00:00] Instance analyzer-1 requested 1 request (acme)\n"
"""About what a request adds to the log."""


@contextmanager
def subjects(scale: Scale, folder: Path) -> Iterator[list[Subject]]:
    numbers = count()
    yield [
        Subject(name, role, partial(_measure, member, size, scale, folder, numbers), f"{size} processes")
        for size in scale.fleets
        for name, role, member in (
            ("cross-instance, Runtime", Role.OURS, serve_requests),
            ("sleeps, and writes a line a second", Role.FLOOR, serve_lines),
        )
    ]


def _measure(member: Member, size: int, scale: Scale, folder: Path, numbers: Iterator[int]) -> Figures:
    """Start a fleet, measure it idle and at work, and end it."""
    seconds, idle_seconds = scale.fleet_seconds, scale.idle_seconds
    own = folder / str(next(numbers))
    (own / ".pi" / "logs").mkdir(parents=True)
    with ExitStack() as stack:
        begun = time.monotonic()
        fleet = [
            stack.enter_context(helper(member, own, APART * place / size, method="forkserver"))[1]
            for place in range(size)
        ]
        for connection in fleet:
            connection.recv()
        started = time.monotonic() - begun
        idle = _order(fleet, 0.0, idle_seconds)
        with _Looks(own) as looks:
            busy = _order(fleet, APART, seconds)
        for connection in fleet:
            connection.send(None)
    made, logged = sum(requests for _, requests in busy), _logged(own)
    return {
        "started in s": started,
        "idle, % of a core": 100 * sum(used for used, _ in idle) / idle_seconds,
        "at work, % of a core": 100 * sum(used for used, _ in busy) / seconds,
        "looks/s": looks.count / seconds,
        "requests": made,
        "in the log": logged,
    }


def _order(fleet: list[Connection[Any, Any]], apart: float, seconds: float) -> list[tuple[float, int]]:
    """Have all make requests so far apart (0: none) for some seconds; processor time, and requests so far, of each."""
    start = time.monotonic() + LEAD
    for connection in fleet:
        connection.send((start, start + seconds, apart))
    return [connection.recv() for connection in fleet]


def _logged(folder: Path) -> int:
    text = (folder / ".pi" / "logs" / COORDINATOR_LOG).read_text(encoding="utf-8")
    return sum(int(found) for found in REQUESTED.findall(text))


class _Looks:
    """Counts the looks at the store that are told in a folder."""

    def __init__(self, folder: Path) -> None:
        settings = settings_in(folder)
        self.count = 0
        self._seen = feed_path(settings.runtime_dir, str(settings.runtime_dir)).with_suffix(".seen")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        last = self._begun()
        while not self._ended.wait(READ_EVERY):
            begun = self._begun()
            self.count += begun != last
            last = begun

    def _begun(self) -> float:
        """When the last look began; 0 where nobody looked yet."""
        try:
            return float(json.loads(self._seen.read_bytes()).get("begun", 0.0))
        except FileNotFoundError:
            return 0.0


# --- the processes -------------------------------------------------------------------------------------------------


def serve_requests(connection: Connection[Any, Any], folder: Path, offset: float) -> None:
    """The life of one of ours."""
    with Runtime(settings=settings_in(folder, **NEVER_BINDING)) as runtime:

        def request() -> None:
            with runtime.permit(PROVIDER, MODEL, tokens=1_000):
                pass

        _serve(connection, offset, request)


def serve_lines(connection: Connection[Any, Any], folder: Path, offset: float) -> None:
    """The life of one that coordinates nothing and keeps a log of its own making."""
    log = os.open(folder / ".pi" / "logs" / COORDINATOR_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    _serve(connection, offset, lambda: os.write(log, LINE))
    os.close(log)


def _serve(connection: Connection[Any, Any], offset: float, request: Callable[[], object]) -> None:
    request()  # the first one publishes the limits
    made = 1
    connection.send("ready")
    while (order := connection.recv()) is not None:
        start, until, apart = order
        _sleep_until(start)
        begun = time.process_time()
        for turn in count() if apart else ():
            at = start + offset + turn * apart
            if at >= until:
                break
            _sleep_until(at)
            request()
            made += 1
        _sleep_until(until)
        connection.send((time.process_time() - begun, made))


def _sleep_until(instant: float) -> None:
    time.sleep(max(0.0, instant - time.monotonic()))


ROW = Row(
    name="fleet",
    title="Many processes on one machine, with logs",
    method=(
        "50 and 200 processes with `logging` on in one project: seconds until all have started, forked one after the "
        "other from a process that has imported everything; the processor time of all while nobody does anything, for "
        "as long as it takes each to send one heartbeat, and for five seconds while each takes a permit a second and "
        "gives it back; how often all of them together look at the store then (at least a hundred times as long apart "
        "as the last look took); and how many of the requests, the first one of each process with them, stand in the "
        "log. The floor is as many processes that sleep, and write a line a second."
    ),
    rounds=1,
    targets=(),
    shown="at work, % of a core",
    subjects=subjects,
)
