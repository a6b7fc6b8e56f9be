"""Membership: one instance of this process at one store, shared by every runtime that names the same.

1. The first user joins, the last one leaves; in between a thread keeps it alive.
2. An instance that finds itself fenced joins anew under a larger incarnation; what it held before is void.
3. A forked child is not its parent: it lets go of everything and joins on first use, under an id of its own.
4. A forked child inherits its parent's weight; what is reserved, is reserved once.
5. Beside it stand what it shows of itself (`liveness`, a file) and what it has to say (`standing`, `events`).
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance import events
from cross_instance.config import NO_EFFECT
from cross_instance.degraded.fallback import Fallback
from cross_instance.degraded.steady import SteadyStore
from cross_instance.errors import CrossInstanceError, DuplicateInstance, InstanceFenced, StoreUnavailable
from cross_instance.events import Events
from cross_instance.membership.accounts import Accounts
from cross_instance.membership.heartbeat import Pulse
from cross_instance.membership.liveness import Liveness, card_of, working_folder
from cross_instance.membership.lookout import Lookout
from cross_instance.membership.reloading import Reloading
from cross_instance.membership.standing import Standing
from cross_instance.membership.switching import Switch
from cross_instance.membership.workload import OwnWork
from cross_instance.protocol import Rejoins
from cross_instance.rules.operations import (
    CLUSTER,
    FOREVER,
    SECOND,
    Configured,
    Duplicate,
    Fenced,
    Join,
    Leave,
    Removing,
    Result,
    Snapshot,
)
from cross_instance.waiting import LongWaits
from cross_instance.watching.activity import Activity

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cross_instance.config import LiveSettings, Settings
    from cross_instance.rules.operations import Operation, World
    from cross_instance.stores.base import Permit, Store

log = logging.getLogger("cross_instance")

R = TypeVar("R", bound=Result)


class Membership:
    """An instance at a store. `incarnation` is 0, and `store` unset, while it has not joined."""

    store: SteadyStore

    def __init__(
        self,
        instance_id: str,
        live: LiveSettings,
        address: str,
        open_store: Callable[[], Store],
        *,
        owns_store: bool = True,
        session_id: str = "",
        cwd: str = "",
    ) -> None:
        self.instance_id = self._named = instance_id
        self.live = live
        self.address = address
        self.incarnation = 0
        self.seqs = count(1)
        self.users: set[object] = set()
        self.waiters: set[Permit] = set()
        self.accounts = Accounts(live.settings, instance_id)
        self.events = Events(instance_id)
        self.activity = Activity(self)
        self.fallback = Fallback(self)
        self.standing = Standing(address, self.events, self.fallback)
        self.work, self.waiting = OwnWork(self), LongWaits(self.events)
        self.reloading = Reloading(self)
        self.switch = Switch(self)
        self._guessed: set[str] = set()
        self._forked = False
        self._session_id, self._cwd = session_id, cwd or working_folder()
        self._open_store, self.owns_store = open_store, owns_store
        self._liveness: Liveness | None = None
        self._pulse: Pulse | None = None
        self.lock, self._leaving = threading.RLock(), threading.RLock()
        self._publishing = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The settings in force; some of them may change while it is joined (`reloading`)."""
        return self.live.settings

    # --- joining and leaving ---------------------------------------------------------------------------------

    def enter(self, user: object) -> None:
        """Join, or share what has been joined.

        Raises `DuplicateInstance` where another live process has the id, `StoreUnavailable` where the store
        cannot be used.
        """
        with self.lock:
            if not self.incarnation:
                self._join()
            self.users.add(user)

    def _join(self) -> None:
        self.store = SteadyStore(self._open_store(), self.fallback)
        try:
            card = card_of(self.instance_id, self._session_id, self._cwd, self.address)
            liveness = Liveness(self.settings.runtime_dir, card)
            try:
                self._liveness, self.standing.unseen = liveness, None
                self._pulse = Pulse(self, Lookout(liveness.folder, self.address), self.settings.heartbeat_interval)
                self._admit(liveness)
            except BaseException as error:  # it may be in the registry: then others must learn of this end
                self.incarnation = 0
                self._liveness = self._pulse = None
                liveness.end(remove=isinstance(error, DuplicateInstance))
                raise
        except BaseException:
            self._close_store(self.store)
            raise
        self._pulse.start()
        self._tell_ignored()

    def _tell_ignored(self) -> None:
        ignored = [entry.place for entry in self.settings.reserved()]
        if ignored:
            text = f"{NO_EFFECT}: {', '.join(ignored)}"
            self.events.tell(events.SETTINGS_IGNORED, text, level=None, settings=ignored)

    def _close_store(self, store: SteadyStore) -> None:
        if self.owns_store:
            store.close()

    def _admit(self, liveness: Liveness) -> None:
        """Enter the registry, and publish what holds across accounts."""
        card = liveness.card
        join = Join(
            instance_id=card.instance_id,
            nonce=uuid.uuid4().hex,
            pid=card.pid,
            machine=liveness.machine,
            host=card.host,
            holds_lock=self.standing.unseen is None,
            session_id=card.session_id,
            cwd=card.cwd,
            version=card.version,
            timeout=round(self.settings.heartbeat_timeout * SECOND),
        )
        joined = self.store.run(join)
        while isinstance(joined, Removing):
            self.standing.report(joined)
            joined = self.store.run(join)
        self.standing.report(joined)
        if isinstance(joined, Duplicate):
            raise DuplicateInstance(self.instance_id, joined.pid, joined.machine)
        caps = self.accounts.caps
        self.accounts = Accounts(self.settings, self._named, reserves=not self._forked)
        self.accounts.caps = caps
        if self.settings.cluster_spec() is not None:
            self.standing.report(self.store.run(self.accounts.publication(joined.incarnation, CLUSTER)))
        self.incarnation = joined.incarnation
        self.standing.taken_over = None

    def rejoin(self, fenced: int) -> None:
        """Join anew after the incarnation `fenced` was removed; a no-op for all but the first to notice.

        Raises `InstanceFenced` where another process has taken the id meanwhile.
        """
        with self.lock:
            if self.incarnation != fenced or not fenced:
                return
            try:
                self.keep_presence()
                assert self._liveness is not None
                self._admit(self._liveness)
            except DuplicateInstance as error:
                message = f"instance {self.instance_id} was removed, and cannot join anew: {error}"
                self.standing.note_taken_over(message)
                raise InstanceFenced(message) from error
            text = f"instance {self.instance_id} was not known any more; it joins anew"
            self.events.tell(events.INSTANCE_REJOINED, text, incarnation=self.incarnation)
        self.work.say_again()

    @property
    def machine(self) -> str:
        """What processes share that see each other's lock files; "" while it has not joined."""
        liveness = self._liveness
        return "" if liveness is None else liveness.machine

    @property
    def is_seen(self) -> bool:
        """Whether the folder of lock files is still the one in which it is seen to live."""
        liveness = self._liveness
        return liveness is not None and liveness.is_seen

    def keep_presence(self) -> None:
        """Be seen to live by the processes of this machine.

        Raises `DuplicateInstance` where another process has taken the id meanwhile.
        """
        with self.lock:
            if self._liveness is None:
                return
            try:
                self._liveness.renew()
            except StoreUnavailable as error:
                self.standing.note_unseen(error)
            else:
                self.standing.unseen = None

    def leave(self, user: object, *, at_exit: bool = False) -> None:
        """Leave with the last user: waiters are dropped, permits still held are given back as charged.

        Daemon threads that wait `at_exit` are left waiting: the process ends before they could tell of an error.
        """
        with self._leaving:  # where the heartbeat thread is at it, it is waited for
            self._leave(user, at_exit)

    def leave_by_itself(self) -> bool:
        """Leave where there is no user; whether it has left. For the heartbeat thread, for which who leaves waits."""
        if self._leaving.acquire(blocking=False):
            try:
                self._leave(None, at_exit=False)
            finally:
                self._leaving.release()
        return not self.incarnation

    def _leave(self, user: object, at_exit: bool) -> None:
        with self.lock:
            self.users.discard(user)
            if self.users or not self.incarnation:
                return
            self.store.part(in_haste=self.owns_store and self.is_cut_off)
        self._settle_up()
        with self.lock:
            if self.users:
                self.store.stay()
            if self.users or not self.incarnation:
                return
            incarnation, self.incarnation = self.incarnation, 0
            store, liveness, pulse = self.store, self._liveness, self._pulse
            self._liveness = self._pulse = None
            self.work = OwnWork(self)
            outage = self.fallback.outage
            self.fallback.reset()
        if outage is not None:
            self.standing.note_trouble(outage.error)
        assert liveness is not None
        assert pulse is not None
        known = False
        try:
            pulse.stop()
            left = store.run(Leave(incarnation))
            while left.more:
                left = store.run(Leave(incarnation))
            known = left.known
        except CrossInstanceError as error:
            log.warning("instance %s could not say that it leaves: %s", self.instance_id, error)
        finally:
            liveness.end(remove=known)
            if not (at_exit and self.waiters):
                self._close_store(store)

    def _settle_up(self) -> None:
        try:
            self.fallback.debts.repay()
        except CrossInstanceError as error:
            log.warning("what %s used without its store is not charged: %s", self.instance_id, error)

    def quit(self) -> None:
        """Leave whoever still uses it: the process ends."""
        self.switch.drop_stranded()
        self.users.clear()
        self.leave(None, at_exit=True)

    def become_child(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""
        self.lock, self._leaving, self._publishing = threading.RLock(), threading.RLock(), threading.Lock()
        self.incarnation = 0
        self.users, self.waiters = set(), set()
        self._liveness = self._pulse = None
        self.work, self.activity = OwnWork(self), self.activity.become_child()
        self.accounts.caps = {}
        self.reloading, self.switch = Reloading(self), Switch(self)
        self._forked = True
        self.instance_id = f"{self._named}.{os.getpid()}"
        self.events.become_child(self.instance_id)
        self.standing.unseen = None
        self.fallback.become_child()

    # --- the store -------------------------------------------------------------------------------------------

    def learn(self, account: str, configured: Configured) -> None:
        """The store has taken what this instance publishes of an account; the patterns are those of all instances."""
        self.accounts.learn(account, configured.revision, configured.patterns)
        if account not in self._guessed and self.accounts.guessed(account):
            self._guessed.add(account)
            text = f"nothing is known of the limits of {account}: they are guessed; configure them"
            self.events.tell(events.LIMITS_GUESSED, text, account=account)

    def republish(self) -> None:
        """Publish every account anew: what the settings say may depend on the day, as a daily limit's midnight does."""
        for account in self.accounts.published():
            self.publish(account)

    def publish(self, account: str) -> None:
        """Publish what the settings say of an account, or of the limit across all; one after the other, so that what
        was written last arrives last. Raises `StoreUnavailable`."""
        with self._publishing:
            configured = self.run(self.accounts.publication(self.incarnation, account))
        if isinstance(configured, Configured) and account != CLUSTER:
            self.learn(account, configured)

    def run(self, op: Operation[R]) -> R:
        """Run an operation from a thread, and say what its result has to say."""
        result = self.store.run(op)
        self.standing.answered(result)
        return result

    def ask(self, make: Callable[[int], Operation[R | Fenced]]) -> R:
        """Run an operation of the present incarnation; where that was removed, join anew first.

        Raises `StoreUnavailable`, and `InstanceFenced` where it cannot join anew.
        """
        rejoins = Rejoins(self)
        while isinstance(answer := self.run(make(incarnation := self.incarnation)), Fenced):
            rejoins.count()
            self.rejoin(incarnation)
        return answer

    def insist(self, op: Operation[R]) -> R:
        """The same in the store itself, whatever stands in for it. Raises `StoreUnavailable`."""
        result = self.store.insist(op)
        self.standing.answered(result)
        return result

    def look(self) -> World:
        """Look at the store, in turn with the heartbeat thread. Raises `StoreUnavailable`."""
        with self.in_turn():
            return self.run(Snapshot(counts=False))

    def in_turn(self) -> AbstractContextManager[object]:
        """Held by who asks the store beside the heartbeat thread: one connection is enough for both."""
        pulse = self._pulse
        return nullcontext() if pulse is None else pulse.working

    @property
    def is_cut_off(self) -> bool:
        """Whether it is known that the store cannot be reached."""
        return self.fallback.outage is not None or (self.standing.trouble is not None and not self.incarnation)

    def glimpse(self) -> World | None:
        """The same; None where the store is out of reach, which is noted: who leaves waits for that once at most."""
        if self.is_cut_off:
            return None
        try:
            return self.look()
        except CrossInstanceError as error:
            self.standing.note_trouble(error)
            return None

    def later(self, op: Operation[Any], until: int = 0) -> None:
        """Have the heartbeat thread send an operation; forgotten where the instance has left. See `Pulse.later`."""
        pulse = self._pulse
        if pulse is not None:
            pulse.later(op, until)

    def awake_for(self) -> int:
        """For how long this machine has been awake as far as this instance knows, in µs."""
        pulse = self._pulse
        return FOREVER if pulse is None else pulse.awake_for()

    def begin_waiting(self, permit: Permit) -> None:
        """A permit waits from now on: watch the neighbours."""
        self.waiters.add(permit)
        self.nudge()

    def nudge(self) -> None:
        """There is something to look after: the heartbeat thread is not to sleep until its next beat."""
        pulse = self._pulse
        if pulse is not None:
            pulse.watch()
