"""Activity: what an instance's permits do, and what it sees of the others, as events; the log files are written here.

1. Who takes or ends a permit only puts a note into a queue, which is safe from a finaliser, too. A thread counts the
   notes, once a second at most, looks at the store, and tells. Nobody waits for it; while nothing happens it sleeps.
2. Instances that come and go, and use that nears a limit, are looked for only while somebody wants to know
   (`watch`), or when there is something to tell of anyway.
3. It runs only where logs are written or somebody watches; a store out of reach leaves out what it would have told.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from cross_instance import events
from cross_instance.errors import CrossInstanceError
from cross_instance.journal import Journal
from cross_instance.rules.operations import Snapshot
from cross_instance.sights import Sights, label_of, usage_of

if TYPE_CHECKING:
    from cross_instance.events import Collected
    from cross_instance.membership import Membership
    from cross_instance.rules.operations import World

log = logging.getLogger("cross_instance")

EVERY = 1.0
"""Seconds between looks at the store."""

Note = tuple[str, str | None]
"""An account of which a permit was granted; with a model (or ""): of which a request met 429."""


class Activity:
    """The activity of one membership, from joining to leaving."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._lock, self._ticking = threading.Lock(), threading.Lock()
        self._notes: SimpleQueue[Note | None] = SimpleQueue()
        self._watchers = 0
        self._joined = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._sights = Sights()
        self._journal: Journal | None = None
        self._collected: Collected | None = None

    # --- what permits tell -----------------------------------------------------------------------------------

    def granted(self, account: str) -> None:
        """A permit was granted; `account` as operations name it."""
        if self._thread is not None:
            self._notes.put((account, None))

    def rejected(self, account: str, model: str) -> None:
        """A request met a 429."""
        if self._thread is not None:
            self._notes.put((account, model))

    def _stir(self) -> None:
        self._notes.put(None)

    # --- its life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The instance has joined."""
        with self._lock:
            self._joined, self._sights = True, Sights()
            settings = self._membership.settings
            if settings.logging and self._journal is None:
                self._journal = Journal(settings.project_dir / ".pi" / "logs", as_json=settings.log_format == "json")
                self._collected = self._membership.events.collect(self._stir)
            if self._journal is not None or self._watchers:
                self._run()

    def watch(self) -> None:
        """Somebody wants to know of the others from now on."""
        with self._lock:
            self._watchers += 1
            if self._joined:
                self._run()
        self._stir()

    def unwatch(self) -> None:
        """He does not any more."""
        with self._lock:
            self._watchers -= 1

    def stop(self) -> None:
        """The instance leaves: tell what was counted, write what was told."""
        with self._lock:
            thread, self._thread, self._joined = self._thread, None, False
        if thread is not None:
            self._stopping.set()
            self._stir()
            with suppress(RuntimeError):  # the process was interrupted while the thread was started
                thread.join()
            self._safely()
        with self._lock:
            journal, self._journal = self._journal, None
            collected, self._collected = self._collected, None
        if collected is not None:
            collected.close()
        if journal is not None:
            journal.close()

    def _run(self) -> None:
        """With the lock held."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._serve, name="cross-instance-activity", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(Empty):
                self._notes.put(self._notes.get(timeout=EVERY if self._watchers else None))
            self._safely()
            self._stopping.wait(EVERY)

    # --- a look ----------------------------------------------------------------------------------------------

    def _safely(self) -> None:
        try:
            with self._ticking:
                self.tick()
        except Exception:
            log.exception("the activity of %s met an unexpected error", self._membership.instance_id)

    def tick(self) -> None:
        """Tell what was noted and what is seen, and write what was told."""
        notes = self._noted()
        world = self._look() if notes or self._watchers else None
        for note, count in notes.items():
            self._tell(note, count, world)
        if world is not None:
            for kind, message, fields in self._sights.look(world):
                self._membership.events.tell(kind, message, None, kept=False, **fields)
        if self._journal is not None and self._collected is not None:
            self._journal.write(self._collected.take())

    def _noted(self) -> Counter[Note]:
        notes: Counter[Note] = Counter()
        for _ in range(self._notes.qsize()):
            with suppress(Empty):
                note = self._notes.get_nowait()
                if note is not None:
                    notes[note] += 1
        return notes

    def _look(self) -> World | None:
        if self._membership.fallback.outage is not None:
            return None
        try:
            return self._membership.run(Snapshot(counts=False))
        except CrossInstanceError as error:
            self._membership.standing.note_trouble(error)
            return None

    def _tell(self, note: Note, count: int, world: World | None) -> None:
        (account, model), tell = note, self._membership.events.tell
        if model is None:
            used, amount = usage_of(world, account)
            text = f"{count} of {label_of(account)} granted"
            fields = {"account": account, "requests": count, "used": used, "amount": amount}
            tell(events.REQUESTS_GRANTED, text, None, kept=False, **fields)
        else:
            text = f"{count} of {label_of(account)} met 429 ({model or 'no model'})"
            tell(events.REQUESTS_REJECTED, text, None, kept=False, account=account, model=model, requests=count)
