"""Contenders: whoever hands out permits, in a form that can be timed in this process or in others.

1. Opened in one folder by as many processes as there are, a contender shares one limit among them, or does not.
2. The limits are so high that nobody ever waits for capacity: what is measured is the price of the decision.
3. A contender whose package is not installed is left out, and the results say so.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.measuring import Role

Sampler = Callable[[int, int], "array[int]"]
"""Takes permits and gives them back: at most so many, and until an instant (`monotonic_ns`), but one at
least; their durations in ns."""

FOREVER = 1 << 62
"""An instant that never comes, or a number that is never reached."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Someone to measure. `open` can be sent to another process; `module` must be installed, or `absent` says why."""

    name: str
    role: Role
    open: Callable[[Path], AbstractContextManager[Sampler]]
    module: str = "cross_instance"
    absent: str = "not installed"

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


def sampler(pair: Callable[[], object]) -> Sampler:
    """Time a function that takes a permit and gives it back."""

    def sample(most: int, until: int) -> array[int]:
        durations = array("q")
        clock = time.monotonic_ns
        while True:
            begun = clock()
            pair()
            ended = clock()
            durations.append(ended - begun)
            if len(durations) >= most or ended >= until:
                return durations

    return sample


def async_sampler(runner: asyncio.Runner, pair: Callable[[], Awaitable[object]]) -> Sampler:
    """Time a coroutine function that takes a permit and gives it back, inside one event loop."""

    async def sample(most: int, until: int) -> array[int]:
        durations = array("q")
        clock = time.monotonic_ns
        while True:
            begun = clock()
            await pair()
            ended = clock()
            durations.append(ended - begun)
            if len(durations) >= most or ended >= until:
                return durations

    return lambda most, until: runner.run(sample(most, until))


def absent(contenders: Iterable[Contender]) -> tuple[str, ...]:
    """Those that are left out, and why."""
    return tuple(f"{one.name} ({one.absent})" for one in contenders if not one.is_installed)
