"""Every store against every law. A store joins by one more entry in a table; nothing below tells them apart.

A store that cannot be had (a server that is not installed) calls `missing`: a skip locally, a failure where `CI=true`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from tests.missing import missing
from tests.stores.redis_server import Server, open_async_redis, open_redis

from cross_instance.rules.operations import Granted, Operation, Result, World
from cross_instance.stores.base import Permit
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.testing import FakeClock, ModelStore
from cross_instance.testing.conformance import (
    ASYNC_LAWS,
    LAWS,
    AsyncLaw,
    AsyncStoreUnderTest,
    ConformanceError,
    Elapse,
    Law,
    StoreUnderTest,
    Storm,
    blocking,
    check_async_store,
    check_store,
    random_operations,
)


class Ground:
    """What stores stand on: a folder, and a server that is started for the first one that wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def server(self) -> Server:
        return Server()

    def close(self) -> None:
        if "server" in vars(self):
            self.server.close()


def model(_: Ground) -> StoreUnderTest:
    return StoreUnderTest(lambda _, clock: ModelStore(FakeClock() if clock is None else clock), shares=False)


def redis(ground: Ground) -> StoreUnderTest:
    return StoreUnderTest(lambda space, clock: open_redis(ground.server.socket_url(space), present(clock)))


def redis_in_real_time(ground: Ground) -> StoreUnderTest:
    return StoreUnderTest(lambda space, _: open_redis(ground.server.url(space)), takes_clock=False)


def async_redis(ground: Ground) -> AsyncStoreUnderTest:
    return AsyncStoreUnderTest(lambda space, clock: open_async_redis(ground.server.url(space), present(clock)))


def embedded(ground: Ground) -> StoreUnderTest:
    return StoreUnderTest(lambda space, clock: EmbeddedStore(only(ground.folder, space), clock=present(clock)))


def embedded_in_real_time(ground: Ground) -> StoreUnderTest:
    return StoreUnderTest(lambda space, _: EmbeddedStore(only(ground.folder, space)), takes_clock=False)


def async_embedded(ground: Ground) -> AsyncStoreUnderTest:
    return AsyncStoreUnderTest(
        lambda space, clock: AsyncEmbeddedStore(only(ground.folder, space), clock=present(clock))
    )


def only(folder: Path, space: str) -> Path:
    """The folder of a space; those of earlier ones, which take 16 MB each, are removed."""
    for other in folder.iterdir():
        if other.name != space:
            shutil.rmtree(other)
    return folder / space


def present(clock: FakeClock | None) -> FakeClock:
    assert clock is not None, "these stores take a clock"
    return clock


STORES: dict[str, Callable[[Ground], StoreUnderTest]] = {
    "model": model,
    "embedded": embedded,
    "embedded-real-time": embedded_in_real_time,
    "redis": redis,
    "redis-real-time": redis_in_real_time,
}
ASYNC_STORES: dict[str, Callable[[Ground], AsyncStoreUnderTest]] = {"embedded": async_embedded, "redis": async_redis}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, ground: Ground) -> StoreUnderTest:
    return STORES[request.param](ground)


@pytest.fixture(params=ASYNC_STORES)
def async_store(request: pytest.FixtureRequest, ground: Ground) -> AsyncStoreUnderTest:
    return ASYNC_STORES[request.param](ground)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with closing(Ground(tmp_path_factory.mktemp("spaces"))) as ground:
        yield ground


def skip_where_lacking(store: StoreUnderTest, law: Law) -> None:
    lacking = store.lacks(law.needs)
    if lacking:
        pytest.skip(f"needs {', '.join(sorted(need.value for need in lacking))}")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_store_keeps_the_law(store: StoreUnderTest, law: Law) -> None:
    skip_where_lacking(store, law)
    law.check(store)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_an_async_store_keeps_the_law(async_store: AsyncStoreUnderTest, law: Law) -> None:
    with blocking(async_store) as twin:
        skip_where_lacking(twin, law)
        law.check(twin)


@pytest.mark.parametrize("law", ASYNC_LAWS, ids=lambda law: law.name)
def test_tasks_keep_the_law(async_store: AsyncStoreUnderTest, law: AsyncLaw) -> None:
    law.check(async_store)


# --- the suite itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_store_is_skipped_here_and_fails_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no such server"):
        missing("no such server")


def test_every_law_has_a_name_and_a_sentence_of_its_own() -> None:
    laws: list[Law | AsyncLaw] = [*LAWS, *ASYNC_LAWS]
    assert len({law.name for law in laws}) == len(laws)
    assert all(law.sentence.endswith(".") for law in laws)


Lie = Callable[[Result], dict[str, object]]
R = TypeVar("R", bound=Result)


class Liar(ModelStore):
    """A store that is right in everything but one kind of answer."""

    def __init__(self, clock: FakeClock, lie: Lie) -> None:
        super().__init__(clock)
        self.lie = lie

    def run(self, op: Operation[R], /) -> R:
        result = super().run(op)
        changed = self.lie(result)
        return msgspec.structs.replace(result, **changed)


def waits_a_bit(result: Result) -> dict[str, object]:
    return {"waited": 1} if isinstance(result, Granted) else {}


def wakes_nobody(_: Result) -> dict[str, object]:
    return {"wakes": ()}


def runs_backwards(result: Result) -> dict[str, object]:
    return {"at": FakeClock(0)()} if isinstance(result, World) else {}


@pytest.mark.parametrize("lie", [waits_a_bit, wakes_nobody, runs_backwards])
def test_the_suite_finds_a_store_that_answers_wrongly(lie: Lie) -> None:
    liars = StoreUnderTest(lambda _, clock: Liar(present(clock), lie), shares=False)
    with pytest.raises(ConformanceError):
        check_store(liars)


class Forgetful(ModelStore):
    """A store that loses its wakes."""

    def wait(self, permit: Permit, timeout: float, /) -> None:
        super().wait(permit, timeout)


def test_the_suite_finds_a_store_that_loses_wakes() -> None:
    with pytest.raises(ConformanceError, match="wake was kept"):
        check_store(StoreUnderTest(lambda _, clock: Forgetful(present(clock)), shares=False))


def named(*names: str) -> list[Law]:
    return [law for law in LAWS if law.name in names]


def test_the_suite_tells_which_laws_were_left_out() -> None:
    motionless = StoreUnderTest(lambda _, __: ModelStore(), takes_clock=False, shares=False)
    left_out = check_store(motionless, named("all_or_nothing", "an_offer_passes_on", "threads_take_turns"))
    assert [law.name for law in left_out] == ["an_offer_passes_on", "threads_take_turns"]


def test_the_asynchronous_suite_checks_both_kinds_of_law(ground: Ground) -> None:
    left_out = check_async_store(async_embedded(ground), named("all_or_nothing", "threads_take_turns"))
    assert [law.name for law in left_out] == ["threads_take_turns"]


def run_through(storm: Storm, store: ModelStore) -> Iterator[object]:
    """The steps of a storm, as they are taken."""
    result = None
    while True:
        try:
            step = storm.send(result)
        except StopIteration:
            return
        yield step
        try:
            result = None if isinstance(step, Elapse) else store.run(step)
        except ValueError:
            result = None


def test_a_storm_is_the_same_for_the_same_seed() -> None:
    def steps(seed: int) -> list[object]:
        storm, store = random_operations(seed, 50), ModelStore()
        return [*run_through(storm, store)]

    assert steps(3) == steps(3) != steps(4)
