"""Attempts: one run of a task's function, and how it ends.

1. An attempt ends once: by its function, or before it by whoever ran out of patience (`give_up`).
2. A coroutine that is to end is cancelled. A thread cannot be: it hears of it as `context` says, and keeps its slot
   until its function has returned.
3. Whatever a function raises is an error of the task, never of the worker.
"""

from __future__ import annotations

import asyncio
import traceback
from concurrent.futures import thread
from contextvars import copy_context
from random import getrandbits
from typing import TYPE_CHECKING, Any

from cross_instance.errors import PayloadError, RateLimitExceeded, RequestTooLarge, TaskCancelled
from cross_instance.rules.operations import FOREVER, ClaimedTask, HeldTask, TaskEnd, TaskOutcome
from cross_instance.rules.task_checks import MOST_BYTES, MOST_ERROR
from cross_instance.tasks import context, payloads
from cross_instance.tasks.registry import micros

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import Instant
    from cross_instance.tasks.registry import Kind

CLEANING_UP = 5.0
"""Seconds that the coroutines of a worker that ends have to clean up."""


class Attempt:
    """One claimed task at work. `end` is what the store is to be told, once it is known; None: nothing.

    `permit` is the claim's (incarnation, seq), `began` its instant; `deadline` the store's instant (mono µs) at which
    its time is up.
    """

    def __init__(self, membership: Membership, permit: tuple[int, int], claimed: ClaimedTask, began: Instant) -> None:
        self.permit = permit
        self.claimed = claimed
        self.began = began
        self.running = context.RunningTask(membership, claimed)
        self.deadline = min(began.mono + claimed.spec.timeout, FOREVER)
        self.end: TaskEnd | None = None
        self._is_over = self._is_async = self._asked_to_end = False
        self._body: asyncio.Task[None] | None = None

    def start(self, kind: Kind | None, executor: Executor, done: Callable[[Attempt], None]) -> None:
        """Run the function; `done` is called in the event loop when it has returned."""
        own = copy_context()
        own.run(context.enter, self.running)
        self._is_async = kind is not None and kind.is_async
        loop = asyncio.get_running_loop()
        self._body = loop.create_task(self._run(kind, executor), context=own)
        self._body.add_done_callback(lambda _: self._returned(done))

    def _returned(self, done: Callable[[Attempt], None]) -> None:
        self._settle(TaskOutcome.CANCELLED if self._asked_to_end else TaskOutcome.RELEASED)  # it never began
        done(self)

    async def returned(self) -> None:
        """Wait until a coroutine that was stopped has cleaned up; a thread is not waited for."""
        if self._is_async and self._body is not None:
            await asyncio.wait({self._body}, timeout=CLEANING_UP)

    async def _run(self, kind: Kind | None, executor: Executor) -> None:
        try:
            result = payloads.encode(await self._call(kind, executor), "the result", MOST_BYTES)
        except asyncio.CancelledError as error:
            asked = self._asked_to_end
            self._settle(TaskOutcome.CANCELLED if asked else TaskOutcome.RETRY, _text(error))
        except BaseException as error:  # noqa: BLE001  # SystemExit and KeyboardInterrupt in a function are its own
            self._fail(error)
        else:
            self._settle(TaskOutcome.DONE, result=result)

    async def _call(self, kind: Kind | None, executor: Executor) -> Any:
        if kind is None:
            raise context.AbandonTask(f"this worker has no function for tasks {self.claimed.spec.kind!r}")
        args, kwargs = payloads.decode_call(self.claimed.spec.payload)
        if kind.is_async:
            return await kind.function(*args, **kwargs)
        call = copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, lambda: call.run(kind.function, *args, **kwargs))

    def _fail(self, error: BaseException) -> None:
        outcome, after = TaskOutcome.RETRY, None
        if isinstance(error, TaskCancelled) and self._asked_to_end:
            outcome = TaskOutcome.CANCELLED
        elif isinstance(error, context.AbandonTask | PayloadError | RequestTooLarge):
            outcome = TaskOutcome.FAILED
        elif isinstance(error, context.RetryTask):
            after = error.after
        elif isinstance(error, RateLimitExceeded):
            after = error.retry_after or None
        self._settle(outcome, _text(error), after=after)

    def _settle(self, outcome: TaskOutcome, error: str = "", result: bytes = b"", after: float | None = None) -> None:
        if self._is_over:
            return
        wait = None if after is None else min(micros("after", max(0.0, after)), FOREVER // 2)
        self.end = TaskEnd(self.claimed.spec.task, self.claimed.epoch, outcome, result, error, wait, getrandbits(32))
        self._is_over = True

    @property
    def is_over(self) -> bool:
        """Whether it is known how it ended; its function may still run."""
        return self._is_over

    def refuse(self) -> None:
        """Do not begin: it was cancelled before."""
        self._settle(TaskOutcome.CANCELLED)

    def cancel(self) -> None:
        """Ask it to end; how it does is its own matter."""
        if not self._asked_to_end:
            self._asked_to_end = True
            self._stop("it was cancelled")

    def expire(self) -> None:
        """Its time is up: the attempt has failed."""
        self._settle(TaskOutcome.RETRY, f"TimeoutError: no end after {self.claimed.spec.timeout / 1_000_000:g} s")
        self._stop("its time is up")

    def release(self) -> None:
        """Give it back unfinished."""
        self._settle(TaskOutcome.RELEASED)
        self._stop("its worker ends")

    def drop(self) -> None:
        """It is not this instance's any more: whatever comes of it, nobody is told."""
        self._is_over, self.end = True, None
        self._stop("this instance does not own it any more")

    def _stop(self, why: str) -> None:
        self.running.stopping = why
        if self._is_async and self._body is not None:
            self._body.cancel()

    def held(self) -> HeldTask:
        """What the store is told of it while it runs."""
        return HeldTask(self.claimed.spec.task, self.claimed.epoch, self.running.untold)


def _text(error: BaseException) -> str:
    """The end of a traceback from the task's function on, in valid Unicode and not too long."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, thread.__file__):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace)).encode(errors="backslashreplace")
    return text[-MOST_ERROR:].decode(errors="ignore")
