"""`cross-instance instances`: who is there, what each one runs and what waits for it; once, or live."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from cross_instance.cli.looking import as_json, camel, columns, is_unused
from cross_instance.cli.status import NOBODY, ago
from cross_instance.config import load_settings
from cross_instance.rules.operations import SECOND, ListTasks, Snapshot, TaskSnapshot, TaskState
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.config import Settings
    from cross_instance.stores.base import Store

HEADINGS = ("instance", "pid", "host", "joined", "last beat", "held", "waiting", "runs", "queued", "backlog", "stolen")
NUMBERS = frozenset({1, 3, 4, 5, 6, 7, 8, 9, 10})
CLEAR = "\x1b[H\x1b[2J"
"""Moves to the top of a terminal and clears it (ECMA-48, CUP and ED)."""


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
@click.option("--watch", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def instances(*, watch: bool, as_json_: bool) -> None:
    """Show each live instance: the permits it holds and waits for, the tasks it runs, and those that wait for it."""
    settings = load_settings()
    while True:
        rows = list(_rows(settings))
        if as_json_:
            click.echo(as_json({"instances": [camel(row._asdict()) for row in rows]}))
        else:
            shown = columns([HEADINGS, *(tuple(map(_cell, row)) for row in rows)], NUMBERS) if rows else [NOBODY]
            click.echo((CLEAR if watch else "") + "\n".join(shown))
        if not watch:
            return
        time.sleep(1.0)


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
