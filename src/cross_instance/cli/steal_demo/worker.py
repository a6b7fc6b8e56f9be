"""One of the steal demo's three processes: `python -m cross_instance.cli.steal_demo.worker`.

A run is three lines of standard input: a `Plan`, upon which the process submits its tasks and says `READY`; the signal
to start; the one to stop, upon which it says `OVER`. When standard input ends, so does the process.
"""

from __future__ import annotations

import asyncio

import msgspec

from cross_instance import AsyncRuntime
from cross_instance.cli.processes import OVER, READY, obey, report
from cross_instance.cli.steal_demo.performance import settings_in
from cross_instance.cli.steal_demo.scene import Plan


async def _run(order: bytes, lines: asyncio.Queue[bytes]) -> None:
    plan = msgspec.json.decode(order, type=Plan)
    async with AsyncRuntime(plan.name, settings=settings_in(plan.folder)) as runtime:
        runtime.task("wait")(asyncio.sleep)
        await runtime.submit_many("wait", [(seconds,) for seconds in plan.durations])
        report(READY)
        await lines.get()
        async with asyncio.TaskGroup() as group:
            group.create_task(runtime.work(1, steal=plan.steal, signals=()))
            await lines.get()
            runtime.drain()
    report(OVER)


if __name__ == "__main__":
    asyncio.run(obey(_run))
