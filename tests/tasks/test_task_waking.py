"""Workers that come, go and rest: who is woken, what they leave behind, what they ask at rest. Time is the store's."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.tasks.stage import Stage, play, until, working

from cross_instance import StoreUnavailable
from cross_instance.rules.operations import SECOND, Claim, TaskState
from cross_instance.tasks import current_task
from cross_instance.tasks.pace import FIRST_LOOK, LAST_LOOK

if TYPE_CHECKING:
    from pathlib import Path

    from cross_instance import AsyncRuntime


def test_progress_that_could_not_be_sent_is_sent_with_the_next_renewal(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        seen, cuts = asyncio.Event(), iter(range(2))

        @runtime.task("long")
        async def long() -> None:
            current_task().progress("half")
            await seen.wait()

        async def pause(name: str) -> None:
            await asyncio.sleep(0)
            if name == "before Renew" and next(cuts, None) is not None:
                raise StoreUnavailable("cut")

        stage.twin.pause = pause
        handle = await runtime.submit("long")
        async with working(runtime):
            await until(lambda: [held for op in stage.told("Renew") for held in op.held if held.progress])
            assert next(cuts, None) is None, "it was cut twice"
            assert (await handle.status()).progress == "half"
            seen.set()
            await handle.result()
        told = [held.progress for op in stage.told("Renew") for held in op.held]
        assert told.count(b'"half"') == 1, "what was sent is not sent again"

    play(tmp_path, scenario)


def test_who_works_no_more_says_so_and_another_has_what_it_was_woken_for(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: None)
        async with stage.runtime("v") as other:
            other.task("job")(lambda: "by the other")
            async with working(runtime):
                await until(lambda: runtime._membership.waiters)
                async with working(other):
                    await until(lambda: other._membership.waiters)
                    runtime.drain()
                    handle = await runtime.submit("job")
                    assert await handle.result() == "by the other"
        last = [op for op in stage.told("Claim") if op.incarnation == min(op.incarnation for op in stage.told("Claim"))]
        assert [op.most for op in last[-2:]] == [4, 0]

    play(tmp_path, scenario)


@pytest.mark.parametrize("work", ["cancelled", "drained"])
def test_a_claim_whose_answer_was_lost_leaves_no_task_with_a_worker_that_is_gone(tmp_path: Path, work: str) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: None)
        claimed = asyncio.Event()

        async def pause(name: str) -> None:
            await asyncio.sleep(0)
            if name == "after Claim" and any(found.tasks for op, found in stage.store.ops if isinstance(op, Claim)):
                claimed.set()
            if claimed.is_set() and not name.endswith(("Push", "GetTask")):
                raise StoreUnavailable("cut")

        handle = await runtime.submit("job")
        stage.twin.pause = pause
        at_work = asyncio.ensure_future(runtime.work(signals=(), drain_timeout=0))
        await claimed.wait()
        if work == "drained":
            runtime.drain()
        else:
            at_work.cancel()
        await asyncio.wait({at_work})
        await until(lambda: [op for op in stage.told("Claim") if not op.most])
        stage.twin.pause = lambda _: asyncio.sleep(0)
        assert (await handle.status()).state is TaskState.QUEUED

    play(tmp_path, scenario)


def test_at_rest_a_worker_hardly_asks_and_steals_nothing(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: None)
        start = stage.store.now()
        async with stage.runtime("v") as other:
            other.task("job")(lambda: None)
            async with working(runtime), working(other):
                await until(lambda: stage.store.now() - start > 3_600 * SECOND)
        hour = [op for op, answer in stage.store.ops if answer.at.mono <= start + 3_600 * SECOND]
        claims = sum(type(op).__name__ == "Claim" for op in hour)
        assert claims <= 2 * (3_600 * SECOND // (LAST_LOOK // 2) + 10)
        assert (await runtime.tasks.summary()).steals == ()

    play(tmp_path, scenario)


def test_a_thief_becomes_modest_with_time_not_with_wakes(tmp_path: Path) -> None:
    async def scenario(stage: Stage, runtime: AsyncRuntime) -> None:
        runtime.task("job")(lambda: None)
        await runtime.tasks.pause("v")
        async with working(runtime):
            await until(lambda: runtime._membership.waiters)
            for _ in range(20):
                await runtime.submit("job", queue="v")
        claims = [(op, answer) for op, answer in stage.store.ops if type(op).__name__ == "Claim" and op.most]
        asked = [(answer.at.mono, op.min_gain) for op, answer in claims]
        changed = [at for (at, gain), (_, before) in zip(asked[1:], asked, strict=False) if gain != before]
        assert len(asked) > len(changed) + 1, "it was woken in vain"
        assert all(after - before >= FIRST_LOOK // 2 for before, after in pairwise(changed))

    play(tmp_path, scenario)
