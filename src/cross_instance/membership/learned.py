"""What was learned, kept beyond a boot, and shown in `.pi/data/adaptive-rate-state.json` of the project.

1. The store holds what was learned; the file shows it to people. Nothing is read from it.
2. Whoever removes the file forgets what was learned: a runtime that wrote it and finds it gone has the store forget it
   for the accounts it uses. One that never wrote it does not, so a new project resets nobody.
3. A project without a folder `.pi` gets none. A file that cannot be written is no trouble: it is told once.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from cross_instance import events
from cross_instance.errors import CrossInstanceError
from cross_instance.rules.operations import Fenced, Keep, Snapshot, Unlearn
from cross_instance.status import learned_of

if TYPE_CHECKING:
    from cross_instance.membership.membership import Membership

log = logging.getLogger("cross_instance")

NAME = "adaptive-rate-state.json"


class LearnedFile:
    """One membership's copy."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._folder = membership.settings.project_dir / ".pi"
        self.path = self._folder / "data" / NAME
        self._written = False
        self._told = False

    def look(self) -> None:
        """Forget what was learned, where the file is gone. Raises `StoreUnavailable`."""
        if not self._written or self._is_there():
            return
        self._written = False
        membership = self._membership
        forgotten = [
            node
            for account in membership.accounts.published()
            for node in membership.run(Unlearn(account=account)).nodes
        ]
        text = f"{self.path} was removed: what was learned of {', '.join(forgotten) or 'no limit'} is forgotten"
        membership.events.tell(events.LIMITS_RESET, text, logging.INFO, nodes=forgotten)

    def _is_there(self) -> bool:
        """Whether it is, or nobody can say."""
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def keep(self, incarnation: int) -> None:
        """Have the store write down what is new, and show it in the file. Raises `StoreUnavailable`."""
        membership = self._membership
        if isinstance(membership.run(Keep(incarnation)), Fenced):
            return
        if self._folder.is_dir():
            self._show(learned_of(membership.run(Snapshot(counts=False)), membership.accounts.published()))

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
        new = self.path.with_name(f"{NAME}.{os.getpid()}.{id(self):x}.new")
        try:
            self.path.parent.mkdir(exist_ok=True)
            new.write_text(json.dumps({"version": 1, "limits": learned}, indent=2) + "\n", encoding="utf-8")
            new.replace(self.path)
        except OSError as error:
            if not self._told:
                log.warning("what is learned is not shown in %s: %s", self.path, error)
            self._told = True
        else:
            self._written = True
