"""Peers: other people's libraries, used as their documentation says.

Loaded by name, since none of them is needed to use or test this project. Their limits never bind.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.contenders import Contender, Sampler, async_sampler, sampler
from bench.measuring import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLENTY = 10_000_000
"""Permits per second, or slots, that are never used up."""


def _nothing() -> None:
    """What a throttled function does here."""


@contextmanager
def diskcache_throttle(folder: Path) -> Iterator[Sampler]:
    diskcache: Any = import_module("diskcache")
    with diskcache.Cache(str(folder)) as cache:
        yield sampler(diskcache.throttle(cache, PLENTY, 1, name="throttle")(_nothing))


@contextmanager
def diskcache_semaphore(folder: Path) -> Iterator[Sampler]:
    diskcache: Any = import_module("diskcache")
    with diskcache.Cache(str(folder)) as cache:
        semaphore = diskcache.BoundedSemaphore(cache, "semaphore", value=PLENTY)

        def pair() -> None:
            with semaphore:
                pass

        yield sampler(pair)


def pyrate_limiter(folder: Path, permits: int, milliseconds: int) -> Any:
    """A limiter that processes share through SQLite and a lock file."""
    pyrate: Any = import_module("pyrate_limiter")
    bucket = pyrate.SQLiteBucket.init_from_file(
        [pyrate.Rate(permits, milliseconds)], db_path=str(folder / "pyrate.sqlite"), use_file_lock=True
    )
    return pyrate.Limiter(bucket)


@contextmanager
def pyrate_sqlite(folder: Path) -> Iterator[Sampler]:
    with closing(pyrate_limiter(folder, PLENTY, 1_000)) as limiter:
        yield sampler(limiter.try_acquire)


@contextmanager
def token_throttle_sqlite(folder: Path) -> Iterator[Sampler]:
    throttle: Any = import_module("token_throttle")
    quotas = throttle.UsageQuotas(
        [
            throttle.Quota(metric="requests", limit=PLENTY, per_seconds=1),
            throttle.Quota(metric="tokens", limit=PLENTY, per_seconds=1),
        ]
    )
    backend = throttle.SyncSqliteBackendBuilder(str(folder / "throttle.sqlite"), key_prefix="bench")
    usage = {"requests": 1, "tokens": 1_000}
    with throttle.SyncRateLimiter(throttle.PerModelConfig(quotas=quotas), backend=backend) as limiter:

        def pair() -> None:
            with limiter.reserve(usage, "m-1") as handle:
                handle.set_actual_usage(usage)

        yield sampler(pair)


@contextmanager
def limits_memory(folder: Path) -> Iterator[Sampler]:
    limits: Any = import_module("limits")
    limiter = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerSecond(PLENTY)
    yield sampler(lambda: limiter.hit(item, folder.name))


@contextmanager
def aiolimiter_memory(_: Path) -> Iterator[Sampler]:
    aiolimiter: Any = import_module("aiolimiter")
    limiter = aiolimiter.AsyncLimiter(PLENTY, 1)
    with asyncio.Runner() as runner:
        yield async_sampler(runner, limiter.acquire)


SHARED = (
    Contender("diskcache throttle", Role.PEER, diskcache_throttle, "diskcache"),
    Contender("diskcache semaphore", Role.PEER, diskcache_semaphore, "diskcache"),
    Contender("pyrate-limiter SQLite", Role.PEER, pyrate_sqlite, "pyrate_limiter"),
    Contender(
        "token-throttle SQLite",
        Role.PEER,
        token_throttle_sqlite,
        "token_throttle",
        "not installed: it needs Python 3.12 or newer",
    ),
)
"""Those that coordinate processes of one machine without a server."""

ALONE = (
    Contender("limits, memory", Role.UNCOORDINATED, limits_memory, "limits"),
    Contender("aiolimiter, memory", Role.UNCOORDINATED, aiolimiter_memory, "aiolimiter"),
)
"""Those that count in one process only."""
