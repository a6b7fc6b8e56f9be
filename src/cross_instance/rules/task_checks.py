"""Names and figures of tasks that a store can hold: anything else is a `ValueError` before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.checks import name, within
from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import DAY, FOREVER, TaskOutcome
from cross_instance.rules.task_records import PHASES, lane_of

if TYPE_CHECKING:
    from cross_instance.rules.operations import Claim, Finish, NewTask, Purge, Push, Renew, TaskEnd

MOST_AT_ONCE = 1_000
"""Tasks in one operation."""
MOST_CLAIMED = 100
"""Tasks that one claim may ask for."""
MOST_BYTES = 1 << 20
"""Bytes of a payload or a result."""
MOST_TOGETHER = 8 << 20
"""Bytes of all payloads or results of one operation."""
MOST_PROGRESS = 4 << 10
MOST_ERROR = 16 << 10
"""Bytes of a progress report, and of an attempt's error in UTF-8."""
MOST_LANE = 299
"""Bytes of a lane's name, which is a task's tags and account: with the longest queue and a place, LMDB's 511."""
MOST_TRIES = 10_000
MOST_RETENTION = 36_500 * DAY


def push(op: Push) -> None:
    """Every task, and all of them together."""
    _together("push", [task.payload for task in op.tasks])
    for task in op.tasks:
        _task(task)


def _together(what: str, data: list[bytes]) -> None:
    within(f"tasks in one {what}", len(data), 1, MOST_AT_ONCE)
    within(f"bytes in one {what}", sum(map(len, data)), 0, MOST_TOGETHER)


def _task(task: NewTask) -> None:
    name("task id", task.task)
    name("kind", task.kind)
    queue(task.queue)
    for what in ("key", "provider", "model", "account"):
        if getattr(task, what):
            name(what, getattr(task, what))
    for tag in task.tags:
        tag_name(tag)
    within(f"bytes of tags and account of task {task.task}", len(lane_of(task)[1].encode()), 1, MOST_LANE)
    within(f"payload bytes of task {task.task}", len(task.payload), 0, MOST_BYTES)
    within("priority", task.priority, 0, 4)
    within("run_at", task.run_at, 0, FOREVER)
    within("delay", task.delay, 0, FOREVER // 2)
    within("retries", task.retries, 0, MOST_TRIES)
    within("max_deaths", task.max_deaths, 1, MOST_TRIES)
    within("backoff", task.backoff, 0, DAY)
    within("max_backoff", task.max_backoff, 0, DAY)
    within("timeout", task.timeout, 1, FOREVER)
    within("retention", task.retention, 0, MOST_RETENTION)


def queue(text: str) -> None:
    """An instance's id, or "" for the common queue."""
    if text:
        name("queue", text)


def tag_name(tag: str) -> None:
    """A capability; a comma separates several."""
    name("tag", tag)
    if "," in tag:
        raise ValueError(f"tag {tag!r}: a comma separates tags")


def claim(op: Claim) -> None:
    """How many, and what for."""
    within("seq", op.seq, 1, EXACT - 1)
    within("most", op.most, 0, MOST_CLAIMED)
    within("min_gain", op.min_gain, 0, FOREVER)
    for tag in op.tags:
        tag_name(tag)


def renew(op: Renew) -> None:
    """Progress that is small."""
    within("tasks in one renewal", len(op.held), 0, MOST_AT_ONCE)
    for held in op.held:
        name("task id", held.task)
        within(f"progress bytes of task {held.task}", len(held.progress or b""), 0, MOST_PROGRESS)


def finish(op: Finish) -> None:
    """Every end, and all of them together."""
    _together("finish", [end.result for end in op.ends])
    for end in op.ends:
        _end(end)


def _end(end: TaskEnd) -> None:
    name("task id", end.task)
    if end.outcome is TaskOutcome.DIED:
        raise ValueError(f"outcome {end.outcome.value}: only the store says so")
    within(f"result bytes of task {end.task}", len(end.result), 0, MOST_BYTES)
    within(f"error bytes of task {end.task}", len(end.error.encode(errors="surrogatepass")), 0, MOST_ERROR)
    within("draw", end.draw, 0, (1 << 32) - 1)
    if end.retry_after is not None:
        within("retry_after", end.retry_after, 0, FOREVER // 2)


def page(most: int) -> None:
    """How long a page is."""
    within("most", most, 1, MOST_AT_ONCE)


def purge(op: Purge) -> None:
    """A state in which tasks are over, and how many."""
    page(op.most)
    cursor(op.after)
    within("tasks in one purge", len(op.tasks), 0, MOST_AT_ONCE)
    for task in op.tasks:
        name("task id", task)
    if op.state is not None and op.state not in PHASES:
        raise ValueError(f"state {op.state.value}: only tasks that are over can be purged")


def cursor(after: str) -> None:
    """Where a list goes on, as an answer gave it."""
    try:
        bytes.fromhex(after)
    except ValueError:
        raise ValueError(f"after {after!r}: only what an earlier page answered is accepted") from None
