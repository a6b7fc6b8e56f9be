"""The log files for people, `.pi/logs/coordinator.log` and `.pi/logs/adaptive-rate-controller.log`, as the guide shows.

1. Several processes write to one file (`shared_file`).
2. Only events are written, and no event holds a key. Nothing in a line can begin another one.
3. The folder and files are their owner's alone. A file that cannot be written is told of once; nothing else is harmed.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cross_instance import events
from cross_instance.spelling import printable
from cross_instance.watching.shared_file import LONGEST, SharedFile
from cross_instance.watching.sights import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cross_instance.events import Event

log = logging.getLogger("cross_instance")

COORDINATOR_LOG = "coordinator.log"
ADAPTIVE_LOG = "adaptive-rate-controller.log"
ADAPTIVE = frozenset({events.REQUESTS_REJECTED, events.LIMIT_CHANGED, events.LIMIT_LEARNED, events.LIMITS_RESET})
"""The kinds of events that tell of rates and 429s."""


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
        yield printable(f"[{moment}] {text}")


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
