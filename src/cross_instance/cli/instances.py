"""`cross-instance instances`: who is there, what each one runs and what waits for it; once, or live."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from cross_instance.cli.looking import as_json, columns, is_unused
from cross_instance.cli.status import ago
from cross_instance.config import load_settings
from cross_instance.rules.operations import SECOND, ListTasks, Snapshot, TaskSnapshot, TaskState
from cross_instance.spelling import camel_keys
from cross_instance.status import NOBODY
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from cross_instance.config import Settings
    from cross_instance.stores.base import Store

HEADINGS = ("instance", "pid", "host", "joined", "last beat", "held", "waiting", "runs", "queued", "backlog", "stolen")
NUMBERS = frozenset({1, 3, 4, 5, 6, 7, 8, 9, 10})
EVERY = 1.0
"""Seconds between two looks."""


class Row(NamedTuple):
    """One instance. `held` and `waiting` are permits; `runs` tasks, `queued` those in its own queue that are ready,
    `backlog_seconds` what they are expected to take; `stolen` tasks it took from others since the machine started."""

    instance: str
    pid: int
    host: str
    joined: str
    last_beat: str
    held: int
    waiting: int
    runs: int
    queued: int
    backlog_seconds: float
    stolen: int


@click.command()
@click.option("--watch", is_flag=True, help="Keep it up to date, until Ctrl-C.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def instances(*, watch: bool, as_json_: bool) -> None:
    """Show each live instance: the permits it holds and waits for, the tasks it runs, and those that wait for it."""
    settings = load_settings()
    if watch and not as_json_ and sys.stdout.isatty():
        _watch(settings)
    _print(settings, as_json_)
    while watch:
        time.sleep(EVERY)
        _print(settings, as_json_)


def _print(settings: Settings, as_json_: bool) -> None:
    rows = list(_rows(settings))
    if as_json_:
        click.echo(as_json({"instances": [camel_keys(row._asdict()) for row in rows]}))
    else:
        click.echo("\n".join(columns([HEADINGS, *map(_cells, rows)], NUMBERS)) if rows else NOBODY)


def _watch(settings: Settings) -> NoReturn:
    """A table that is kept up to date."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            live.update(table(list(_rows(settings))), refresh=True)
            time.sleep(EVERY)


def table(rows: Sequence[Row]) -> RenderableType:
    """The instances as they are shown on a terminal."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(NOBODY)
    made = Table(box=None, header_style="dim")
    for place, heading in enumerate(HEADINGS):
        made.add_column(heading, justify="right" if place in NUMBERS else "left", no_wrap=True)
    for row in rows:
        made.add_row(*map(Text, _cells(row)), style="bold" if row.runs or row.held else "")
    return made


def _cells(row: Row) -> tuple[str, ...]:
    return tuple(map(_cell, row))


def _cell(value: object) -> str:
    return f"{value:,.1f} s" if isinstance(value, float) else str(value)


def _rows(settings: Settings) -> Iterator[Row]:
    address = settings.store or str(settings.runtime_dir)
    if "://" not in address and is_unused(Path(address)):
        return
    store = open_store(address, settings)
    try:
        yield from _seen(store)
    finally:
        store.close()


def _seen(store: Store) -> Iterator[Row]:
    world, tasks = store.run(Snapshot()), store.run(TaskSnapshot())
    queues = {queue.queue: queue for queue in tasks.queues}
    stolen: Counter[str] = Counter()
    for steal in tasks.steals:
        stolen[steal.thief] += steal.tasks if steal.victim else 0
    runs = Counter(_owners(store))
    for instance in world.instances:
        queue = queues.get(instance.instance_id)
        yield Row(
            instance.instance_id,
            instance.pid,
            instance.host,
            ago(world.at.wall - instance.joined_at),
            ago(world.at.wall - instance.beat_at),
            instance.held,
            instance.waiting,
            runs[instance.instance_id],
            0 if queue is None else sum(queue.queued),
            0.0 if queue is None else queue.backlog / SECOND,
            stolen[instance.instance_id],
        )


def _owners(store: Store) -> Iterator[str]:
    """Who runs each of the running tasks."""
    after = ""
    while True:
        page = store.run(ListTasks(TaskState.RUNNING, after=after, most=1_000))
        yield from (task.owner for task in page.tasks)
        after = page.after
        if not after:
            return
