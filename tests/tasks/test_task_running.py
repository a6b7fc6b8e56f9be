"""Tasks at work: what their functions are given and give back, and how their attempts end. Time is the store's."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.tasks.stage import Stage, play, until, working

from cross_instance import PermitError, StoreUnavailable
from cross_instance.rules.operations import SECOND, Sweep, TaskState
from cross_instance.tasks import (
    AbandonTask,
    PayloadError,
    RetryTask,
    TaskCancelled,
    TaskFailed,
    TaskUnknown,
    current_task,
)
from cross_instance.testing.provider import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

    from cross_instance import AsyncRuntime


def test_arguments_reach_the_function_and_its_result_comes_back(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("in the loop")
        async def coroutine(first: Any, *, second: Any = None) -> Any:
            return [first, second]

        @runtime.task("in a thread")
        def function(value: Any) -> Any:
            return {"value": value, "thread": threading.current_thread().name}

        one = await runtime.submit("in the loop", {"a": [1, 2.5, None, True, "ä"]}, kwargs={"second": (1, 2)})
        other = await runtime.submit(function, 7)
        await runtime.work(until_idle=True)
        assert await one.result() == [{"a": [1, 2.5, None, True, "ä"]}, [1, 2]]
        result = await other.result()
        assert result["value"] == 7
        assert result["thread"].startswith("cross-instance-task")
        assert (await one.status()).arguments == [[{"a": [1, 2.5, None, True, "ä"]}], {"second": [1, 2]}]
        with pytest.raises(TaskUnknown, match="never was"):
            await runtime.tasks.status("nothing")

    play(tmp_path, scenario)


def test_who_awaits_a_task_is_woken_when_it_is_over(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("quick")
        async def quick() -> int:
            return 1

        async with working(runtime):
            handle = await runtime.submit("quick")
            assert await handle.result(timeout=5) == 1
        late = await runtime.submit("quick")
        before = stage.store.now()
        with pytest.raises(TimeoutError, match="queued still"):
            await late.result(timeout=3)
        assert stage.store.now() - before == 3 * SECOND

    play(tmp_path, scenario)


def test_one_key_is_one_task(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("count")
        async def count() -> int:
            return current_task().attempt

        first = await runtime.submit("count", key="core@1")
        again = await runtime.submit("count", key="core@1")
        assert (first.existed, again.existed, again.task) == (False, True, first.task)
        await runtime.work(until_idle=True)
        assert (await runtime.submit("count", key="core@1")).existed, "its result is kept"
        assert await runtime.tasks.purge("done") == 1
        assert not (await runtime.submit("count", key="core@1")).existed

    play(tmp_path, scenario)


def test_priorities_and_times_are_kept(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        ran: list[tuple[str, int]] = []

        @runtime.task("note")
        async def note(name: str) -> None:
            ran.append((name, stage.store.clock.wall))

        start = stage.store.clock.wall
        noon = datetime.fromtimestamp((start + 50 * SECOND) / SECOND, UTC)
        at_noon = await runtime.submit("note", "at noon", run_at=noon)
        await runtime.submit("note", "later", delay=20)
        await runtime.submit("note", "low", priority="low")
        await runtime.submit("note", "high", priority="high")
        await runtime.work(1, until_idle=True)
        async with working(runtime, 1):
            await at_noon.wait()
        assert [name for name, _ in ran] == ["high", "low", "later", "at noon"]
        assert ran[2][1] - start >= 20 * SECOND
        assert ran[3][1] - start >= 50 * SECOND

    play(tmp_path, scenario)


def test_failures_are_tried_again_after_a_growing_wait(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        began: list[int] = []

        @runtime.task("fails", retries=3, backoff=10, max_backoff=30)
        async def fails() -> None:
            began.append(stage.store.clock.wall)
            raise KeyError(f"no {len(began)}")

        handle = await runtime.submit("fails")
        async with working(runtime):
            with pytest.raises(TaskFailed, match="is failed: KeyError: 'no 4'") as caught:
                await handle.result()
        waits = [after - before for before, after in pairwise(began)]
        assert len(waits) == 3
        assert all(whole * SECOND / 2 <= wait for whole, wait in zip((10, 20, 30), waits, strict=True))
        assert caught.value.error.startswith("Traceback")
        assert "attempts.py" not in caught.value.error, "it begins with the task's own function"
        status = await handle.status()
        assert [past.error[-5:-2] for past in status.attempts] == ["o 1", "o 2", "o 3", "o 4"]

    play(tmp_path, scenario)


def test_a_function_says_when_to_try_again_or_not_at_all(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("picky", retries=1)
        def picky(what: str) -> int:
            if what == "abandon":
                raise AbandonTask("it makes no sense")
            if current_task().attempt == 1:
                raise RetryTask("not yet", after="100")  # type: ignore[arg-type]  # as a header has it
            return stage.store.clock.wall

        start = stage.store.clock.wall
        abandoned = await runtime.submit("picky", "abandon")
        put_off = await runtime.submit("picky", "retry")
        async with working(runtime):
            with pytest.raises(TaskFailed, match="it makes no sense"):
                await abandoned.result()
            assert await put_off.result() >= start + 100 * SECOND
        assert len((await abandoned.status()).attempts) == 1

    play(tmp_path, scenario)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("gives", retries=5)
        async def gives() -> object:
            return {"when": datetime.now(UTC)}

        loop: list[Any] = []
        loop.append(loop)
        for value, message in (
            ({"a": [1, {2}]}, r"argument 1\['a'\]\[1\] is of type builtins.set"),
            ({1: 2}, "has the key 1; keys are strings"),
            (float("nan"), "is nan"),
            (1 << 64, "beyond 64 bits"),
            ("\ud800", "lone surrogate"),
            (loop, "contains itself"),
            ("x" * (1 << 20), "at most 1,048,576 are accepted"),
        ):
            with pytest.raises(PayloadError, match=message):
                await runtime.submit("gives", value)
        handle = await runtime.submit("gives")
        await runtime.work(until_idle=True)
        with pytest.raises(TaskFailed, match=r"the result\['when'\] is of type datetime.datetime"):
            await handle.result()
        assert len((await handle.status()).attempts) == 1, "trying again would not help"

    play(tmp_path, scenario)


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        for wrong in ({"priority": "urgent"}, {"timeout": -1}, {"timeout": 0}, {"retries": -1}, {"tags": ["kind:x"]}):
            with pytest.raises(ValueError, match=r"priority|timeout|retries|tags"):
                runtime.task("x", **wrong)(print)
        with pytest.raises(TypeError, match="no option color"):
            await runtime.submit("x", color="red")  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="time zone"):
            await runtime.submit("x", run_at=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="no function is registered"):
            await runtime.work()
        runtime.task("x")(print)
        with pytest.raises(ValueError, match="already"):
            runtime.task("x")(print)
        with pytest.raises(ValueError, match="from 1 to 1,000"):
            await runtime.work(0)

    play(tmp_path, scenario)


# --- ending early --------------------------------------------------------------------------------------------------


def test_an_attempt_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        ended = asyncio.Event()

        @runtime.task("hangs", timeout=30, retries=0)
        async def hangs() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        before = stage.store.now()
        handle = await runtime.submit("hangs")
        async with working(runtime, 1):
            with pytest.raises(TaskFailed, match="TimeoutError: no end after 30 s"):
                await handle.result()
            await ended.wait()
        assert stage.store.now() - before >= 30 * SECOND

    play(tmp_path, scenario)


def test_a_thread_out_of_time_keeps_its_slot_and_hears_of_it(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        go_on, heard = threading.Event(), list[str]()

        @runtime.task("hangs", timeout=30, retries=0)
        def hangs() -> None:
            assert go_on.wait(20)
            for call in (current_task().check, lambda: runtime.permit("acme"), lambda: current_task().progress(1)):
                with pytest.raises(TaskCancelled, match="its time is up"):
                    call()
                heard.append("no")

        @runtime.task("next")
        def following() -> list[str]:
            return heard

        hanging, waiting = await runtime.submit("hangs"), await runtime.submit("next")
        async with working(runtime, 1):
            with pytest.raises(TaskFailed, match="TimeoutError"):
                await hanging.result()
            assert (await waiting.status()).state is TaskState.QUEUED
            go_on.set()
            assert await waiting.result() == ["no"] * 3

    play(tmp_path, scenario)


def test_cancelling_reaches_tasks_wherever_they_are(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        ends, begun = list[str](), list[str]()

        @runtime.task("waits")
        async def waits() -> None:
            begun.append("a coroutine")
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("a coroutine")

        @runtime.task("asks")
        def asks() -> None:
            begun.append("a thread")
            while not current_task().cancelled:
                threading.Event().wait(0.001)
            ends.append("a thread")
            current_task().check()

        queued = await runtime.submit("waits", delay=1000)
        assert (await queued.cancel()).state is TaskState.CANCELLED
        running = [await runtime.submit("waits"), await runtime.submit("asks")]
        async with working(runtime):
            await until(lambda: len(begun) == 2)
            assert [(await handle.cancel()).cancel_asked for handle in running] == [True, True]
            for handle in (queued, *running):
                with pytest.raises(TaskCancelled, match="was cancelled"):
                    await handle.result()
        assert sorted(ends) == ["a coroutine", "a thread"]
        sent_back = await runtime.tasks.retry(queued.task)
        assert sent_back.state is TaskState.QUEUED

    play(tmp_path, scenario)


def test_progress_is_shown_while_it_runs(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        seen = asyncio.Event()

        @runtime.task("long")
        async def long() -> str:
            current_task().progress({"done": 3, "of": 10})
            await seen.wait()
            return "all"

        handle = await runtime.submit("long")
        async with working(runtime):
            await until(lambda: [held for op in stage.told("Renew") for held in op.held if held.progress])
            assert (await handle.status()).progress == {"done": 3, "of": 10}
            assert (await handle.status()).owner == "w"
            seen.set()
            assert await handle.result() == "all"
        assert (await handle.status()).progress is None

    play(tmp_path, scenario)


def test_a_lost_task_is_dropped_and_begun_anew(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        epochs, dropped, refused = list[int](), asyncio.Event(), list[str]()

        @runtime.task("precious", provider="acme")
        async def precious() -> int:
            epochs.append(current_task().epoch)
            if len(epochs) > 1:
                return len(epochs)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                dropped.set()
            current_task().stopping = ""  # a function that does not hear is refused by the store
            try:
                await runtime.permit("acme").acquire()
            except PermitError as error:
                refused.append(str(error))
            return -1

        handle = await runtime.submit("precious")
        async with working(runtime, 1):
            await until(lambda: epochs)
            stage.store.run(Sweep(dead=(runtime.incarnation,)))
            await dropped.wait()
            assert await handle.result() == 2
        assert epochs[1] > epochs[0]
        assert "does not own the task" in refused[0]
        assert [end.epoch for op in stage.told("Finish") for end in op.ends] == epochs[1:], "its end was not told"

    play(tmp_path, scenario)


def test_permits_of_a_task_carry_its_fence(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("asks")
        async def asks() -> int:
            async with runtime.permit("acme"):
                return current_task().epoch

        handle = await runtime.submit("asks")
        await runtime.work(until_idle=True)
        acquired = stage.told("Acquire")[-1]
        assert (acquired.task, acquired.task_epoch) == (handle.task, await handle.result())
        async with runtime.permit("acme"):
            pass
        assert stage.told("Acquire")[-1].task is None, "outside of tasks there is none"

    play(tmp_path, scenario)


# --- the worker ----------------------------------------------------------------------------------------------------


def test_a_drained_worker_lets_what_runs_end_and_gives_back_the_rest(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        begun, let_go = list[str](), asyncio.Event()

        @runtime.task("waits")
        async def waits(name: str) -> str:
            begun.append(name)
            await (let_go if name == "ends" else asyncio.Event()).wait()
            return name

        ends, hangs = await runtime.submit("waits", "ends"), await runtime.submit("waits", "hangs")
        work = asyncio.ensure_future(runtime.work(2, signals=(), drain_timeout=60))
        await until(lambda: len(begun) == 2)
        runtime.drain()
        unbegun = await runtime.submit("waits", "ends")
        let_go.set()
        assert await ends.result() == "ends"
        before = stage.store.now()
        await work
        assert stage.store.now() - before <= 60 * SECOND
        assert (await unbegun.status()).state is TaskState.QUEUED
        given_back = await hangs.status()
        assert (given_back.state, given_back.attempts) == (TaskState.QUEUED, ()), "without a trace"

    play(tmp_path, scenario)


def test_work_that_is_cancelled_gives_its_tasks_back(tmp_path: Path) -> None:
    async def scenario(_: Stage, runtime: AsyncRuntime) -> None:
        begun, cleaned = asyncio.Event(), list[str]()

        @runtime.task("waits")
        async def waits() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append("up")

        handle = await runtime.submit("waits")
        work = asyncio.ensure_future(runtime.work(signals=()))
        await begun.wait()
        with pytest.raises(RuntimeError, match="at work already"):
            await runtime.work()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert cleaned == ["up"]
        assert (await handle.status()).state is TaskState.QUEUED

    play(tmp_path, scenario)


@pytest.mark.parametrize("moment", ["before Claim", "after Claim", "before Finish", "after Finish", "after Renew"])
def test_a_cut_connection_loses_and_repeats_nothing(tmp_path: Path, moment: str) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        ran: list[int] = []

        @runtime.task("count")
        async def count(number: int) -> int:
            ran.append(number)
            for _ in range(100):  # long enough to be renewed
                await asyncio.sleep(0)
            return number

        handles = await runtime.submit_many("count", [(number,) for number in range(5)])
        cuts = iter(range(3))

        async def pause(name: str) -> None:
            await asyncio.sleep(0)
            if name == moment and next(cuts, None) is not None:
                raise StoreUnavailable("cut")

        stage.twin.pause = pause
        async with working(runtime, 2):
            assert [await handle.result() for handle in handles] == list(range(5))
        assert sorted(ran) == list(range(5))
        assert next(cuts, None) is None, "it was cut"

    play(tmp_path, scenario)


def test_only_who_knows_a_kind_is_given_its_tasks(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("one")(lambda: 1)
        async with stage.runtime("v") as other:
            other.task("two", tags=["gpu"])(lambda: 2)
            one = await runtime.submit("one", queue="")
            two = await runtime.submit("two", queue="", tags=["gpu"])
            await runtime.work(until_idle=True)
            await other.work(until_idle=True)
            assert ((await one.status()).owner, await one.result()) == ("", 1)
            assert (await two.status()).state is TaskState.QUEUED, "it asks for more than its function"
            await other.work(until_idle=True, tags=["gpu"])
            assert await two.result() == 2
            assert (await two.status()).tags == ("gpu",)

    play(tmp_path, scenario)


def test_idle_workers_steal_what_may_be_stolen(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: current_task().task)
        mine = await runtime.submit_many("job", [()] * 4)
        kept = await runtime.submit("job", stealable=False)
        assert (await kept.status()).queue == "w", "its id was given, so its tasks are its own"
        async with stage.runtime("thief") as thief:
            thief.task("job")(lambda: current_task().task)
            await thief.work(until_idle=True, steal=False)
            assert (await mine[0].status()).state is TaskState.QUEUED
            await runtime.tasks.pause("w")
            await thief.work(until_idle=True)
            assert (await mine[0].status()).state is TaskState.QUEUED, "nobody takes from a paused queue"
            await runtime.tasks.resume("w")
            await thief.work(until_idle=True)
            assert [await handle.result() for handle in mine] == [handle.task for handle in mine]
            assert (await kept.status()).state is TaskState.QUEUED
            (theft,) = [theft for theft in (await thief.tasks.summary()).steals if theft.victim]
            assert (theft.thief, theft.victim, theft.tasks) == ("thief", "w", 4)

    play(tmp_path, scenario)


def test_a_made_up_id_submits_to_everyone(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        async with stage.runtime(None) as nameless:
            handle = await nameless.submit("job")
            assert (await handle.status()).queue == ""
        assert [task.task for task in await runtime.tasks.find("queued", queue="")] == [handle.task]

    play(tmp_path, scenario)


def test_who_stops_working_is_woken_no_more(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: None)
        await runtime.work(until_idle=True)
        async with working(runtime):
            await until(lambda: runtime._membership.waiters)
        stage.store.ops.clear()
        await runtime.submit("job")
        ((_, pushed),) = [(op, result) for op, result in stage.store.ops if type(op).__name__ == "Push"]
        assert pushed.wakes == (), "another worker would wait for its look instead"

    play(tmp_path, scenario)


def test_a_worker_that_was_removed_joins_anew_and_goes_on(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: current_task().attempt)
        async with working(runtime):
            await until(lambda: runtime._membership.waiters)
            before = runtime.incarnation
            stage.store.run(Sweep(dead=(before,)))
            assert await (await runtime.submit("job")).result() == 1
            assert runtime.incarnation > before

    play(tmp_path, scenario)


def test_the_sdks_client_carries_the_fence_of_its_task(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        @runtime.task("ask")
        async def ask(url: str) -> int:
            async with runtime.http_client("openai") as client:
                body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
                answer = await client.post(
                    f"{url}/chat/completions", json=body, headers={"authorization": "Bearer any"}
                )
            assert answer.status_code == 200
            return current_task().epoch

        with ProviderServer() as provider:
            handle = await runtime.submit("ask", provider.base_url("openai"))
            await runtime.work(until_idle=True)
        fences = {(acquired.task, acquired.task_epoch) for acquired in stage.told("Acquire")}
        assert fences == {(handle.task, await handle.result())}

    play(tmp_path, scenario)
