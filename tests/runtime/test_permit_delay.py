"""The delay that a settlement tells counts from the instant of the charge: all that came after can bunch requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.runtime.doubles import AsyncTimeline, Timeline, one_at_a_time
from tests.runtime.nets import beat_by_hand

from cross_instance import AsyncRuntime, Runtime
from cross_instance.rules.operations import SECOND, Settle

if TYPE_CHECKING:
    from pathlib import Path

LATER = SECOND // 10


def delays(timeline: Timeline) -> list[int]:
    return [op.delay for op, _ in timeline.ops if type(op) is Settle]


def test_the_way_back_to_a_busy_loop_counts(tmp_path: Path) -> None:
    timeline = Timeline()
    shell = AsyncTimeline(timeline)

    async def return_late(name: str) -> None:
        if name == "after Acquire":
            timeline.clock.advance(LATER)

    async def main() -> None:
        settings = one_at_a_time(tmp_path)
        async with AsyncRuntime("one", store=timeline, async_store=shell, settings=settings) as runtime:
            shell.pause = return_late
            async with runtime.permit("acme", "m-1"):
                pass

    asyncio.run(main())
    assert delays(timeline) == [LATER]


def test_the_time_that_an_offer_stood_counts(tmp_path: Path) -> None:
    timeline = Timeline()
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        beat_by_hand(runtime)
        first = runtime.permit("acme", "m-1").acquire()

        def give_back_and_wake_late() -> None:
            first.close()
            timeline.clock.advance(LATER)

        timeline.meanwhile.append(give_back_and_wake_late)
        with runtime.permit("acme", "m-1"):
            pass
    assert delays(timeline) == [0, LATER]


def test_what_follows_does_not_count(tmp_path: Path) -> None:
    timeline = Timeline()
    with (
        Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime,
        runtime.permit("acme", "m-1"),
    ):
        timeline.clock.advance(LATER)
    assert delays(timeline) == [0]
