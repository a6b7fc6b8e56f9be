"""Our own contenders, on the embedded store: the store by itself, and what users call.

The account has three limits that never bind (requests, tokens, slots), as a provider's have.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.contenders import Contender, Sampler, async_sampler, sampler
from bench.measuring import Role
from cross_instance import AsyncRuntime, Runtime
from cross_instance.config import load_settings
from cross_instance.rules.operations import (
    SECOND,
    Acquire,
    Configure,
    Configured,
    Costs,
    Granted,
    Join,
    Joined,
    Priority,
    Settle,
)
from cross_instance.stores.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cross_instance.config import Settings
    from cross_instance.rules.operations import AccountSpec
    from cross_instance.stores.base import Store

PROVIDER, MODEL = "acme", "m-1"
ACCOUNT = f"{PROVIDER}/default"
NEVER_BINDING = {
    "requestsPerMinute": 60_000_000,
    "burst": 1_000_000,
    "tokensPerMinute": 600_000_000,
    "concurrency": 10_000,
}
COSTS = Costs(1, 1_000, 800, 200)
HOUR = 3600 * SECOND


def settings_in(folder: Path, **limits: Any) -> Settings:
    """`settings_for` with these limits for `PROVIDER`."""
    return settings_for(folder, {PROVIDER: limits})


def settings_for(folder: Path, providers: dict[str, dict[str, Any]], **more: Any) -> Settings:
    """Settings that nothing outside the folder has a say in."""
    runtime_dir = str(folder / "runtime")
    return load_settings(folder, environ={}, home=folder, runtime_dir=runtime_dir, providers=providers, **more)


class Member(NamedTuple):
    """An instance at `ACCOUNT`, as the store's operations name it."""

    incarnation: int
    revision: int

    def acquire(self, seq: int) -> Acquire:
        return Acquire(self.incarnation, seq, ACCOUNT, "", self.revision, MODEL, Priority.NORMAL, COSTS)

    def settle(self, seq: int) -> Settle:
        return Settle(self.incarnation, seq, usage=COSTS)


def join(store: Store, spec: AccountSpec) -> Member:
    """A new instance that has published the limits of `ACCOUNT`, and needs no heartbeat for an hour."""
    name = uuid.uuid4().hex
    joined = store.run(Join(name, name, os.getpid(), "bench", "bench", timeout=HOUR))
    assert isinstance(joined, Joined)
    configured = store.run(Configure(joined.incarnation, ACCOUNT, spec))
    assert isinstance(configured, Configured)
    return Member(joined.incarnation, configured.revision)


@contextmanager
def store(folder: Path) -> Iterator[Sampler]:
    embedded = EmbeddedStore(folder / "runtime")
    member = join(embedded, settings_in(folder, **NEVER_BINDING).account_spec(PROVIDER, "default"))
    seqs, run = count(1), embedded.run

    def pair() -> None:
        seq = next(seqs)
        granted = run(member.acquire(seq))
        if type(granted) is not Granted:
            raise RuntimeError(f"not granted: {granted}")
        run(member.settle(seq))

    yield sampler(pair)
    embedded.close()


@contextmanager
def runtime(folder: Path) -> Iterator[Sampler]:
    with Runtime(settings=settings_in(folder, **NEVER_BINDING)) as joined:

        def pair() -> None:
            with joined.permit(PROVIDER, MODEL, tokens=1_000):
                pass

        yield sampler(pair)


@contextmanager
def async_runtime(folder: Path) -> Iterator[Sampler]:
    with asyncio.Runner() as runner:
        joined = runner.run(_opened(AsyncRuntime(settings=settings_in(folder, **NEVER_BINDING))))

        async def pair() -> None:
            async with joined.permit(PROVIDER, MODEL, tokens=1_000):
                pass

        yield async_sampler(runner, pair)
        runner.run(joined.close())


async def _opened(runtime: AsyncRuntime) -> AsyncRuntime:
    await runtime.join()
    return runtime


STORE = Contender("cross-instance, store", Role.OURS, store)
RUNTIME = Contender("cross-instance, Runtime", Role.OURS, runtime)
ASYNC_RUNTIME = Contender("cross-instance, AsyncRuntime", Role.OURS, async_runtime)
