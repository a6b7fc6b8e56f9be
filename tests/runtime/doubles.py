"""A store whose time passes only by waiting: the model with a script of what happens while somebody waits."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from cross_instance.rules.operations import SECOND, Acquire, Granted, Settle
from cross_instance.testing import ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cross_instance.config import Settings
    from cross_instance.rules.operations import Wake

from cross_instance.config import load_settings


def settings_in(folder: Path, **arguments: Any) -> Settings:
    """Settings that nothing outside the folder has a say in."""
    runtime_dir = str(folder / "runtime")
    return load_settings(folder, environ={}, home=folder, runtime_dir=runtime_dir, **arguments)


def one_at_a_time(folder: Path, **arguments: Any) -> Settings:
    """An account that takes one request at a time."""
    return settings_in(folder, providers={"acme": {"requestsPerMinute": 60_000, "concurrency": 1}}, **arguments)


class Timeline(ModelStore):
    """The model, told of every call: `ops` holds operations with their results.

    `wait` does the next thing of `meanwhile`, or else lets the time pass that it was asked to wait. `before` is
    called with each call's name, to interrupt it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[tuple[Any, Any]] = []
        self.meanwhile: deque[Callable[[], object]] = deque()
        self.before: Callable[[str], object] = lambda name: None
        self._turn = threading.RLock()

    def run(self, op: Any, /) -> Any:
        with self._turn:
            self.before(type(op).__name__)
            result = super().run(op)
            self.ops.append((op, result))
            return result

    def wait(self, permit: tuple[int, int], timeout: float, /) -> Wake | None:
        self.before("wait")
        if self.meanwhile:
            self.meanwhile.popleft()()
        wake = super().wait(permit, timeout)
        if wake is None:
            self.clock.advance(round(timeout * SECOND))
        return wake

    def asked(self) -> list[Any]:
        """The operations, without what differs from run to run by chance."""
        return [_without_chance(op) for op, _ in self.ops]

    def unended(self) -> set[tuple[int, int]]:
        """The permits that were granted and neither settled nor given back."""
        granted = {(op.incarnation, op.seq) for op, result in self.ops if isinstance(result, Granted)}
        ended = {(op.incarnation, op.seq) for op, _ in self.ops if type(op).__name__ in {"Settle", "Cancel"}}
        return granted - ended


def _without_chance(op: Any) -> Any:
    if isinstance(op, Acquire):
        return op
    if isinstance(op, Settle):
        return msgspec.structs.replace(op, draw=0, delay=0, duration=0)
    return type(op).__name__


class AsyncTimeline:
    """The same timeline for asyncio; every call gives way to the loop before and after."""

    def __init__(self, store: Timeline) -> None:
        self.store = store
        self.pause: Callable[[str], Any] = lambda name: asyncio.sleep(0)

    async def run(self, op: Any, /) -> Any:
        await self.pause(f"before {type(op).__name__}")
        result = self.store.run(op)
        await self.pause(f"after {type(op).__name__}")
        return result

    async def wait(self, permit: tuple[int, int], timeout: float, /) -> Wake | None:
        await self.pause("wait")
        return self.store.wait(permit, timeout)

    def forget(self, permit: tuple[int, int], /) -> None:
        self.store.forget(permit)

    def now(self) -> int:
        return self.store.now()

    async def close(self) -> None:
        self.store.close()
