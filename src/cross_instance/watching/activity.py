"""Activity: what an instance's permits do, and what is seen of the others, as events; the files are written here.

1. Who takes or ends a permit only leaves a note, which is safe from a finaliser, too. A thread takes the notes, once a
   second at most, and tells what they say. Nobody waits for it; while nothing happens it sleeps. Notes beyond
   `MOST_NOTES` take the place of the oldest.
2. Instances that come and go, use that nears a limit and changed limits are seen in the store. One process of a machine
   looks for all (`shared_sights`), while somebody wants to know (`watch`), or when there is something to log. Who tells
   the others nothing looks for itself.
3. What is told goes to the feed, to other machines by way of the server that they share (`relay`), and to the log files
   (`journal`) of a project that has a folder `.pi`, unless `logging` is switched off; who watches reads from the feeds
   what the others tell.
4. How calls end is told to `health`, which answers overloads, and to who measures them (`hear_ends`).
5. A store out of reach leaves out what would have been seen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance import events
from cross_instance.health import Health
from cross_instance.rules.operations import FOREVER, Outcome
from cross_instance.watching.feed import FeedReader, FeedWriter, feed_path
from cross_instance.watching.journal import Journal
from cross_instance.watching.relay import RelayReader, RelayWriter, Way
from cross_instance.watching.shared_sights import SharedSights
from cross_instance.watching.sights import SEEN, label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cross_instance.events import Collected
    from cross_instance.membership.membership import Membership
    from cross_instance.watching.notes import Begun, Ended

    Hearers = tuple[Callable[[Sequence[Ended]], object], ...]

log = logging.getLogger("cross_instance")

Note = TypeVar("Note")

EVERY = 1.0
"""Seconds between ticks."""
READ_EVERY = 0.2
"""Seconds between looks into the feed, while somebody watches."""
PATIENCE = 5.0
"""Seconds that whoever leaves waits for what was told to be written."""
MOST_NOTES = 1 << 17


class Activity:
    """The activity of one membership, from joining to leaving. `hearers`: see `hear_ends`."""

    def __init__(self, membership: Membership, hearers: Hearers = ()) -> None:
        self.health = Health(membership)
        self.since = FOREVER
        """The first incarnation that it has heard of: those before were another process's."""
        self._membership = membership
        self._lock, self._ticking, self._reading = threading.Lock(), threading.Lock(), threading.Lock()
        self._begun: deque[Begun] = deque(maxlen=MOST_NOTES)
        self._ended: deque[Ended] = deque(maxlen=MOST_NOTES)
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._dozing = False
        self._unseen: float | None = None
        self._watchers = 0
        self._joined = False
        self._shares = True
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._sights = SharedSights(None, membership.glimpse)
        self._reader: FeedReader | None = None
        self._far: RelayReader | None = None
        self._writers: list[Journal | FeedWriter | RelayWriter] = []
        self._collected: Collected | None = None
        self._hearers = hearers

    @property
    def is_watched(self) -> bool:
        """Whether somebody wants to know of the others."""
        return self._watchers > 0

    def held_lately(self, node: str, now: int) -> int:
        """The most calls that were seen in flight at a node of late; 0 where nobody looked. `now`: the store's µs."""
        return self._sights.held_lately(node, now)

    # --- what permits tell -----------------------------------------------------------------------------------

    def began(self, note: Begun) -> None:
        """A permit was granted."""
        self._begun.append(note)
        self._stir()

    def ended(self, note: Ended) -> None:
        """A permit was settled."""
        self._ended.append(note)
        self._stir()

    def _stir(self) -> None:
        if self._dozing:
            self._dozing = False
            self._bell.put(None)

    # --- its life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The instance has joined."""
        membership = self._membership
        settings, path = membership.settings, self._feed_path()
        with self._lock:
            self._joined = True
            self.since = min(self.since, membership.incarnation)
            self._shares = settings.logging
            shared = path.with_suffix(".seen") if path is not None and self._shares else None
            self._sights = SharedSights(shared, membership.glimpse)
            if settings.logging and not self._writers:
                project = settings.project_dir / ".pi"
                if project.exists():
                    self._writers.append(Journal(project / "logs", as_json=settings.log_format == "json"))
                if path is not None:
                    self._writers.append(FeedWriter(path))
                    self._writers += [RelayWriter(way) for way in self._ways()]
                self._collected = membership.events.collect(self._stir)
            if self._watchers:
                self._read_along()
            stopping = self._stopping = threading.Event()
            name = "cross-instance-activity"
            self._thread = threading.Thread(target=self._serve, args=(stopping,), name=name, daemon=True)
            self._thread.start()

    def _ways(self) -> list[Way]:
        """How events pass between machines: one way, or none where the store is this machine's."""
        membership = self._membership
        feed = membership.store.feed
        if feed is None:
            return []
        return [Way(feed, lambda: membership.machine, membership.in_turn, lambda: membership.is_cut_off)]

    def _feed_path(self) -> Path | None:
        """Where the instances of the store meet; None for a store that only this process can have."""
        membership = self._membership
        return feed_path(membership.settings.runtime_dir, membership.address) if membership.owns_store else None

    def watch(self) -> None:
        """Somebody wants to know of the others from now on."""
        with self._lock:
            self._watchers += 1
            if self._joined:
                self._read_along()
        self._membership.nudge()
        self._bell.put(None)

    def _read_along(self) -> None:
        """With the lock held."""
        path = self._feed_path()
        if self._reader is None and path is not None:
            with suppress(OSError):
                self._reader = FeedReader(path)
            self._far = next((RelayReader(way) for way in self._ways()), None)

    def hear_ends(self, hearer: Callable[[Sequence[Ended]], object]) -> None:
        """Have a function called with the calls that have ended since the last time, in the thread that takes notes."""
        with self._lock:
            self._hearers = (*self._hearers, hearer)

    def unwatch(self) -> None:
        """He does not any more."""
        with self._lock:
            self._watchers -= 1
            if not self._watchers:
                self._read_no_more()

    def become_child(self) -> Activity:
        """Belong to nobody, in a forked child: what the parent's threads held there is free. Its successor, of which
        those hear who heard of the ends of calls."""
        self._lock, self._reading = threading.Lock(), threading.Lock()
        return Activity(self._membership, self._hearers)

    def _read_no_more(self) -> None:
        """With the lock held."""
        self._far = None
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()

    def stop(self) -> None:
        """The instance leaves: tell what was counted, write what was told, as far as the disk takes it in time."""
        with self._lock:
            thread, self._thread, self._joined = self._thread, None, False
        if thread is not None:
            self._stopping.set()
            self._bell.put(None)
            with suppress(RuntimeError):  # the process was interrupted while the thread was started
                thread.join(PATIENCE)
            if thread.is_alive():
                log.warning("the logs of %s are not written: the disk does not answer", self._membership.instance_id)
                return
            self._safely()
        with self._lock:
            writers, self._writers = self._writers, []
            collected, self._collected = self._collected, None
            self._read_no_more()
        if collected is not None:
            collected.close()
        for writer in writers:
            writer.close()

    def _serve(self, stopping: threading.Event) -> None:
        tick_at = time.monotonic()
        while not stopping.is_set():
            self._rest(stopping, tick_at)
            self._safely(self._relay)
            if time.monotonic() >= tick_at:
                self._safely()
                tick_at = time.monotonic() + EVERY

    def _rest(self, stopping: threading.Event, tick_at: float) -> None:
        """Wait until there is something to do: a note, once a tick is due; a look into the feed; a recovery."""
        now = time.monotonic()
        if now < tick_at:
            patience = min(tick_at - now, READ_EVERY) if self._watchers else tick_at - now
            stopping.wait(patience)
            return
        self._dozing = True
        if self._has_notes() or self._watchers:
            self._dozing = False
            return
        with suppress(Empty):
            self._bell.get(timeout=self.health.patience() if self._unseen is None else EVERY)
        self._dozing = False

    def _has_notes(self) -> bool:
        return bool(self._begun or self._ended or (self._collected is not None and self._collected.has_some))

    # --- a tick ----------------------------------------------------------------------------------------------

    def _safely(self, duty: Callable[[], None] | None = None) -> None:
        """Do something, else a tick, whatever it meets."""
        try:
            with self._ticking:
                (duty or self.tick)()
        except Exception:
            log.exception("the activity of %s met an unexpected error", self._membership.instance_id)

    def tick(self) -> None:
        """Tell what was noted and what is seen, answer overloads, and write what was told."""
        begun, ended = _taken(self._begun), _taken(self._ended)
        if self._collected is not None or self._watchers:
            if begun or ended or self._watchers:
                self._unseen = time.monotonic()
            self._tell_seen()
            self._tell_granted(Counter(note.account for note in begun))
            rejected = (note for note in ended if note.outcome is Outcome.REJECTED)
            self._tell_rejected(Counter((note.account, note.model) for note in rejected))
        self.health.take(begun, ended)
        if self._collected is not None:
            told = self._collected.take()
            for writer in self._writers:
                writer.write(told)
        for hearer in self._hearers if ended else ():
            hearer(ended)

    def _tell_seen(self) -> None:
        if self._unseen is None:
            return
        news = self._sights.look(self._unseen, last=self._stopping.is_set())
        if news is not None:
            self._unseen = None
            for kind, message, fields in news:
                self._tell(kind, message, **fields)

    def _relay(self) -> None:
        """Let who watches hear what the others tell."""
        told = self._membership.events
        with self._reading, suppress(OSError):
            for event in () if self._reader is None else self._reader.read():
                if event.instance_id != told.instance_id and (self._shares or event.kind not in SEEN):
                    told.relay(event)
        far = self._far
        for event in () if far is None else far.read():
            if event.kind not in SEEN:
                told.relay(event)

    def _tell_granted(self, counts: Counter[str]) -> None:
        for account, count in counts.items():
            used, amount = self._sights.usage.get(account, (None, None))
            message = f"{count} of {label_of(account)} granted"
            self._tell(events.REQUESTS_GRANTED, message, account=account, requests=count, used=used, amount=amount)

    def _tell_rejected(self, counts: Counter[tuple[str, str]]) -> None:
        for (account, model), count in counts.items():
            message = f"{count} of {label_of(account)} met 429 ({model or 'no model'})"
            self._tell(events.REQUESTS_REJECTED, message, account=account, model=model, requests=count)

    def _tell(self, kind: str, message: str, **fields: Any) -> None:
        """To who listens and to the logs; the status keeps no such events."""
        self._membership.events.tell(kind, message, None, kept=False, **fields)


def _taken(notes: deque[Note]) -> list[Note]:
    """What has been noted, in order."""
    return [notes.popleft() for _ in range(len(notes))]
