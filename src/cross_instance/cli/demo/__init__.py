"""`cross-instance demo`: four real processes share one account, first each by itself, then together.

With `--hidden`, three of them find a limit that nobody has told them (`hidden`). Read `scene` for what is played,
`performance` for how, `figures` for what is counted, `view` for what is shown; `provider`, `hidden_provider` and
`worker` are the processes, `cli.processes` starts and ends them.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from cross_instance.cli.demo.scene import HIDDEN_PARTS, HIDDEN_SECONDS, PARTS, SECONDS
from cross_instance.cli.processes import private_folder, started, until_terminated
from cross_instance.errors import CrossInstanceError

if TYPE_CHECKING:
    from cross_instance.cli.demo.figures import RunFigures

NEEDED = ("openai", "httpx2")


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    help=f"Length of the shared run, {SECONDS:g} by default; the one alone takes half. Hidden: {HIDDEN_SECONDS:g}.",
)
@click.option("--hidden", is_flag=True, help="Show how three processes find a limit that nobody has told them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(*, seconds: float | None, hidden: bool, as_json: bool) -> None:
    """Let four processes share one account, live: first alone, then together.

    A local provider enforces 600 requests per minute; four processes use it through OpenAI's SDK. Exit code 1 where
    the shared run met a 429, or, with --hidden, where the limit was not found.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CrossInstanceError(
            f"the demo needs {' and '.join(missing)}; install the package with its extra `demo`: pip install '.[demo]'"
        )
    if hidden:
        sys.exit(asyncio.run(until_terminated(_found(seconds or HIDDEN_SECONDS, as_json=as_json))))
    alone, shared = asyncio.run(until_terminated(_both(seconds or SECONDS)))
    click.echo(_as_json(alone, shared) if as_json else _as_text(alone, shared))
    sys.exit(1 if shared.rate_limited else 0)


async def _both(seconds: float) -> tuple[RunFigures, RunFigures]:
    from cross_instance.cli.demo.performance import perform
    from cross_instance.cli.demo.view import ALONE, SHARED, watching

    with private_folder() as folder:
        async with started("demo.worker", *(part.name for part in PARTS)) as workers:
            with watching(ALONE, seconds / 2) as watch:
                alone = await perform(workers, seconds / 2, folder, watch, shared=False)
            with watching(SHARED, seconds) as watch:
                return alone, await perform(workers, seconds, folder, watch, shared=True)


async def _found(seconds: float, *, as_json: bool) -> int:
    """Find the hidden limit, and show how; the exit code."""
    from cross_instance.cli.demo.hidden import find, json_of, show, text_of

    with private_folder() as folder:
        async with started("demo.worker", *(part.name for part in HIDDEN_PARTS)) as workers:
            search = await find(workers, seconds, folder, show)
    click.echo(json_of(search) if as_json else text_of(search))
    return 0 if search.found is not None else 1


def _as_text(alone: RunFigures, shared: RunFigures) -> str:
    from cross_instance.cli.demo.view import table_text

    return table_text(alone, shared)


def _as_json(alone: RunFigures, shared: RunFigures) -> bytes:
    import msgspec

    from cross_instance.cli.demo.figures import summary

    return msgspec.json.format(
        msgspec.json.encode({"alone": alone, "sharing": shared, "summary": summary(alone, shared)}), indent=2
    )
