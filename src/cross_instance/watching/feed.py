"""The feed: what the instances of a store tell, in one file of this machine that any of them writes and reads.

1. Each instance adds its own events, in their order, as JSON lines. One that is cut off from the store tells that, too.
2. Who reads along costs the store nothing, and slows nobody. A file of `LONGEST` bytes is moved aside; one such file is
   kept, and read to its end by who was at it.
3. Events hold no keys; the files are their owner's alone. What cannot be written is left out, and told once.
4. Instances of other machines are not in it (`relay`), but what is seen of them in the store is (`shared_sights`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING

from cross_instance.events import Event
from cross_instance.spelling import camel
from cross_instance.watching.shared_file import Reader, SharedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logging.getLogger("cross_instance")

LONGEST = 4 << 20
"""Bytes of a file from which on it is moved aside."""
NEVER = 253_370_764_800.0
"""Unix time in seconds: the year 9999, which is over nowhere."""
FOLDER = "events"
"""Below the runtime folder."""


def feed_path(runtime_dir: Path, address: str) -> Path:
    """The file of a store; `address`: without a password."""
    return runtime_dir / FOLDER / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.jsonl"


class FeedWriter:
    """Adds the events of one instance."""

    def __init__(self, path: Path, longest: int = LONGEST) -> None:
        self._path = path
        self._file = SharedFile(path, longest, kept=1)
        self._failed = False

    def write(self, told: Iterable[Event]) -> None:
        """Add events."""
        for event in told:
            try:
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                self._file.write(to_line(event))
            except OSError as error:
                if not self._failed:
                    log.warning("other processes do not hear of events: %s cannot be written: %s", self._path, error)
                self._failed = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FeedReader:
    """Reads the events that instances tell from now on; `whole`: also those that are still in the file."""

    def __init__(self, path: Path, *, whole: bool = False) -> None:
        self._reader = Reader(path, whole=whole)

    def read(self) -> Iterator[Event]:
        """What has been told since the last time, in the order of each instance. Raises `OSError`."""
        for line in self._reader.read():
            event = of_line(line)
            if event is not None:
                yield event

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def to_line(event: Event) -> str:
    """An event as a line of JSON, with camelCase keys."""
    plain = {camel(name): value for name, value in event.to_dict().items()}
    return json.dumps(plain, ensure_ascii=True, separators=(",", ":"), default=str)


def of_line(line: bytes) -> Event | None:
    """The event of a line; None where it is damaged."""
    try:
        plain = json.loads(line)
        at = float(plain["at"])
        if not 0 <= at < NEVER:
            return None
        return Event(
            kind=str(plain["kind"]),
            at=at,
            instance_id=str(plain["instanceId"]),
            message=str(plain["message"]),
            fields=MappingProxyType(dict(plain["fields"])),
            seq=int(plain["seq"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
