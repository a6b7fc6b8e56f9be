"""`cross-instance steal-demo`: three real processes, one of which has all the work; without stealing, and with it.

Read `scene` for what is played, `performance` for how, `figures` for what is counted, `view` for what is shown;
`worker` is each of the processes, `cli.processes` starts and ends them.
"""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from cross_instance.cli.processes import private_folder, started, until_terminated
from cross_instance.cli.steal_demo.figures import RunFigures, summary
from cross_instance.cli.steal_demo.performance import perform
from cross_instance.cli.steal_demo.scene import PROCESSES, SECONDS
from cross_instance.cli.steal_demo.view import ALONE, STEALING, report_text, watching


@click.command("steal-demo")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=SECONDS,
    show_default=True,
    help="Work in all: how long the run without stealing lasts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def steal_demo(*, seconds: float, as_json: bool) -> None:
    """Give one of three processes all the work, of uneven length: first without stealing, then with it.

    Exit code 1 where stealing saved no time.
    """
    alone, stealing = asyncio.run(until_terminated(_both(seconds)))
    click.echo(_as_json(alone, stealing) if as_json else report_text(alone, stealing))
    sys.exit(0 if stealing.seconds < alone.seconds else 1)


async def _both(seconds: float) -> tuple[RunFigures, RunFigures]:
    with private_folder("alone", "stealing") as folder:
        async with started("steal_demo.worker", *PROCESSES) as workers:
            with watching(ALONE, seconds) as watch:
                alone = await perform(workers, seconds, folder / "alone", watch, steal=False)
            with watching(STEALING, seconds) as watch:
                return alone, await perform(workers, seconds, folder / "stealing", watch, steal=True)


def _as_json(alone: RunFigures, stealing: RunFigures) -> bytes:
    result = {"alone": alone, "stealing": stealing, "summary": summary(alone, stealing)}
    return msgspec.json.format(msgspec.json.encode(result), indent=2)
