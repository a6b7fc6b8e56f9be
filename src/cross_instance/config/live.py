"""Settings that follow their files while a process runs.

1. Only what the files hold counts: one that was touched, or written again as it was, has not changed.
2. They are read where a file's stamp is new, or so young that the file may have been written since without a new one.
3. A file that is gone counts when it is still gone at the next look: programs write a file by putting another in its
   place.
4. A wrong file changes nothing, and is told once; what it says beside its mistake is not taken either.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from cross_instance.config.sources import waits_for_a_writer
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from cross_instance.config.load import Reloaded, Sources
    from cross_instance.config.settings import Settings

YOUNG = 2_000_000_000
"""Nanoseconds in which a file can be written twice with the same stamp: the step of the coarsest file systems."""


class LiveSettings:
    """The settings in force in this process. `problem`: what is wrong with its files now (None: nothing)."""

    def __init__(self, settings: Settings, sources: Sources | None = None, watch: FileWatch | None = None) -> None:
        self.settings = settings
        self.problem: str | None = None
        self._sources = sources
        self._watch = watch

    @classmethod
    def of(cls, sources: Sources) -> LiveSettings:
        """Those of sources, which they follow. Raises `ConfigError`."""
        watch = FileWatch(sources.files())
        watch.look()
        return cls(sources.load(), sources, watch)

    def look(self) -> Reloaded | None:
        """Take over what the files say now; None where they have not changed.

        Raises `ConfigError` where they are wrong, once for each mistake: what was in force stays so.
        """
        if self._sources is None or self._watch is None or not self._watch.look():
            return None
        try:
            reloaded = self._sources.reload(self.settings)
        except ConfigError as error:
            known, self.problem = self.problem, str(error)
            if self.problem == known:
                return None
            raise
        self.settings, self.problem = reloaded.settings, None
        return reloaded


class FileWatch:
    """Whether any of a few files holds something else than before; `paths` need not exist."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._stamps: dict[Path, tuple[int, ...] | None] = {}
        self._contents: dict[Path, bytes] = {}
        self._missing: set[Path] = set()
        self._is_settled = False

    def look(self) -> bool:
        """Whether something has changed since the last look."""
        stamps = {path: _stamp(path) for path in self._paths}
        if stamps == self._stamps and self._is_settled:
            return False
        contents = {path: contents for path in self._paths if (contents := _contents(path)) is not None}
        missing = self._contents.keys() - contents.keys()
        if missing - self._missing:
            self._missing, self._is_settled = missing, False
            return False
        youngest = time.time_ns() - YOUNG
        self._is_settled = all(stamp is None or max(stamp[:2]) < youngest for stamp in stamps.values())
        changed = contents != self._contents
        self._stamps, self._contents, self._missing = stamps, contents, set()
        return changed


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs where a file was written, put in another's place or made readable; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino, found.st_size


def _contents(path: Path) -> bytes | None:
    """A digest: files may hold a store's password. None where there is no such file."""
    try:
        if waits_for_a_writer(path):
            return b"no file"
        return blake2b(path.read_bytes()).digest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return str(error.errno).encode()
