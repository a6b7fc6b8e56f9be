"""Real processes on the embedded store: what happens to permits when their holders end in every way."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from tests.looking import DEADLINE, names, until, waiting
from tests.runtime.doubles import settings_in
from tests.runtime.program_run import PROVIDERS, UNHURRIED, program, said

from cross_instance import AsyncRuntime, RateLimitExceeded, Runtime
from cross_instance.rules.operations import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cross_instance.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, providers=PROVIDERS, **UNHURRIED)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    with Runtime("tester", settings=settings) as runtime:
        yield runtime


def test_a_permit_passes_from_process_to_process(tmp_path: Path, runtime: Runtime) -> None:
    with program(tmp_path, "wait", "waiter") as process:
        with runtime.permit("acme", "m-1"):
            assert [said(process), said(process)] == ["joined", "waiting"]
            until(lambda: waiting(runtime) == 1)
        assert said(process) == "granted"
        assert process.wait() == 0


def test_what_a_killed_process_held_goes_to_who_waits(tmp_path: Path, runtime: Runtime) -> None:
    with program(tmp_path, "hold", "holder") as process:
        assert [said(process), said(process)] == ["joined", "held"]

        def kill_when_somebody_waits() -> None:
            until(lambda: waiting(runtime) == 1)
            process.kill()

        killer = threading.Thread(target=kill_when_somebody_waits)
        killer.start()
        try:
            with runtime.permit("acme", "m-1", timeout=DEADLINE):
                assert process.wait() == -signal.SIGKILL
        finally:
            killer.join()
        assert names(runtime) == ["tester"]
        until(lambda: not (tmp_path / "runtime" / "instances" / "holder.lock").exists())


def test_ctrl_c_ends_a_wait_at_once_and_leaves_the_queue(tmp_path: Path, runtime: Runtime) -> None:
    with program(tmp_path, "wait", "waiter") as process, runtime.permit("acme", "m-1"):
        assert [said(process), said(process)] == ["joined", "waiting"]
        until(lambda: waiting(runtime) == 1)
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
        assert waiting(runtime) == 0
        assert names(runtime) == ["tester"]


def test_an_id_belongs_to_one_process(tmp_path: Path, runtime: Runtime) -> None:
    with program(tmp_path, "hold", "tester") as process:
        assert said(process) == f"duplicate {os.getpid()}"


def test_a_process_that_just_ends_leaves(tmp_path: Path, runtime: Runtime) -> None:
    with program(tmp_path, "leave-open", "careless") as process:
        assert [said(process), said(process)] == ["joined", "held"]
        assert process.wait() == 0
    assert names(runtime) == ["tester"]
    runtime.permit("acme", "m-1", timeout=0).acquire().close()


def test_a_forked_child_is_an_instance_of_its_own(tmp_path: Path, runtime: Runtime) -> None:
    with program(tmp_path, "fork", "forked") as process:
        assert [said(process), said(process), said(process)] == ["joined", "child True True", "parent 0 1 0"]
        assert process.wait() == 0
    assert names(runtime) == ["tester"]


# --- asyncio ---------------------------------------------------------------------------------------------------


def test_tasks_take_turns(settings: Settings) -> None:
    """Fifty tasks at one slot: one at a time, and all of them."""
    inside = most = served = 0

    async def one(runtime: AsyncRuntime) -> None:
        nonlocal inside, most, served
        async with runtime.permit("acme", "m-1", timeout=DEADLINE) as permit:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            served += 1
            permit.settle(status=200, headers={})

    async def all_of_them() -> None:
        async with AsyncRuntime("tester", settings=settings) as runtime:
            await asyncio.gather(*(one(runtime) for _ in range(50)))
            assert (await runtime.pi_instance_status())["activeRequests"] == 0
            assert [limit.used for limit in await runtime.limits() if limit.provider == "acme"] == [50, None]

    asyncio.run(all_of_them())
    assert (most, served) == (1, 50)


def test_cancelled_tasks_leave_the_queue(settings: Settings) -> None:
    async def scenario() -> None:
        async with AsyncRuntime("tester", settings=settings) as runtime:

            async def take() -> None:
                async with runtime.permit("acme", "m-1"):
                    await asyncio.Event().wait()

            tasks = [asyncio.ensure_future(take()) for _ in range(5)]
            while sum(i.waiting for i in (await runtime.run(Snapshot())).instances) < 4:  # noqa: ASYNC110  # the store's
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            assert await asyncio.gather(*tasks, return_exceptions=True) != []
            (seen,) = (await runtime.run(Snapshot())).instances
            assert (seen.waiting, seen.held) == (0, 0)

    asyncio.run(scenario())


def test_a_wait_cancelled_when_its_runtime_has_closed_is_cancelled(
    settings: Settings, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with AsyncRuntime("another", settings=settings) as other:
            task = asyncio.ensure_future(other.permit("acme", "m-1").acquire())
            while waiting(runtime) < 1:  # noqa: ASYNC110  # the store's
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with runtime.permit("acme", "m-1"):
        asyncio.run(scenario())
    assert "cannot be used" not in caplog.text


def test_a_sync_and_an_async_runtime_of_one_process_share_the_instance(settings: Settings, runtime: Runtime) -> None:
    async def scenario() -> None:
        async with AsyncRuntime("tester", settings=settings) as other:
            assert other.incarnation == runtime.incarnation
            with runtime.permit("acme", "m-1"), pytest.raises(RateLimitExceeded):
                await other.permit("acme", "m-1", timeout=0).acquire()

    asyncio.run(scenario())
    assert names(runtime) == ["tester"]


def test_threads_take_turns(settings: Settings, runtime: Runtime) -> None:
    served: list[int] = []

    def work(place: int) -> None:
        for _ in range(10):
            with runtime.permit("acme", "m-1", timeout=DEADLINE):
                served.append(place)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(served) == sorted([*range(4)] * 10)
    assert (waiting(runtime), runtime.pi_instance_status()["activeRequests"]) == (0, 0)
