"""Contenders on a Redis or Valkey server: the floor, ours, and peers.

1. The floor is a bare EVALSHA by redis-py: a script that writes one field and gives back its argument, which is as
   long as an operation of ours.
2. A permit of ours is one operation and its settlement another; each is a contender of its own here. What users call is
   both; its floor is two bare calls. Peers take one call for each permit, and give nothing back.
"""

from __future__ import annotations

import time
from array import array
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.contenders import Contender, Sampler, sampler
from bench.measuring import Role
from bench.ours import COSTS, MODEL, NEVER_BINDING, PROVIDER, join, settings_in
from bench.peers import PLENTY
from bench.servers import client, url_in
from cross_instance import Runtime
from cross_instance.rules.operations import Granted
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = "redis.call('HSET', KEYS[1], 'field', ARGV[1]) return ARGV[1]"
ARGUMENT = bytes(120)


@contextmanager
def bare(folder: Path) -> Iterator[Sampler]:
    with client(url_in(folder)) as server:
        sha = server.script_load(SCRIPT)
        yield sampler(lambda: server.evalsha(sha, 2, "{bare}:1", "{bare}:2", ARGUMENT))


@contextmanager
def twice(folder: Path) -> Iterator[Sampler]:
    with client(url_in(folder)) as server:
        sha = server.script_load(SCRIPT)

        def pair() -> None:
            server.evalsha(sha, 2, "{bare}:1", "{bare}:2", ARGUMENT)
            server.evalsha(sha, 2, "{bare}:1", "{bare}:2", ARGUMENT)

        yield sampler(pair)


def _timed(folder: Path, *, permit: bool) -> Iterator[Sampler]:
    """Time one of the two operations of a permit; the other one is made in between."""
    with closing(open_store(url_in(folder))) as store:
        member = join(store, settings_in(folder, **NEVER_BINDING).account_spec(PROVIDER, "default"))
        seqs, clock = count(1), time.monotonic_ns

        def sample(most: int, until: int) -> array[int]:
            durations = array("q")
            while True:
                seq = next(seqs)
                begun = clock()
                granted = store.run(member.acquire(seq))
                between = clock()
                store.run(member.settle(seq))
                ended = clock()
                if type(granted) is not Granted:
                    raise RuntimeError(f"not granted: {granted}")
                durations.append(between - begun if permit else ended - between)
                if len(durations) >= most or ended >= until:
                    return durations

        yield sample


@contextmanager
def permit(folder: Path) -> Iterator[Sampler]:
    yield from _timed(folder, permit=True)


@contextmanager
def settlement(folder: Path) -> Iterator[Sampler]:
    yield from _timed(folder, permit=False)


@contextmanager
def runtime(folder: Path) -> Iterator[Sampler]:
    with Runtime(settings=settings_in(folder, **NEVER_BINDING), store=url_in(folder)) as joined:

        def pair() -> None:
            with joined.permit(PROVIDER, MODEL, costs=COSTS):
                pass

        yield sampler(pair)


@contextmanager
def limits(folder: Path) -> Iterator[Sampler]:
    library: Any = import_module("limits")
    storage = library.storage.storage_from_string(url_in(folder))
    limiter = library.strategies.SlidingWindowCounterRateLimiter(storage)
    item = library.RateLimitItemPerSecond(PLENTY)
    yield sampler(lambda: limiter.hit(item, "bench"))


@contextmanager
def throttled(folder: Path) -> Iterator[Sampler]:
    library: Any = import_module("throttled")
    limiter = library.Throttled(
        key="bench",
        using=library.RateLimiterType.TOKEN_BUCKET.value,
        quota=library.per_sec(PLENTY, burst=PLENTY),
        store=library.RedisStore(server=url_in(folder)),
    )
    yield sampler(limiter.limit)


@contextmanager
def pyrate(folder: Path) -> Iterator[Sampler]:
    library: Any = import_module("pyrate_limiter")
    with client(url_in(folder)) as server:
        bucket = library.RedisBucket.init([library.Rate(PLENTY, 1_000)], server, "bench-pyrate")
        with closing(library.Limiter(bucket)) as limiter:
            yield sampler(lambda: limiter.try_acquire("bench"))


@contextmanager
def steindamm(folder: Path) -> Iterator[Sampler]:
    library: Any = import_module("steindamm")
    with client(url_in(folder)) as server:
        bucket = library.SyncRedisTokenBucket(
            connection=server,
            name="bench",
            capacity=float(PLENTY),
            refill_frequency=0.001,
            refill_amount=PLENTY / 1_000,
        )

        def take() -> None:
            with bucket:
                pass

        yield sampler(take)


FLOOR = Contender("a bare EVALSHA by redis-py", Role.FLOOR, bare, "redis")
FLOOR_OF_BOTH = Contender("two of them", Role.FLOOR, twice, "redis")
PERMIT = Contender("cross-instance, permit", Role.OURS, permit, "redis")
SETTLEMENT = Contender("cross-instance, settlement", Role.OURS, settlement, "redis")
RUNTIME = Contender("cross-instance, Runtime", Role.OURS, runtime, "redis")
PEERS = (
    Contender("limits, sliding window", Role.PEER, limits, "limits"),
    Contender("throttled-py, token bucket", Role.PEER, throttled, "throttled"),
    Contender("pyrate-limiter, Redis", Role.PEER, pyrate, "pyrate_limiter"),
    Contender("steindamm, token bucket", Role.PEER, steindamm, "steindamm"),
)
