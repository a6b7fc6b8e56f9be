"""The log files for people, `.pi/logs/coordinator.log` and `.pi/logs/adaptive-rate-controller.log`, as the guide shows.

1. Several processes write to one file: a line is one write to its end, so that none is torn. Who finds the file too
   long and gets the lock moves it aside; the others go on in the new one.
2. Only events are written, and no event holds a key. Nothing in a line can begin another one.
3. The folder and files are their owner's alone. A file that cannot be written is told of once; nothing else is harmed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import IO, TYPE_CHECKING, Any, cast

from cross_instance import events
from cross_instance.sights import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cross_instance.events import Event

log = logging.getLogger("cross_instance")

COORDINATOR_LOG = "coordinator.log"
ADAPTIVE_LOG = "adaptive-rate-controller.log"
LONGEST = 5 << 20
"""Bytes of a file from which on it is moved aside."""
KEPT = 3
"""Files moved aside that are kept: `coordinator.log.1` is the newest."""

ADAPTIVE = frozenset({events.REQUESTS_REJECTED, events.LIMIT_CHANGED, "limit-learned", "limits-reset"})
"""The kinds of events that tell of rates and 429s."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SharedFile(RotatingFileHandler):
    """A rotated log file that several processes write."""

    stream: Any

    def __init__(self, path: Path, longest: int = LONGEST) -> None:
        super().__init__(path, maxBytes=longest, backupCount=KEPT, delay=True)

    def _open(self) -> IO[Any]:  # type: ignore[override]  # bytes, unbuffered: a line is one write
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return cast("IO[Any]", os.fdopen(os.open(self.baseFilename, flags, 0o600), "ab", buffering=0))

    def write(self, line: str) -> None:
        """Add a line. Raises `OSError`."""
        data = (line + "\n").encode(errors="backslashreplace")
        assert self.lock is not None
        with self.lock:
            self._reopen_if_moved()
            if os.fstat(self.stream.fileno()).st_size + len(data) > self.maxBytes:
                self._rotate_once(len(data))
            self.stream.write(data)

    def _reopen_if_moved(self) -> None:
        if self.stream is not None and not self._is_current():
            self.stream.close()
            self.stream = None
        if self.stream is None:
            self.stream = self._open()

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.stream.fileno()), os.stat(self.baseFilename))  # noqa: PTH116
        return False

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
            os.close(lock)


class Journal:
    """The two files in `folder`; `as_json`: a JSON object for each event instead of the guide's lines."""

    def __init__(self, folder: Path, *, as_json: bool = False, longest: int = LONGEST) -> None:
        self._folder = folder
        self._as_json = as_json
        self._files = {name: SharedFile(folder / name, longest) for name in (COORDINATOR_LOG, ADAPTIVE_LOG)}
        self._failed = False

    def write(self, told: Iterable[Event]) -> None:
        """Write events down."""
        for event in told:
            file = self._files[ADAPTIVE_LOG if event.kind in ADAPTIVE else COORDINATOR_LOG]
            try:
                self._make_folder()
                for line in [_json(event)] if self._as_json else _lines(event):
                    file.write(line)
            except OSError as error:
                if not self._failed:
                    log.warning("the logs in %s cannot be written: %s", self._folder, error)
                self._failed = True

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.parent.mkdir(mode=0o700, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)


def _lines(event: Event) -> Iterator[str]:
    """An event as the guide shows it."""
    moment = datetime.fromtimestamp(event.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    for text in _texts(event):
        yield f"[{moment}] {_CONTROL.sub(' ', text)}"


def _texts(event: Event) -> Iterator[str]:
    fields = event.fields
    if event.kind == events.REQUESTS_GRANTED:
        count, used, amount = fields["requests"], fields["used"], fields["amount"]
        noun = "request" if count == 1 else "requests"
        yield f"Instance {event.instance_id} requested {count} {noun} ({label_of(fields['account'])})"
        known = (
            "" if used is None else f": {used} requests used" if amount is None else f": {used}/{amount} requests used"
        )
        yield f"Approved{known}"
    elif event.kind == events.REQUESTS_REJECTED:
        model = f" {fields['model']}" if fields["model"] else ""
        yield f"429 error detected, adjusting rate limit ({label_of(fields['account'])}{model})"
    elif event.kind == events.LIMIT_CHANGED:
        yield event.message
    else:
        yield f"Instance {event.instance_id}: {event.kind}: {event.message}"


def _json(event: Event) -> str:
    moment = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    plain = event.to_dict()
    plain["instanceId"] = plain.pop("instance_id")
    del plain["at"]
    return json.dumps({"time": moment, **plain}, ensure_ascii=True, default=str)
