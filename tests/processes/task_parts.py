"""The parts that processes of their own play in the tests of tasks; they speak as those of `runtime_parts` do."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.processes.runtime_parts import say, settings_for

from cross_instance import AsyncRuntime, CrossInstanceError, Runtime
from cross_instance.rules.operations import Finish, Operation, Result
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.tasks import current_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R", bound=Result)


def _tell(word: str, *rest: object) -> None:
    running = current_task()
    say(word, running.task, running.epoch, *rest)


def _register(runtime: Runtime | AsyncRuntime) -> None:
    @runtime.task("effect")
    def effect(seconds: float = 0.002) -> int:
        _tell("began")
        time.sleep(seconds)  # the work
        _tell("did")
        return current_task().attempt

    runtime.task("held")(_held(runtime) if isinstance(runtime, Runtime) else _held_async(runtime))

    @runtime.task("endless")
    async def endless() -> None:
        current_task().progress("here")
        _tell("began")
        try:
            await asyncio.Event().wait()
        finally:
            _tell("stopped")


def _held(runtime: Runtime) -> Callable[[], str]:
    def held() -> str:
        """Go on at a line; then spend money."""
        _tell("began")
        sys.stdin.readline()
        try:
            with runtime.permit("acme", "m-1", timeout=5):
                _tell("spent")
        except CrossInstanceError as error:
            _tell("refused", type(error).__name__)
            raise
        return "done"

    return held


def _held_async(runtime: AsyncRuntime) -> Callable[[], Awaitable[str]]:
    async def held() -> str:
        _tell("began")
        try:
            await asyncio.to_thread(sys.stdin.readline)
            async with runtime.permit("acme", "m-1", timeout=5):
                _tell("spent")
        except (CrossInstanceError, asyncio.CancelledError) as error:
            _tell("refused", type(error).__name__)
            raise
        return "done"

    return held


def serve(folder: str, settings: dict[str, Any], name: str, concurrency: int = 4, **options: Any) -> None:
    """Work until drained."""
    with Runtime(name, settings=settings_for(folder, settings)) as runtime:
        _register(runtime)
        say("joined", runtime.incarnation)
        runtime.work(concurrency, **options)
    say("left")


def serve_async(folder: str, settings: dict[str, Any], name: str, concurrency: int = 4, **options: Any) -> None:
    """The same in an event loop."""

    async def life() -> None:
        async with AsyncRuntime(name, settings=settings_for(folder, settings)) as runtime:
            _register(runtime)
            say("joined", runtime.incarnation)
            await runtime.work(concurrency, **options)

    asyncio.run(life())
    say("left")


class _ToldStore(EmbeddedStore):
    """A store that tells of each operation and its result; with `halts` the first end of a task waits for a line."""

    def __init__(self, folder: Path, halts: bool = False) -> None:
        super().__init__(folder)
        self._halts = halts

    def run(self, op: Operation[R], /) -> R:
        if self._halts and isinstance(op, Finish):
            self._halts = False
            say("ending")
            sys.stdin.readline()
        result = super().run(op)
        say("op", type(op).__name__, type(result).__name__)
        return result


def serve_told(folder: str, settings: dict[str, Any], name: str, halts: bool = False, **options: Any) -> None:
    """`serve` at a store that tells what it is asked."""
    loaded = settings_for(folder, settings)
    with Runtime(name, store=_ToldStore(loaded.runtime_dir, halts), settings=loaded) as runtime:
        _register(runtime)
        say("joined", runtime.incarnation)
        runtime.work(**options)
    say("left")


def submit(folder: str, settings: dict[str, Any], count: int) -> None:
    """Submit so many tasks, tell their ids, and wait to be killed."""
    with Runtime(settings=settings_for(folder, settings)) as runtime:
        for handle in runtime.submit_many("effect", [()] * count):
            say("submitted", handle.task)
        say("ready")
        sys.stdin.readline()


SERVERS: tuple[Callable[..., None], ...] = (serve, serve_async)
