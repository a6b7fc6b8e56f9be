"""What runtimes offer for tasks: `task`, `submit`, `submit_many`, `work`, `drain` and `tasks`.

1. Both runtimes have the same worker: it runs in the caller's event loop, or in one that `Runtime.work` has for it.
   Coroutine functions run in that loop, all others in threads, one for each slot.
2. A task is meant for the submitter's own instance where its id was given, since it will come back under it; an id
   that was made up ends with its process, and its tasks are for whoever comes first.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from cross_instance.degraded.steady import AsyncSteadyStore
from cross_instance.stores.urls import open_async_store
from cross_instance.tasks.adapter import ThreadedStore
from cross_instance.tasks.managing import AsyncTasks, Tasks
from cross_instance.tasks.registry import Kinds, Options, micros, own_tags, times_of
from cross_instance.tasks.worker import Job, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from cross_instance.membership.membership import Membership
    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.stores.base import AsyncStore, Store
    from cross_instance.tasks.handles import AsyncTaskHandle, TaskHandle

F = TypeVar("F", bound="Callable[..., Any]")

MOST_SLOTS = 1_000
"""Tasks that one instance runs at once, at most: as many as one renewal names."""
DRAIN_SIGNALS = (signal.SIGTERM,)


class _TaskMethods:
    """What both runtimes have in common."""

    account: str
    _membership: Membership
    _location: str
    _given: Store | None
    _named: str | None
    _worker: Worker | None = None
    _ends_the_next = False
    """Whether it was drained while nobody worked."""

    @cached_property
    def _kinds(self) -> Kinds:
        return Kinds(self.account, self._own_queue)

    def _own_queue(self) -> str:
        own = self._membership.instance_id
        return own if own == self._named else ""

    def task(self, name: str, **options: Unpack[Options]) -> Callable[[F], F]:
        """Decorate a function: it runs the tasks of this name. For the options see `Options`.

        Its arguments and its result are JSON-like. Raises `ValueError` and `TypeError` for what makes no sense.
        """

        def register(function: F) -> F:
            self._kinds.register(name, function, options)
            return function

        return register

    def drain(self) -> None:
        """Have `work` claim nothing more and return when what runs has ended, or its `drain_timeout` is over; a
        second time: at once. Where nobody works, the next `work` returns at once. May be called from any thread."""
        if self._worker is None:
            self._ends_the_next = True
        if self._worker is not None:  # it may have come meanwhile
            self._worker.drain()

    def _job(
        self, concurrency: int, steal: bool | None, tags: Sequence[str], drain_timeout: float, until_idle: bool
    ) -> Job:
        if not 1 <= concurrency <= MOST_SLOTS:
            raise ValueError(f"concurrency is a number from 1 to {MOST_SLOTS:,}, not {concurrency}")
        if not self._kinds.by_name:
            raise ValueError("no function is registered: decorate one with `runtime.task(...)`")
        return Job(concurrency, steal, own_tags(tags), micros("drain_timeout", drain_timeout), until_idle)

    async def _serve(self, store: AsyncStore, job: Job, signals: Collection[signal.Signals]) -> None:
        if self._worker is not None:
            raise RuntimeError(f"instance {self._membership.instance_id} is at work already, in this process")
        executor = ThreadPoolExecutor(job.concurrency, thread_name_prefix="cross-instance-task")
        try:
            self._worker = Worker(self._membership, store, self._kinds, job, executor)
            with _draining_on(signals, self._worker):
                if not self._ends_the_next:
                    await self._worker.run()
        finally:
            self._ends_the_next = False
            self._worker = None
            executor.shutdown(wait=False)


class TaskMethods(_TaskMethods):
    """Tasks, for `Runtime`."""

    @cached_property
    def tasks(self) -> Tasks:
        """All tasks at the store: to look at, cancel, send back and purge; queues: to pause."""
        return Tasks(cast("Runtime", self))

    def submit(
        self,
        kind: str | Callable[..., Any],
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        key: str = "",
        delay: float = 0.0,
        run_at: datetime | float | None = None,
        **options: Unpack[Options],
    ) -> TaskHandle:
        """Submit a task: once this returns, it survives the death of every process, and a power cut.

        `kind`: its name, or the function. `args` and `kwargs` are its arguments, JSON-like, at most 1 MiB. `key`:
        while a task with this key is kept, submitting another gives that one. `delay` seconds, and `run_at` (with its
        time zone, or seconds of Unix time): not before. `options`: those of `task`, for this one; `queue` is the
        instance that it is meant for, "" for whoever comes first.

        Raises `PayloadError`, `ValueError`, `TypeError` for what cannot be submitted; `StoreUnavailable`, where it may
        or may not be.
        """
        spec = self._kinds.make(kind, args, dict(kwargs or {}), options, key, times_of(delay, run_at))
        return self.tasks.push([spec])[0]

    def submit_many(
        self,
        kind: str | Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        *,
        key: Callable[..., str] | None = None,
        delay: float = 0.0,
        run_at: datetime | float | None = None,
        **options: Unpack[Options],
    ) -> list[TaskHandle]:
        """Submit many tasks of one kind, a hundred with each operation; each call is a tuple of arguments.

        `key` makes a task's key of its arguments. An error leaves the hundreds before it submitted; see `submit`.
        """
        return self.tasks.push(self._kinds.make_many(kind, calls, options, key, times_of(delay, run_at)))

    def work(
        self,
        concurrency: int = 8,
        *,
        steal: bool | None = None,
        tags: Sequence[str] = (),
        drain_timeout: float = 30.0,
        signals: Collection[signal.Signals] = DRAIN_SIGNALS,
        until_idle: bool = False,
    ) -> None:
        """Run tasks: of this instance's own queue, of the common one, and, when those are empty, of other instances.

        `concurrency`: how many at once. `steal`: whether to take from others (None: as `enableWorkStealing` says).
        `tags`: what this worker is able to do. Works until `drain` is called or one of `signals` comes: then what runs
        has `drain_timeout` seconds to end, and is given back after them. `until_idle`: until nothing is ready for it.

        Raises `RuntimeError` where this instance is at work already, `InstanceFenced` where it was removed and cannot
        join anew. A store out of reach is waited for.
        """
        job = self._job(concurrency, steal, tags, drain_timeout, until_idle)
        self.tasks.join()
        asyncio.run(self._work(job, signals))

    async def _work(self, job: Job, signals: Collection[signal.Signals]) -> None:
        given = self._given
        own = open_async_store(self._location, self._membership.settings) if given is None else ThreadedStore(given)
        store = AsyncSteadyStore(own, self._membership.fallback)
        try:
            await self._serve(store, job, signals)
        finally:
            await store.close()


class AsyncTaskMethods(_TaskMethods):
    """Tasks, for `AsyncRuntime`."""

    @cached_property
    def tasks(self) -> AsyncTasks:
        """All tasks at the store: to look at, cancel, send back and purge; queues: to pause."""
        return AsyncTasks(cast("AsyncRuntime", self))

    async def submit(
        self,
        kind: str | Callable[..., Any],
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        key: str = "",
        delay: float = 0.0,
        run_at: datetime | float | None = None,
        **options: Unpack[Options],
    ) -> AsyncTaskHandle:
        """Submit a task; see `Runtime.submit`."""
        spec = self._kinds.make(kind, args, dict(kwargs or {}), options, key, times_of(delay, run_at))
        return (await self.tasks.push([spec]))[0]

    async def submit_many(
        self,
        kind: str | Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        *,
        key: Callable[..., str] | None = None,
        delay: float = 0.0,
        run_at: datetime | float | None = None,
        **options: Unpack[Options],
    ) -> list[AsyncTaskHandle]:
        """Submit many tasks of one kind; see `Runtime.submit_many`."""
        return await self.tasks.push(self._kinds.make_many(kind, calls, options, key, times_of(delay, run_at)))

    async def work(
        self,
        concurrency: int = 8,
        *,
        steal: bool | None = None,
        tags: Sequence[str] = (),
        drain_timeout: float = 30.0,
        signals: Collection[signal.Signals] = DRAIN_SIGNALS,
        until_idle: bool = False,
    ) -> None:
        """Run tasks; see `Runtime.work`. Cancelled, it gives back what it runs."""
        job = self._job(concurrency, steal, tags, drain_timeout, until_idle)
        runtime = await self.tasks.join()
        await self._serve(runtime.store, job, signals)


@contextmanager
def _draining_on(signals: Collection[signal.Signals], worker: Worker) -> Iterator[None]:
    """Drain when a signal comes; only the main thread is told of them, so elsewhere nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in signals:
        if not _drained.setdefault(number, []):
            _handlers[number] = signal.getsignal(number)
            loop.add_signal_handler(number, _drain_all, number)
        _drained[number].append(worker)
    try:
        yield
    finally:
        for number in signals:
            _drained[number].remove(worker)
            if not _drained[number]:
                loop.remove_signal_handler(number)
                signal.signal(number, _handlers.pop(number) or signal.SIG_DFL)


_drained: dict[signal.Signals, list[Worker]] = {}
"""Whom a signal drains; the first of them has it handled, the last puts back who handled it before."""
_handlers: dict[signal.Signals, Any] = {}


def _drain_all(number: signal.Signals) -> None:
    for worker in _drained[number]:
        worker.drain()
