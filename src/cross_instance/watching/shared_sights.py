"""Looks at the store that the instances of a machine share: one of them looks and tells, the others read what it saw.

1. What was seen last, and when the next look is due, stands in a file beside the feed. Who finds it due says so there,
   looks, and tells what is new since the last look, whoever took that: everything is told once.
2. Looks are at least `EVERY` apart, and `LOOKS` times as long as one takes: they get a hundredth of the store's time,
   however many instances there are and however long a look takes with them.
3. The file's lock is held for reading and writing the file only, never while looking; who does not get it does without.
4. What was seen too long ago is no beginning: then the next look is the first one again.
5. A store that only this process has needs no file.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cross_instance.rules.operations import SECOND
from cross_instance.watching.shared_file import let_go
from cross_instance.watching.sights import Sights, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cross_instance.rules.operations import World
    from cross_instance.watching.sights import News, Usage

    Held = tuple[int, dict[str, int]]
    """When it was seen (the store's µs), and the calls in flight at each node."""

EVERY = 0.9
"""Seconds between two looks, at least: somewhat less than between two ticks of who wants to look."""
LOOKS = 100
"""Looks are this many times longer apart than one takes."""
LATELY = 3 * SECOND
"""µs for which what was seen in flight counts."""
LASTS = 60.0
"""Seconds after it was due from which on a look is the first again, and that one can at most be put off."""


class SharedSights:
    """One instance's view. `path`: where what was seen stands; None: only this instance looks at its store.

    `usage`: the requests that were used of each account, as they were seen last.
    """

    def __init__(self, path: Path | None, look: Callable[[], World | None]) -> None:
        self.usage: dict[str, Usage] = {}
        self._held: list[Held] = []
        self._begun = self._looked_at = -math.inf
        self._path = path
        self._look = look
        self._own: dict[str, Any] = {}

    def look(self, since: float = math.inf, *, last: bool = False) -> list[News] | None:
        """Look, and tell what is new; None: it is not due.

        `since`: a look that was begun at this instant (monotonic) or later does as well, whoever took it: nothing is
        new then. `last`: of an instance that leaves; nobody looks later, if only it does.
        """
        try:
            if (last and self._path is None) or self._claim():
                return self._news(self._look_now())
        except OSError:  # what was seen cannot be written: without that, everybody would look
            return []
        return [] if self._begun >= since else None

    def held_lately(self, node: str, now: int) -> int:
        """The most calls that were seen in flight at a node in the last two looks, none older than `LATELY`; `now`: the
        store's µs."""
        return max((held.get(node, 0) for at, held in self._held if now - at <= LATELY), default=0)

    def _claim(self) -> bool:
        """Whether a look is due, and nobody else takes it; most who ask only have to read that it is not."""
        if self._path is not None:
            present = self._read()
            if time.monotonic() < present.get("due", 0.0):
                self._take(present)
                return False
        with self._seen() as seen:
            if seen is None or time.monotonic() < seen.get("due", 0.0):
                return False
            seen["due"] = time.monotonic() + EVERY
        return True

    def _look_now(self) -> tuple[World | None, float]:
        """The store, and how long it took to look at it."""
        self._looked_at = time.monotonic()
        return self._look(), time.monotonic() - self._looked_at

    def _news(self, looked: tuple[World | None, float]) -> list[News]:
        world, took = looked
        with self._seen() as seen:
            if seen is None or world is None or world.at.mono < seen.get("at", -1):
                return []
            sights = _sights(seen.get("sights"))
            news = sights.look(world)
            self.usage = usage_of(world)
            self._held = [
                *self._held[-1:],
                (world.at.mono, {node.node: node.held for node in world.nodes if node.held}),
            ]
            apart = max(EVERY if self._path else 0.0, LOOKS * took)
            seen |= {"at": world.at.mono, "due": time.monotonic() + min(apart, LASTS)}
            seen |= {"sights": sights.state(), "usage": self.usage, "held": self._held, "begun": self._looked_at}
            self._begun = self._looked_at
        return news

    @contextmanager
    def _seen(self) -> Iterator[dict[str, Any] | None]:
        """What was seen last, to be changed; None where others are at it just now, or it cannot be read or written."""
        if self._path is None:
            yield self._own
            return
        lock = self._locked()
        if lock is None:
            self._take(self._read())
            yield None
            return
        try:
            seen = self._read()
            self._take(seen)
            before = json.dumps(seen)
            yield seen
            after = json.dumps(seen)
            if after != before:
                self._write(after)
        finally:
            let_go(lock)

    def _locked(self) -> int | None:
        assert self._path is not None
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = None
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(f"{self._path}.lock", flags, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if lock is not None:
                os.close(lock)
            return None
        return lock

    def _read(self) -> dict[str, Any]:
        assert self._path is not None
        try:
            seen = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return seen if isinstance(seen, dict) and _is_recent(seen) else {}

    def _write(self, text: str) -> None:
        assert self._path is not None
        new = f"{self._path}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(new, self._path)  # noqa: PTH105 - beside `os.open`

    def _take(self, seen: dict[str, Any]) -> None:
        """Know what whoever looked last has seen."""
        with suppress(ValueError, TypeError, AttributeError):
            self._begun = float(seen.get("begun", -math.inf))
            self.usage = {account: (used, amount) for account, (used, amount) in seen.get("usage", {}).items()}
            self._held = [(int(at), dict(held)) for at, held in seen.get("held", ())]


def _is_recent(seen: dict[str, Any]) -> bool:
    """Whether it is of this boot and not too long ago: the clock begins anew with each boot."""
    due, at = seen.get("due"), seen.get("at", 0)
    return isinstance(due, float) and isinstance(at, int) and abs(due - time.monotonic()) <= LASTS


def _sights(seen: Any) -> Sights:
    try:
        return Sights(seen)
    except (AttributeError, TypeError, ValueError):  # another version's
        return Sights()
