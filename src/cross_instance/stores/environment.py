"""The environment: everything that one process keeps open for one folder, however many stores it has there.

1. An operation runs inside the gate: clock, transaction, decision, commit. Its wakes are delivered outside.
2. An exception anywhere inside aborts the transaction and opens the gate. What only wants another try (a map that is
   too small, a damaged coordination file) gets it with the operation that met it.
3. A damaged coordination file is set aside, reported, and started anew: what it held (permits, waiters, the
   registry) is joined and asked for again. A damaged durable file is never touched, nor is a record that cannot be
   read because a newer version of the package wrote it.
4. A thread that calls the store from inside an operation (a finaliser, a signal handler) is told so at once.
5. A forked child closes its copies without unlocking; stores opened before the fork raise there. To make that
   safe, a fork waits until no thread is inside.
6. If the folder is removed, moved or replaced, what stands at its path is used, or made: whoever used the one before
   finds itself unknown there, and joins again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import lmdb
import msgspec

from cross_instance.errors import StoreCorrupt, StoreUnavailable
from cross_instance.rules.apply import AT_A_GLANCE, decide
from cross_instance.rules.operations import SECOND, Instant, Join, Joined, Leave, Notice, Result
from cross_instance.rules.records import FORMAT
from cross_instance.stores import folder as folders
from cross_instance.stores.database import DAMAGED, Database, problem_of
from cross_instance.stores.gate import Gate, Tries
from cross_instance.stores.mailboxes import Mailboxes
from cross_instance.stores.transaction import Transaction
from cross_instance.stores.wakeups import Post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from cross_instance.rules.operations import Operation

    Clock = Callable[[], Instant]

R = TypeVar("R", bound=Result)

log = logging.getLogger("cross_instance")

PATIENCE = 10.0
"""Seconds after which a process that stays inside the gate is taken to be stuck."""
LOOK_AGAIN = SECOND
"""Time (µs) between looks whether the folder is still there."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""Errors by which the rules say that a record is not what it should be."""
REGISTRY = frozenset({Join, Leave})
"""The operations that say which incarnations are of this process."""
NESTED = "the store was called from inside one of its operations (by a finaliser or a signal handler); call it later"


def machine_clock() -> Instant:
    """The machine's clocks. The monotonic one is the same for all processes of a boot: CLOCK_MONOTONIC on Linux,
    mach_absolute_time on macOS; it stands still while the machine sleeps."""
    return Instant(time.monotonic_ns() // 1000, time.time_ns() // 1000)


class Environment:
    """One folder, open in this process; see `sharing`. Opening waits up to `patience` seconds for the gate."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self.mailboxes = Mailboxes()
        self.users = 0
        self._lock = threading.Lock()
        self._inside = 0
        """The thread that is inside; it alone may find itself here."""
        self._refusal: str | None = None
        self._notices: list[Notice] = []
        self._coordination: Database | None = None
        self._durable: Database | None = None
        self._durable_suspected = False
        self._generation = 0
        self._verifies = False
        self._look_at = 0
        self._patience = patience
        self._open_gate()
        self._worker = ThreadPoolExecutor(1, "cross-instance-gate")
        """Its thread, made on first use, waits at the gate for event loops."""
        try:
            self._open_first(patience)
        except BaseException:
            self.close()
            raise

    # --- operations --------------------------------------------------------------------------------------------

    def insist(self, op: Operation[R], clock: Clock, deadline: float) -> R:
        """Decide one operation, trying until `deadline` (`time.monotonic`).

        Raises `StoreBusy` where another process stays inside for longer, and what `attempt` raises.
        """
        tries = Tries(deadline, self.folder, self._holder)
        for _ in tries:
            result = self.attempt(op, clock)
            if result is not None:
                return result
        raise tries.refusal()

    def attempt(self, op: Operation[R], clock: Clock) -> R | None:
        """Decide one operation, or None where another process is inside the gate.

        Raises `StoreUnavailable` and its kinds, and `ValueError` where the operation's figures cannot be stored.
        """
        thread = threading.get_ident()
        if self._inside == thread:
            raise StoreUnavailable(NESTED)
        with self._lock:
            if self._refusal is not None:
                raise StoreUnavailable(self._refusal)
            self._inside = thread
            try:
                if not self._gate.enter():
                    return None
                result = self._glance(op, clock) or self._decide(op, clock)
                if self._notices:
                    result = self._with_notices(result)
            finally:
                self._inside = 0
                self._gate.leave()
        if result.wakes:
            self._post.send(result.wakes)
        return self._follow_registry(op, result) if type(op) in REGISTRY else result

    def queue(self, op: Operation[R], clock: Clock, deadline: float) -> Future[R]:
        """Let the environment's thread `insist`, for event loops."""
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)
        return self._worker.submit(self.insist, op, clock, deadline)

    def is_occupied(self) -> bool:
        """Whether a thread of this process is inside: then another would have to wait for it."""
        return self._lock.locked()

    def _glance(self, op: Operation[R], clock: Clock) -> R | None:
        """Decide with nothing but the coordination file; None where that is not enough, or something is wrong there:
        `_decide` meets it again, and knows what to do."""
        look = AT_A_GLANCE.get(type(op))
        if look is None:
            return None
        at = clock()
        try:
            with self._begin(at) as tables:
                return look(tables, op, at)  # type: ignore[return-value]  # each operation is paired with its result
        except UNREADABLE:
            return None
        except lmdb.Error:
            self._shut_databases()  # after a failed write LMDB may refuse the open file
            return None

    def _decide(self, op: Operation[R], clock: Clock) -> R:
        while True:
            at = clock()
            transaction = Transaction(self._begin(at), self._begin_durable)
            try:
                result = decide(transaction, op, at)
                transaction.commit()
            except (lmdb.Error, *UNREADABLE) as error:
                transaction.abort()
                self._mend(error, transaction)
            except BaseException:
                transaction.abort()
                raise
            else:
                return result

    def _begin(self, at: Instant) -> lmdb.Transaction[bytes]:
        coordination = self._coordination
        if coordination is None or at.mono > self._look_at or self._gate.generation() != self._generation:
            self._look_at = at.mono + LOOK_AGAIN
            coordination = self._present()
        try:
            return coordination.begin()
        except lmdb.MapResizedError:
            coordination.follow()
            return coordination.begin()

    def _begin_durable(self) -> lmdb.Transaction:
        if self._durable is None:
            self._durable = Database(self.folder / folders.DURABLE, self._filesystem, durable=True)
        try:
            return self._durable.begin()
        except lmdb.MapResizedError:
            self._durable.follow()
            return self._durable.begin()

    def _with_notices(self, result: R) -> R:
        notices = (*result.notices, *self._notices)
        self._notices.clear()
        return msgspec.structs.replace(result, notices=notices)

    def _follow_registry(self, op: Operation[R], result: R) -> R:
        """Receive wakes for an incarnation as long as it is of this process."""
        if isinstance(op, Leave):
            self._post.disown(op.incarnation)
        elif isinstance(result, Joined):
            try:
                seemingly_dead = self._post.seemingly_dead()
                with self.entered(self._patience):
                    self._post.own(result.incarnation, seemingly_dead)
            except OSError as error:
                text = f"wake-ups from other processes do not arrive, waiting takes up to a second longer: {error}"
                return msgspec.structs.replace(result, notices=(*result.notices, Notice("no-wake-ups", text)))
        return result

    # --- trouble -----------------------------------------------------------------------------------------------

    def _mend(self, error: Exception, transaction: Transaction) -> None:
        """Remove the cause where the operation can simply be tried again; raise what people can act on otherwise."""
        database = self._durable if transaction.in_durable else self._coordination
        assert database is not None
        if isinstance(error, lmdb.MapFullError):
            database.grow()
        elif isinstance(error, UNREADABLE) and self._gate.newest_format() > FORMAT:
            raise self._outdated(error) from error
        elif isinstance(error, DAMAGED) and not database.durable:
            self._begin_anew(database.path, error)
        elif isinstance(error, lmdb.Error):
            self._shut_databases()  # after a failed write LMDB may refuse the open file
            raise database.explain(error) from error
        elif self._durable is not None and transaction.is_durable and self._durable_suspected:
            raise self._durable.damaged(str(error)) from error
        else:
            self._durable_suspected = transaction.is_durable  # if it happens again, it was not the coordination file
            self._begin_anew(database.path, error)

    def _outdated(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"a newer version of cross-instance-runtime uses {self.folder} and has written what this one cannot read "
            f"({error}); upgrade this process, or give it a folder of its own with PI_RUNTIME_DIR"
        )

    def _begin_anew(self, path: Path, error: Exception) -> None:
        """Set the coordination file aside."""
        self._shut_databases()
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        path.rename(aside)
        self._gate.replace()
        text = f"the store's file {path} was damaged and is begun anew; it is kept as {aside.name} ({error})"
        log.error(text)
        self._notices.append(Notice("store-damaged", text))

    def _holder(self) -> int:
        with self._lock:
            if self._refusal is not None:
                raise StoreUnavailable(self._refusal)
            return self._gate.holder()

    # --- opening and closing -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def entered(self, patience: float) -> Iterator[None]:
        """Be inside the gate for something other than an operation, with the files open."""
        thread = threading.get_ident()
        if self._inside == thread:
            raise StoreUnavailable(NESTED)
        tries = Tries(time.monotonic() + patience, self.folder, self._holder)
        for _ in tries:
            with self._lock:
                if self._refusal is not None:
                    raise StoreUnavailable(self._refusal)
                self._inside = thread
                try:
                    if self._gate.enter():
                        self._present()
                        yield
                        return
                finally:
                    self._inside = 0
                    self._gate.leave()
        raise tries.refusal()

    def _open_first(self, patience: float) -> None:
        """Open the files; of many processes that start together, each verifies them without keeping the others out."""
        with self.entered(patience):
            database, generation = self._present(), self._generation
            copy = database.copy()
        self._verifies = True
        problem = None if copy is None else problem_of(copy)
        if problem is not None:
            with self.entered(patience):
                if self._generation == generation:
                    self._begin_anew(database.path, database.damaged(problem))

    def _open_gate(self) -> None:
        filesystem = folders.prepare(self.folder)
        path = self.folder / folders.GATE
        try:
            self._gate = Gate(path)
        except OSError as error:
            raise folders.describe(error, path) from error
        self._filesystem = filesystem
        self._post = Post(self.folder / folders.WAKE, self.mailboxes.deliver)

    def _present(self) -> Database:
        """The coordination file as it is now, which may not be the one that is open; called inside the gate."""
        if self._gate.is_gone():
            self._move()
        if self._coordination is None or self._gate.generation() != self._generation:
            self._shut_databases()
            self._coordination = self._open_coordination()
            self._generation = self._gate.generation()
            self._gate.announce_format(FORMAT)
            folders.remove_earlier_boots(self.folder)
        return self._coordination

    def _move(self) -> None:
        """Stand inside the gate of the folder that has taken the place of the one that is gone."""
        gate, post = self._gate, self._post
        self._shut_databases()
        self._open_gate()
        post.close()
        gate.close()
        text = f"the folder {self.folder} was removed while in use, or moved; another is used in its place"
        log.warning(text)
        self._notices.append(Notice("store-removed", f"{text}, and what was held before is not counted any more"))
        tries = Tries(time.monotonic() + self._patience, self.folder, self._gate.holder)
        for _ in tries:
            if self._gate.enter():
                return
        raise tries.refusal()

    def _open_coordination(self) -> Database:
        path = folders.coordination_path(self.folder)
        try:
            return Database(path, self._filesystem, durable=False, verify=self._verifies)
        except StoreCorrupt as error:
            self._begin_anew(path, error)
            return Database(path, self._filesystem, durable=False)

    def _shut_databases(self) -> None:
        for database in (self._coordination, self._durable):
            if database is not None:
                database.close()
        self._coordination = self._durable = None

    def close(self) -> None:
        """Close everything; every later call raises `StoreUnavailable`."""
        self.mailboxes.close()
        with self._lock:
            if self._refusal is None:
                self._refusal = "this store is closed"
                self._shut_databases()
                self._gate.close()
        self._post.close()
        self._worker.shutdown(wait=False)

    # --- forking -----------------------------------------------------------------------------------------------

    def hold(self) -> bool:
        """Keep every other thread outside; whether that needs `let_go` afterwards."""
        return self._inside != threading.get_ident() and self._lock.acquire()

    def let_go(self) -> None:
        """End `hold`."""
        self._lock.release()

    def abandon(self) -> None:
        """Close this forked child's copies; what they refer to is its parent's."""
        self._refusal = "this store was opened before the fork; open one in the child"
        self._shut_databases()
        self._gate.close()
        self._post.abandon()
        self.mailboxes = Mailboxes()  # a thread that does not exist here may hold the lock of the other
        self.mailboxes.close()
