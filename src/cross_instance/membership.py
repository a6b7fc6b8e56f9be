"""Membership: one instance of this process at one store, shared by every runtime that names the same.

1. The first user joins, the last one leaves; in between a thread keeps it alive.
2. An instance that finds itself fenced joins anew under a larger incarnation; what it held before is void.
3. A forked child is not its parent: it lets go of everything and joins on first use, under an id of its own.
4. A forked child inherits its parent's weight; what is reserved, is reserved once.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import secrets
import threading
import time
import uuid
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakSet, WeakValueDictionary

from cross_instance._version import __version__
from cross_instance.accounts import Accounts
from cross_instance.errors import CrossInstanceError, DuplicateInstance, InstanceFenced
from cross_instance.heartbeat import Pulse
from cross_instance.lookout import Lookout
from cross_instance.presence import Card, Presence, instances_folder, machine_of
from cross_instance.rules.operations import (
    SECOND,
    Configured,
    Duplicate,
    Join,
    Leave,
    Notice,
    Result,
)
from cross_instance.stores.folder import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cross_instance.config import Settings
    from cross_instance.rules.operations import Operation
    from cross_instance.stores.base import Store

log = logging.getLogger("cross_instance")

R = TypeVar("R", bound=Result)

KEPT_NOTICES = 20


class Identity(NamedTuple):
    """What makes two runtimes of one process the same instance."""

    runtime_dir: str
    address: str
    instance_id: str


def make_instance_id(session_id: str = "") -> str:
    """An id no other process has: the session's first 8 characters, the pid, and a part that sorts by time."""
    moment = f"{time.time_ns() // 1_000_000:011x}"
    return f"{(session_id or 'session')[:8]}-{os.getpid()}-{moment}{secrets.token_hex(4)}"


class Membership:
    """An instance at a store. `incarnation` is 0, and `store` unset, while it has not joined."""

    store: Store

    def __init__(
        self,
        instance_id: str,
        settings: Settings,
        address: str,
        open_store: Callable[[], Store],
        *,
        owns_store: bool = True,
        session_id: str = "",
    ) -> None:
        self.instance_id = instance_id
        self.settings = settings
        self.address = address
        self.incarnation = 0
        self.seqs = count(1)
        self.machine = ""
        self.users: set[object] = set()
        self.waiters: set[object] = set()
        self.accounts = Accounts(settings, instance_id)
        self.trouble: str | None = None
        self.notices: deque[Notice] = deque(maxlen=KEPT_NOTICES)
        self._named = instance_id
        self._forked = False
        self._session_id = session_id
        self._open_store = open_store
        self._owns_store = owns_store
        self._presence: Presence | None = None
        self._pulse: Pulse | None = None
        self._lock = threading.RLock()
        _all.add(self)

    # --- joining and leaving ---------------------------------------------------------------------------------

    def enter(self, user: object) -> None:
        """Join, or share what has been joined.

        Raises `DuplicateInstance` where another live process has the id, `StoreUnavailable` where the store
        cannot be used.
        """
        with self._lock:
            if not self.incarnation:
                self._join()
            self.users.add(user)

    def _join(self) -> None:
        self.store = self._open_store()
        try:
            with self._usable_folder() as folder:
                presence = Presence.take(folder, self._card())
                self.machine = machine_of(folder)
            try:
                self._admit()
            except BaseException as error:  # it may be in the registry: then others must learn of this end
                presence.release(remove=isinstance(error, DuplicateInstance))
                raise
        except BaseException:
            self._close_store(self.store)
            raise
        self._presence = presence
        self._pulse = Pulse(self, Lookout(folder, self.address), self.settings.heartbeat_interval)
        self._pulse.start()

    @contextmanager
    def _usable_folder(self) -> Iterator[Path]:
        """The folder of the lock files; what the system says against using it is told as `StoreUnavailable`."""
        try:
            yield instances_folder(self.settings.runtime_dir)
        except OSError as error:
            raise describe(error, Path(error.filename or self.settings.runtime_dir)) from error

    def _close_store(self, store: Store) -> None:
        if self._owns_store:
            store.close()

    def _admit(self) -> None:
        """Enter the registry, and publish what holds across accounts."""
        joined = self.store.run(
            Join(
                instance_id=self.instance_id,
                nonce=uuid.uuid4().hex,
                pid=os.getpid(),
                machine=self.machine,
                host=platform.node(),
                session_id=self._session_id,
                cwd=_cwd(),
                version=__version__,
                timeout=round(self.settings.heartbeat_timeout * SECOND),
            )
        )
        self.report(joined)
        if isinstance(joined, Duplicate):
            raise DuplicateInstance(self.instance_id, joined.pid, joined.machine)
        self.accounts = Accounts(self.settings, self._named, reserves=not self._forked)
        cluster = self.accounts.cluster_publication(joined.incarnation)
        if cluster is not None:
            self.report(self.store.run(cluster))
        self.incarnation = joined.incarnation

    def _card(self) -> Card:
        return Card(
            instance_id=self.instance_id,
            pid=os.getpid(),
            session_id=self._session_id,
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            cwd=_cwd(),
            host=platform.node(),
            store=self.address,
            version=__version__,
        )

    def rejoin(self, fenced: int) -> None:
        """Join anew after the incarnation `fenced` was removed; a no-op for all but the first to notice.

        Raises `InstanceFenced` where another process has taken the id meanwhile.
        """
        with self._lock:
            if self.incarnation != fenced or not fenced:
                return
            log.warning("instance %s is not known any more; it joins anew", self.instance_id)
            try:
                self.keep_presence()
                self._admit()
            except DuplicateInstance as error:
                message = f"instance {self.instance_id} was removed, and cannot join anew: {error}"
                raise InstanceFenced(message) from error

    def keep_presence(self) -> None:
        """Be seen to live also where somebody has removed the file that says so, or the whole runtime folder.

        Raises `DuplicateInstance` where another process has taken the id meanwhile.
        """
        with self._lock:
            if self._presence is not None:
                with self._usable_folder() as folder:
                    self._presence.renew(self._card())
                    self.machine = machine_of(folder)

    def leave(self, user: object, *, at_exit: bool = False) -> None:
        """Leave with the last user: waiters are dropped, permits still held are given back as charged.

        Daemon threads that wait `at_exit` are left waiting: the process ends before they could tell of an error.
        """
        with self._lock:
            self.users.discard(user)
            if self.users or not self.incarnation:
                return
            incarnation, self.incarnation = self.incarnation, 0
            store, presence, pulse = self.store, self._presence, self._pulse
            self._presence = self._pulse = None
        assert presence is not None
        assert pulse is not None
        known = False
        try:
            pulse.stop()
            known = store.run(Leave(incarnation)).known
        except CrossInstanceError as error:
            log.warning("instance %s could not say that it leaves: %s", self.instance_id, error)
        finally:
            presence.release(remove=known)
            if not (at_exit and self.waiters):
                self._close_store(store)

    def quit(self) -> None:
        """Leave whoever still uses it: the process ends."""
        self.users.clear()
        self.leave(None, at_exit=True)

    def become_child(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""
        self._lock = threading.RLock()
        self.incarnation = 0
        self.users, self.waiters = set(), set()
        self._presence = self._pulse = None
        self._forked = True
        self.instance_id = f"{self._named}.{os.getpid()}"

    # --- the store -------------------------------------------------------------------------------------------

    def republish(self) -> None:
        """Publish every account anew: what the settings say may depend on the day, as a daily limit's midnight does."""
        for account in self.accounts.published():
            configured = self.run(self.accounts.publication(self.incarnation, account))
            if isinstance(configured, Configured):
                self.accounts.learn(account, configured.revision, configured.patterns)

    def run(self, op: Operation[R]) -> R:
        """Run an operation from a thread, and say what its result has to say."""
        result = self.store.run(op)
        self.answered(result)
        return result

    def later(self, op: Operation[Any]) -> None:
        """Have the heartbeat thread send an operation; forgotten where the instance has left."""
        pulse = self._pulse
        if pulse is not None:
            pulse.later(op)

    def begin_waiting(self, permit: object) -> None:
        """A permit waits from now on: watch the neighbours."""
        self.waiters.add(permit)
        pulse = self._pulse
        if pulse is not None:
            pulse.watch()

    def answered(self, result: Result) -> None:
        """The store answered: whatever trouble there was is over."""
        self.note_recovery()
        self.report(result)

    def report(self, result: Result) -> None:
        """Log and keep what must not stay silent."""
        for notice in result.notices:
            log.warning("%s: %s", notice.topic, notice.text)
            self.notices.append(notice)

    def note_trouble(self, error: Exception) -> None:
        """The store cannot be used: told once, and shown in the status until it can."""
        if self.trouble is None:
            log.error("the store %s cannot be used: %s", self.address, error)
        self.trouble = str(error)

    def note_recovery(self) -> None:
        """The store answered."""
        if self.trouble is not None:
            log.warning("the store %s can be used again", self.address)
            self.trouble = None


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


_all: WeakSet[Membership] = WeakSet()
_shared: WeakValueDictionary[Identity, Membership] = WeakValueDictionary()
_sharing = threading.Lock()


def share(identity: Identity, settings: Settings, make: Callable[[], Membership]) -> Membership:
    """The one membership of this process with this identity; while it has no user, the newest settings hold."""
    with _sharing:
        found = _shared.get(identity)
        if found is None:
            found = _shared[identity] = make()
        elif not found.users:
            found.settings = settings
        elif found.settings != settings:
            log.warning("instance %s is in use with other settings in this process; those hold", identity.instance_id)
        return found


def _leave_all() -> None:
    for membership in list(_all):
        membership.quit()


def _become_children() -> None:
    global _sharing  # a thread that does not exist in the child may have held it
    _sharing = threading.Lock()
    for membership in list(_all):
        membership.become_child()


atexit.register(_leave_all)
os.register_at_fork(after_in_child=_become_children)
