"""Tasks with `Runtime`, at the embedded store and at one given ready made."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.looking import until, waiting
from tests.runtime.doubles import Timeline, one_at_a_time, settings_in

from cross_instance import AsyncRuntime, Runtime, StoreUnavailable
from cross_instance.rules.operations import Snapshot, TaskState
from cross_instance.tasks import PayloadError, TaskCancelled, TaskFailed, current_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cross_instance.tasks import TaskHandle


@pytest.fixture(params=["embedded", "given"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    store = Timeline() if request.param == "given" else None
    return Runtime("w", store=store, settings=settings_in(tmp_path))


@contextmanager
def at_work(runtime: Runtime, *arguments: Any) -> Iterator[None]:
    """Have a thread work meanwhile, which ends well however the test does."""
    worker = threading.Thread(target=runtime.work, args=arguments, daemon=True)
    worker.start()
    try:
        yield
    finally:
        runtime.drain()
        worker.join()


def test_the_same_works_without_asyncio(runtime: Runtime) -> None:
    @runtime.task("double", retries=1, backoff=0.0)
    def double(number: int) -> int:
        if number < 0 and current_task().attempt == 1:
            raise ValueError("negative")
        return 2 * number

    @runtime.task("refuse", retries=0)
    async def refuse() -> None:
        raise ValueError("never")

    with runtime:
        handles = runtime.submit_many(double, [(number,) for number in range(-3, 250)], key=lambda number: f"k{number}")
        refused = runtime.submit("refuse")
        assert runtime.submit("double", -3, key="k-3").existed
        runtime.work(4, until_idle=True)
        assert [handle.result() for handle in handles] == [2 * number for number in range(-3, 250)]
        with pytest.raises(TaskFailed, match="never"):
            refused.result()
        assert dict(runtime.tasks.summary().states) == {TaskState.DONE: 253, TaskState.FAILED: 1}
        assert [task.task for task in runtime.tasks.find("failed", kind="refuse")] == [refused.task]
        assert runtime.tasks.retry(refused.task).state is TaskState.QUEUED
        assert runtime.tasks.cancel(refused.task).state is TaskState.CANCELLED
        assert runtime.tasks.purge("done", older_than=3600) == 0
        assert runtime.tasks.purge("done") == 253


def test_another_thread_drains_it(runtime: Runtime) -> None:
    begun = threading.Event()

    @runtime.task("signal")
    def signal() -> None:
        begun.set()

    with runtime:
        with at_work(runtime):
            runtime.submit("signal").result()
            assert begun.is_set()
        runtime.drain()  # nobody works any more


def test_draining_before_work_has_begun_ends_the_next_work(runtime: Runtime) -> None:
    """Whoever asks to stop while the program still prepares is not forgotten; it counts once."""

    @runtime.task("double")
    def double(number: int) -> int:
        return 2 * number

    with runtime:
        handle = runtime.submit("double", 4)
        runtime.drain()
        worker = threading.Thread(target=runtime.work, daemon=True)
        worker.start()
        worker.join(30)
        assert not worker.is_alive()
        assert handle.status().state is TaskState.QUEUED
        runtime.work(until_idle=True)
        assert handle.result() == 8


def test_a_thread_that_waits_for_a_permit_hears_that_it_is_to_end(tmp_path: Path) -> None:
    with Runtime("w", settings=one_at_a_time(tmp_path)) as runtime:

        @runtime.task("asks")
        def asks() -> None:
            runtime.permit("acme").acquire()

        with at_work(runtime), runtime.permit("acme"):
            handle = runtime.submit("asks")
            until(lambda: waiting(runtime) == 1)
            assert handle.cancel().cancel_asked
            with pytest.raises(TaskCancelled):
                handle.result(timeout=30)
            (instance,) = runtime.run(Snapshot()).instances
            assert (instance.held, instance.waiting) == (1, 0), "it waits no more"


WAITS: dict[str, Callable[[Runtime, TaskHandle], object]] = {
    "for a lock": lambda runtime, _: runtime.lock("held").acquire(),
    "for a task": lambda _, never: never.result(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_thread_that_waits_hears_that_it_is_to_end(
    tmp_path: Path, wait: Callable[[Runtime, TaskHandle], object]
) -> None:
    begun = threading.Event()
    with Runtime("w", settings=settings_in(tmp_path)) as runtime, runtime.lock("held", ttl=300):
        never = runtime.submit("nobody knows how")

        @runtime.task("waits")
        def waits() -> None:
            begun.set()
            wait(runtime, never)

        with at_work(runtime, 1):
            handle = runtime.submit("waits")
            assert begun.wait(30)
            assert handle.cancel().cancel_asked
            with pytest.raises(TaskCancelled):
                handle.result(timeout=30)
            assert never.status().state is TaskState.QUEUED


def test_calls_are_tuples_and_keys_come_from_them(runtime: Runtime) -> None:
    calls: Any = ["src/a"]
    with runtime, pytest.raises(TypeError, match="each call is a tuple of arguments, not 'src/a'"):
        runtime.submit_many("any", calls)


def test_switched_off_there_are_no_tasks(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, enabled=False)
    with pytest.raises(StoreUnavailable, match="switched off"):
        Runtime("w", settings=settings).submit("any")
    assert AsyncRuntime("w", settings=settings).drain() is None  # type: ignore[func-returns-value]


def test_bulk_submission_takes_calls_as_they_come_and_keeps_those_before_an_error(runtime: Runtime) -> None:
    taken = 0

    def calls() -> Iterator[tuple[Any, ...]]:
        nonlocal taken
        for taken in range(1, 1_001):
            yield ({},) if taken < 950 else (object(),)

    with runtime:
        with pytest.raises(PayloadError, match=r"argument 1 is of type builtins\.object"):
            runtime.submit_many("any", calls(), retries=0)
        assert taken == 950, "nothing was taken ahead"
        assert dict(runtime.tasks.summary().states) == {TaskState.QUEUED: 900}, "a hundred go with each operation"
        assert {task.arguments for task in runtime.tasks.find("queued", most=1_000)} == {None}


def test_large_arguments_and_results_go_in_portions_and_too_large_ones_are_refused(runtime: Runtime) -> None:
    most = 1 << 20
    with runtime:
        runtime.task("echo", retries=3)(lambda text, times=1: text * times)
        handles = runtime.submit_many("echo", [("x" * (most - 100),)] * 20)
        too_large = runtime.submit("echo", "x" * 600_000, 2)
        with pytest.raises(PayloadError, match=r"all arguments together: .* bytes as JSON; at most 1,048,576"):
            runtime.submit("echo", "x" * 600_000, "y" * 600_000)
        runtime.work(20, until_idle=True)
        assert {len(handle.result()) for handle in handles} == {most - 100}
        with pytest.raises(TaskFailed, match=r"the result: 1,200,002 bytes as JSON; at most 1,048,576"):
            too_large.result()
        assert len(too_large.status().attempts) == 1, "trying again would not help"
