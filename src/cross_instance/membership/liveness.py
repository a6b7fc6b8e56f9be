"""Liveness: how a membership shows the other processes of this machine that it lives, from joining to leaving.

1. The file is held before the instance enters the registry, and until it has left: who finds it there and its file
   held by nobody knows that it died.
2. Each beat renews the file (`presence`), also where somebody has removed it, or the whole runtime folder.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cross_instance._version import __version__
from cross_instance.membership.presence import Card, Presence, instances_folder, machine_of
from cross_instance.spelling import time_text
from cross_instance.stores.folder import describe

if TYPE_CHECKING:
    from collections.abc import Iterator


def card_of(instance_id: str, session_id: str, cwd: str, store: str) -> Card:
    """What this process tells people of an instance that begins now."""
    return Card(
        instance_id=instance_id,
        pid=os.getpid(),
        session_id=session_id,
        started_at=time_text(time.time_ns() // 1000),
        cwd=cwd,
        host=platform.node(),
        store=store,
        version=__version__,
    )


def working_folder() -> str:
    """The working folder; "" where there is none any more."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


class Liveness:
    """The lock file of one instance in a runtime folder, held until `end`; `machine` is as `machine_of` says.

    Raises `DuplicateInstance` where another process holds it, `StoreUnavailable` where the folder cannot be used.
    """

    def __init__(self, runtime_dir: Path, card: Card) -> None:
        self.card = card
        self._runtime_dir = runtime_dir
        with self._usable_folder() as folder:
            self.folder = folder
            self.machine = machine_of(folder)
            self._presence = Presence.take(folder, card)

    def renew(self) -> None:
        """Be seen to live from now on; raises as at the beginning."""
        with self._usable_folder() as folder:
            self._presence.renew(self.card)
            self.machine = machine_of(folder)

    @property
    def is_seen(self) -> bool:
        """Whether the folder is still the one in which others see it live."""
        return self._presence.is_in_place

    def end(self, *, remove: bool) -> None:
        """Let go; the file goes too, unless others must still learn of this end from it."""
        self._presence.release(remove=remove)

    @contextmanager
    def _usable_folder(self) -> Iterator[Path]:
        """The folder of the lock files; what the system says against using it is told as `StoreUnavailable`."""
        try:
            yield instances_folder(self._runtime_dir)
        except OSError as error:
            raise describe(error, Path(error.filename or self._runtime_dir)) from error
