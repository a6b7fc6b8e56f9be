"""Locks by the coordinator's functions and by `runtime.lock`: one holder, fences that rise, any name."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from threading import Thread

import pytest
from tests.coordinator.conftest import Join
from tests.runtime.doubles import settings_in

from cross_instance import AsyncRuntime, Runtime
from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import SECOND, Snapshot, Sweep
from cross_instance.stores.base import Store
from cross_instance.testing import FakeClock


def test_one_holder_its_time_and_its_fence(join: Join, clock: FakeClock) -> None:
    one, other = join("a"), join("b")
    lock = one.try_acquire_lock("r", ttl_ms=5_000)
    assert lock is not None
    assert lock.to_dict() == {
        "lockId": lock.lock_id,
        "acquiredAt": 1_767_225_600_000,
        "expiresAt": 1_767_225_605_000,
        "resource": "r",
        "fence": lock.fence,
    }
    assert one.try_acquire_lock("r") is None
    assert other.try_acquire_lock("r") is None
    assert other.release_lock(lock)  # by what it carries: a process may hand it over
    second = other.try_acquire_lock("r", ttl_ms=5_000)
    assert second is not None
    assert second.fence > lock.fence
    assert not one.release_lock(lock)
    clock.advance(5 * SECOND)
    heirs = [one.try_acquire_lock("r"), other.try_acquire_lock("r")]
    assert len([heir for heir in heirs if heir is not None and heir.fence > second.fence]) == 1
    assert not other.release_lock(second)


NAMES = ["", "größe/模型", "a\0b", "x" * 10_000, "sha256:x", "\ud800", "../../x", "'; --"]


def test_any_name_is_a_name_of_its_own(join: Join) -> None:
    one = join("a")
    locks = [one.try_acquire_lock(name) for name in NAMES]
    assert [lock.resource for lock in locks if lock is not None] == NAMES
    assert [one.release_lock(lock) for lock in locks if lock is not None] == [True] * len(NAMES)


def test_a_time_to_live_is_positive(join: Join) -> None:
    one = join("a")
    for ttl in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time to live"):
            one.try_acquire_lock("r", ttl)


def test_expired_locks_are_seen_by_nobody(join: Join, clock: FakeClock) -> None:
    one = join("a")
    one.try_acquire_lock("r", ttl_ms=1_000)
    clock.advance(SECOND)
    one.cleanup_expired_locks()
    assert one.runtime.run(Snapshot()).locks == ()  # type: ignore[union-attr]


def test_the_functions_and_the_runtime_share_their_locks(join: Join) -> None:
    one, other = join("a"), join("b")
    assert one.runtime is not None
    with one.runtime.lock("r", ttl=30) as lock:
        assert other.try_acquire_lock("r") is None
        first = lock.fence
        assert first > 0
    assert lock.fence == 0
    taken = other.try_acquire_lock("r")
    assert taken is not None
    assert taken.fence > first
    with pytest.raises(TimeoutError, match="'r' is held by another"):
        one.runtime.lock("r", timeout=0).acquire()


def test_a_lock_that_ran_out_is_known_to_be_lost(
    join: Join, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = join("a"), join("b")
    assert one.runtime is not None
    lock = one.runtime.lock("r", ttl=30).acquire()
    clock.advance(29 * SECOND)
    assert lock.renew()
    clock.advance(29 * SECOND)
    assert other.try_acquire_lock("r") is None
    clock.advance(SECOND)
    with caplog.at_level(logging.WARNING):
        assert not lock.release()
    assert "was lost before it was given back" in caplog.text
    assert lock.release()  # nothing to give back, nothing to tell


def test_a_lost_lock_is_not_taken_again_by_renewing_it(join: Join, clock: FakeClock) -> None:
    one, other = join("a"), join("b")
    assert one.runtime is not None
    with one.runtime.lock("r", ttl=30) as lock:
        clock.advance(30 * SECOND)
        heir = other.try_acquire_lock("r")
        assert heir is not None
        other.release_lock(heir)
        assert not lock.renew()
        assert lock.fence == 0


def test_a_removed_instance_has_lost_its_locks_and_can_take_others(join: Join, store: Store) -> None:
    one = join("a")
    runtime = one.runtime
    assert runtime is not None
    lock = runtime.lock("r").acquire()
    store.run(Sweep((runtime.incarnation,)))
    with runtime.lock("another"):
        assert not lock.renew()


def test_figures_that_make_no_sense(join: Join) -> None:
    runtime = join("a").runtime
    assert runtime is not None
    with pytest.raises(ValueError, match="time to live"):
        runtime.lock("r", ttl=0)
    with pytest.raises(ValueError, match="timeout"):
        runtime.lock("r", timeout=-1)
    with runtime.lock("r") as lock, pytest.raises(RuntimeError, match="taken already"):
        lock.acquire()


def test_switched_off_there_are_no_locks(tmp_path: Path) -> None:
    with (
        Runtime(settings=settings_in(tmp_path, enabled=False)) as runtime,
        pytest.raises(StoreUnavailable, match="switched off"),
    ):
        runtime.lock("r").acquire()


def test_threads_take_turns_in_real_time(tmp_path: Path) -> None:
    inside: list[int] = []
    fences: list[int] = []

    def one(runtime: Runtime) -> None:
        for _ in range(5):
            with runtime.lock("r", ttl=30) as lock:
                inside.append(1)
                assert len(inside) == 1
                fences.append(lock.fence)
                inside.pop()

    with Runtime("a", settings=settings_in(tmp_path)) as runtime:
        threads = [Thread(target=one, args=(runtime,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fences == sorted(set(fences))
    assert len(fences) == 15


def test_tasks_take_turns_and_a_cancelled_one_holds_nothing(tmp_path: Path) -> None:
    fences: list[int] = []

    async def one(runtime: AsyncRuntime) -> None:
        async with runtime.lock("r", ttl=30, timeout=30) as lock:
            fences.append(lock.fence)
            assert await lock.renew()

    async def main() -> None:
        async with AsyncRuntime("a", settings=settings_in(tmp_path)) as runtime:
            async with runtime.lock("r"):
                waiter = asyncio.create_task(one(runtime))
                await asyncio.sleep(0)
                waiter.cancel()
                await asyncio.gather(waiter, return_exceptions=True)
                with pytest.raises(TimeoutError):
                    await runtime.lock("r", timeout=0).acquire()
            await asyncio.gather(*(one(runtime) for _ in range(4)))

    asyncio.run(main())
    assert fences == sorted(set(fences))
    assert len(fences) == 4
