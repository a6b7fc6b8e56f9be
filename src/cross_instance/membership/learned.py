"""What was learned, kept beyond a boot, and shown in `.pi/data/adaptive-rate-state.json` of the project.

1. The store holds what was learned; the file shows it to people. Nothing is read from it.
2. Whoever removes the file forgets what was learned: a runtime that wrote it and finds it gone has the store forget it
   for the accounts it uses. One that never wrote it does not, so a new project resets nobody.
3. A file has an id from its beginning to its removal: it is written in its place, never replaced, and whoever writes it
   keeps the id. So a runtime sees that its file was removed although another has made a new one since.
4. A project without a folder `.pi` gets none. A file that cannot be written is no trouble: it is told once.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

from cross_instance import events
from cross_instance.errors import CrossInstanceError
from cross_instance.rules.operations import Fenced, Keep, Snapshot, Unlearn
from cross_instance.status import learned_of
from cross_instance.watching.shared_file import let_go

if TYPE_CHECKING:
    from cross_instance.membership.membership import Membership

log = logging.getLogger("cross_instance")

NAME = "adaptive-rate-state.json"
_HEAD = 256
"""Bytes of the file in which its id stands: they stay as they are while the rest is written anew."""
_ID = re.compile(rb'"id": "([0-9a-f]+)"')


class LearnedFile:
    """One membership's copy."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._folder = membership.settings.project_dir / ".pi"
        self.path = self._folder / "data" / NAME
        self._id = ""
        """The id of the file that this runtime has written."""
        self._told = False

    def look(self) -> None:
        """Forget what was learned, where the file is gone, or another one. Raises `StoreUnavailable`."""
        if not self._id:
            return
        found = self._found()
        if found in {"", self._id}:
            return
        membership = self._membership
        forgotten = [
            node
            for account in membership.accounts.published()
            for node in membership.run(Unlearn(account=account)).nodes
        ]
        text = f"{self.path} was removed: what was learned of {', '.join(forgotten) or 'no limit'} is forgotten"
        self._id = found or ""
        membership.events.tell(events.LIMITS_RESET, text, logging.INFO, nodes=forgotten)

    def _found(self) -> str | None:
        """The id of the file in its place; None: there is none; "": nobody can say."""
        try:
            with self.path.open("rb") as file:
                return _id_of(file.read(_HEAD))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return ""

    def keep(self, incarnation: int) -> None:
        """Have the store write down what is new, and show it in the file. Raises `StoreUnavailable`."""
        membership = self._membership
        if isinstance(membership.run(Keep(incarnation)), Fenced):
            return
        if self._folder.is_dir():
            self._show(learned_of(membership.run(Snapshot(counts=False)), membership.accounts.published()))
            self.look()  # it may have been removed just now

    def part(self, incarnation: int) -> None:
        """Keep what was learned last, before the instance leaves."""
        membership = self._membership
        if membership.standing.trouble is not None:
            return
        try:
            self.look()
            accounts = membership.accounts.published()
            if accounts and learned_of(membership.run(Snapshot(counts=False)), accounts):
                self.keep(incarnation)
        except CrossInstanceError as error:
            name = membership.instance_id
            log.warning("what %s learned last of limits may not outlive a boot: %s", name, error)

    def _show(self, learned: dict[str, Any]) -> None:
        if not learned:
            return
        try:
            self.path.parent.mkdir(exist_ok=True)
            self._write(learned)
        except OSError as error:
            if not self._told:
                log.warning("what is learned is not shown in %s: %s", self.path, error)
            self._told = True

    def _write(self, learned: dict[str, Any]) -> None:
        """Write into the file, unless it is not the one from before, or somebody else writes it just now."""
        create = 0 if self._id else os.O_CREAT
        try:
            file = os.open(self.path, os.O_RDWR | create | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            known = _id_of(os.pread(file, _HEAD, 0)) or self._id or secrets.token_hex(8)
            if self._id in {"", known}:
                text = json.dumps({"version": 1, "id": known, "limits": learned}, indent=2) + "\n"
                os.ftruncate(file, os.pwrite(file, text.encode(), 0))
                self._id = known
        except BlockingIOError:
            return
        finally:
            let_go(file)


def _id_of(head: bytes) -> str:
    """The id that a file begins with; "" where it has none."""
    found = _ID.search(head)
    return found[1].decode() if found else ""
