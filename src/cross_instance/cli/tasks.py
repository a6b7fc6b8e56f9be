"""`cross-instance tasks`: the durable queue, from outside. None of these commands joins as an instance."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cross_instance.cli.looking import as_json, columns, perform, was_never_used
from cross_instance.config import load_settings
from cross_instance.errors import CrossInstanceError
from cross_instance.rules.operations import TaskState
from cross_instance.spelling import camel_keys, printable
from cross_instance.stores.urls import open_store
from cross_instance.tasks.flows import cancelling, counting, listing, looking, purging, sending_back, setting
from cross_instance.tasks.registry import micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cross_instance.rules.operations import TaskWorld
    from cross_instance.stores.base import Store
    from cross_instance.tasks.flows import Flow
    from cross_instance.tasks.views import TaskStatus

STATES = click.Choice([state.value for state in TaskState])
UNSUCCESSFUL = (TaskState.FAILED, TaskState.DEAD, TaskState.CANCELLED)
OVER = click.Choice([state.value for state in (TaskState.DONE, *UNSUCCESSFUL)])
SENT_BACK = click.Choice([state.value for state in UNSUCCESSFUL])
HEADINGS = ("task", "kind", "state", "queue", "priority", "submitted", "failed", "owner", "last error")
NUMBERS = frozenset({6})
MANY = 10_000_000
COMMON = "(common)"


@click.group()
def tasks() -> None:
    """Look at tasks; cancel them, send them back, purge them."""


@tasks.command("list")
@click.option("--state", type=STATES, help="Only tasks of this state.")
@click.option("--queue", help="Only tasks meant for this instance; an empty text is the common queue.")
@click.option("--kind", help="Only tasks of this name.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many to show.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def list_(*, state: str | None, queue: str | None, kind: str | None, limit: int, as_json_: bool) -> None:
    """List tasks, those that are not over first, and count those of each state."""
    found: list[TaskStatus] = []
    world: TaskWorld | None = None
    with _store() as store:
        if store is not None:
            found = perform(store, listing(TaskState(state) if state else None, queue, kind, limit))
            world = perform(store, counting())
    if as_json_:
        click.echo(as_json({"tasks": [_shown(task) for task in found], "states": _states(world)}))
        return
    if found:
        click.echo("\n".join(columns([HEADINGS, *map(_row, found)], NUMBERS)))
        click.echo()
    counts = [f"{count:,} {name}" for name, count in _states(world).items()]
    click.echo(f"In all: {', '.join(counts)}." if counts else "There are no tasks.")


@tasks.command()
@click.argument("task")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def show(*, task: str, as_json_: bool) -> None:
    """Show one task: its arguments, progress, result, and its last ten attempts with their errors."""
    status = _on_each((task,), looking)[0]
    if as_json_:
        click.echo(as_json(camel_keys(status)))
        return
    for key, value in camel_keys(status).items():
        if key != "attempts" and value not in (None, "", [], 0):
            click.echo(printable(f"{key}: {_when(value) if key.endswith('At') else value}"))
    for number, past in enumerate(status.attempts, 1):
        click.echo(f"attempt {number}: {past.outcome} on {past.instance_id}, ended {_when(past.ended_at)}")
        for line in past.error.rstrip().split("\n") if past.error else ():
            click.echo(f"  {printable(line)}")


@tasks.command()
@click.argument("ids", metavar="TASK...", nargs=-1, required=True)
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def cancel(*, ids: tuple[str, ...], as_json_: bool) -> None:
    """Cancel tasks: at once where they are queued; one that runs is asked to end."""
    _tell(_on_each(ids, cancelling), as_json_)


@tasks.command()
@click.argument("ids", metavar="[TASK...]", nargs=-1)
@click.option("--state", type=SENT_BACK, help="All tasks that ended in this way.")
@click.option("--kind", help="Of those, only tasks of this name.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def retry(*, ids: tuple[str, ...], state: str | None, kind: str | None, as_json_: bool) -> None:
    """Send tasks that failed, are dead or were cancelled back to their queue, with all their retries."""
    if bool(ids) == bool(state):
        raise click.UsageError("name tasks, or a state with --state")
    if ids and kind:
        raise click.UsageError("--kind goes with --state, not with tasks that are named")
    if state:
        with _store() as store:
            found = [] if store is None else perform(store, listing(TaskState(state), None, kind, MANY))
        ids = tuple(task.task for task in found)
    _tell(_on_each(ids, _sending_back), as_json_)


def _sending_back(task: str) -> Flow[TaskStatus]:
    status = yield from sending_back(task)
    if status.state is TaskState.DONE:
        raise CrossInstanceError(f"task {task} is done, and is not done again: submit another")
    return status


@tasks.command()
@click.option("--state", type=OVER, required=True, help="Tasks that ended in this way.")
@click.option("--older-than", type=click.FloatRange(0), default=0.0, help="Only those that ended so many seconds ago.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def purge(*, state: str, older_than: float, as_json_: bool) -> None:
    """Forget tasks that are over; otherwise each is kept for its retention time, and the dead for ever."""
    with _store() as store:
        forgotten = 0 if store is None else perform(store, purging(TaskState(state), micros("older_than", older_than)))
    click.echo(as_json({"purged": forgotten}) if as_json_ else f"Forgotten: {forgotten:,}.")


@tasks.command()
@click.argument("queue")
def pause(*, queue: str) -> None:
    """Let nobody take tasks from an instance's queue; an empty text is the common one. What runs goes on."""
    _set(queue, paused=True)


@tasks.command()
@click.argument("queue")
def resume(*, queue: str) -> None:
    """Let a paused queue go on."""
    _set(queue, paused=False)


def _set(queue: str, *, paused: bool) -> None:
    with _store() as store:
        if store is None:
            raise CrossInstanceError("there are no tasks here yet")
        perform(store, setting(queue, paused=paused))
    click.echo(f"The queue {queue or COMMON} {'is paused' if paused else 'goes on'}.")


@contextmanager
def _store() -> Iterator[Store | None]:
    """The store of the settings; None where there never was one. Tasks outlive a boot, so any will do."""
    settings = load_settings()
    address = settings.store or str(settings.runtime_dir)
    if "://" not in address and was_never_used(Path(address)):
        yield None
        return
    store = open_store(address, settings)
    try:
        yield store
    finally:
        store.close()


def _on_each(ids: Sequence[str], flow: Callable[[str], Flow[TaskStatus]]) -> list[TaskStatus]:
    """Do the same with each task. Raises `TaskUnknown` for the first that there is not."""
    if not ids:
        return []
    with _store() as store:
        if store is None:
            raise CrossInstanceError("there are no tasks here yet")
        return [perform(store, flow(task)) for task in ids]


def _tell(found: list[TaskStatus], as_json_: bool) -> None:
    if as_json_:
        click.echo(as_json({"tasks": [camel_keys(task) for task in found]}))
        return
    if not found:
        click.echo("There are no such tasks.")
    for task in found:
        asked = ", asked to end" if task.cancel_asked and not task.is_over else ""
        click.echo(f"{task.task} is {task.state.value}{asked}.")


def _shown(task: TaskStatus) -> dict[str, Any]:
    """A task of a list, without what is left out there."""
    fields: dict[str, Any] = camel_keys(task)
    return {key: value for key, value in fields.items() if key not in ("arguments", "result")}


def _states(world: TaskWorld | None) -> dict[str, int]:
    return {} if world is None else {state.value: count for state, count in world.states}


def _row(task: TaskStatus) -> tuple[str, ...]:
    return (
        task.task,
        task.kind,
        task.state.value,
        task.queue or COMMON,
        task.priority,
        _when(task.submitted_at),
        str(task.failures + task.deaths),
        task.owner,
        printable(task.error.strip().rpartition("\n")[2][:60]),
    )


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
