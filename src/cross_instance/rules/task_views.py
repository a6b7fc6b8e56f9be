"""Looking at tasks and queues; nothing here changes anything but who is told when a task is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules import task_checks, task_records
from cross_instance.rules.checks import name as check_name
from cross_instance.rules.lapses import WATCHED, lapse
from cross_instance.rules.operations import (
    FOREVER,
    KindState,
    QueueState,
    StealState,
    TaskAnswer,
    TaskInfo,
    TaskPage,
    TaskState,
    TaskWorld,
)
from cross_instance.rules.stealing import backlog, queued, queued_by_rank
from cross_instance.rules.tables import (
    BY_PHASE,
    DURATION,
    OWNED,
    PAYLOAD,
    QUEUE,
    RESULT,
    STEALS,
    named,
)
from cross_instance.rules.task_desk import Desk
from cross_instance.rules.task_lines import is_paused
from cross_instance.rules.task_records import (
    PHASES,
    RANKS,
    STATES,
    Phase,
    Task,
    TaskClaim,
    lane_name,
    may_be_stolen,
    watch_key,
)

if TYPE_CHECKING:
    from cross_instance.rules.operations import GetTask, Instant, ListTasks, TaskSnapshot
    from cross_instance.rules.tables import Tables
    from cross_instance.rules.task_records import LaneName

LOOKED_AT = 1_000
"""How many tasks one page of a list looks at, matching or not."""


def state_of(task: Task, claim: TaskClaim | None) -> TaskState:
    """Where a task stands; a claim counts for the place that it was made for."""
    if task.phase is not Phase.OPEN:
        return STATES[task.phase]
    return TaskState.RUNNING if claim is not None and claim.place == task.place else TaskState.QUEUED


def answer(desk: Desk, name: str) -> TaskAnswer:
    """A task as it stands now, with payload and result."""
    task = desk.task(name)
    wakes = tuple(desk.wakes)
    if task is None:
        return TaskAnswer(at=desk.at, wakes=wakes, info=None)
    payload = desk.tables.get(named(PAYLOAD, name)) or b""
    task.spec = msgspec.structs.replace(task.spec, payload=payload)
    result = desk.tables.get(named(RESULT, name)) or b""
    return TaskAnswer(at=desk.at, wakes=wakes, info=_info(task, desk.claim(name), result))


def _info(task: Task, claim: TaskClaim | None, result: bytes = b"") -> TaskInfo:
    state = state_of(task, claim)
    running = claim if state is TaskState.RUNNING else None
    return TaskInfo(
        spec=task.spec,
        state=state,
        submitted_at=task.submitted_at,
        run_at=task.run_at,
        finished_at=task.finished_at,
        failures=task.failures,
        deaths=task.deaths,
        owner="" if running is None else running.instance_id,
        epoch=0 if running is None else running.epoch,
        began=0 if running is None else running.began,
        progress=b"" if running is None else running.progress,
        cancel=task.cancel,
        attempts=tuple(task.attempts),
        result=result,
    )


def get_task(tables: Tables, op: GetTask, at: Instant) -> TaskAnswer:
    """Decide a `GetTask`."""
    check_name("task id", op.task)
    desk = Desk(tables, at)
    seen = answer(desk, op.task)
    if op.watcher is not None and seen.info is not None and seen.info.state not in PHASES:
        key, until = watch_key(op.task, *op.watcher), at.mono + WATCHED
        if tables.get(key) is None:
            lapse(tables, key, until)
        tables.put(key, until.to_bytes(8))
    return seen


def list_tasks(tables: Tables, op: ListTasks, at: Instant) -> TaskPage:
    """Decide a `ListTasks`."""
    task_checks.page(op.most)
    task_checks.cursor(op.after)
    desk = Desk(tables, at)
    prefix = _listed_under(op.state)
    key, shown = bytes.fromhex(op.after) or prefix, list[TaskInfo]()
    for _ in range(LOOKED_AT):
        found = tables.after(prefix, key)
        if found is None:
            return TaskPage(at=at, tasks=tuple(shown))
        key = found[0]
        info = _listed(desk, found[1].decode(), op)
        if info is not None:
            shown.append(info)
            if len(shown) == op.most:
                break
    return TaskPage(at=at, tasks=tuple(shown), after=key.hex())


def _listed_under(state: TaskState | None) -> bytes:
    if state is None:
        return BY_PHASE
    if state is TaskState.RUNNING:
        return OWNED
    return BY_PHASE + bytes((PHASES.get(state, Phase.OPEN),))


def _listed(desk: Desk, name: str, op: ListTasks) -> TaskInfo | None:
    task = desk.task(name)
    if task is None or op.queue not in (None, task.spec.queue) or op.kind not in (None, task.spec.kind):
        return None
    info = _info(task, desk.claim(name))
    return info if op.state in (None, info.state) else None


def task_snapshot(tables: Tables, op: TaskSnapshot, at: Instant) -> TaskWorld:  # noqa: ARG001  # all decisions alike
    """Decide a `TaskSnapshot`."""
    desk = Desk(tables, at)
    lanes: dict[str, list[LaneName]] = {key[1:-1].decode(): [] for key, _ in tables.scan(QUEUE)}
    for lane in desk.lanes():
        lanes.setdefault(lane[0], []).append(lane)
    queues = tuple(_queue(desk, queue, lanes[queue]) for queue in sorted(lanes))
    totals, running = desk.totals(), sum(queue.running for queue in queues)
    counted = [(TaskState.QUEUED, totals.phases[Phase.OPEN] - running), (TaskState.RUNNING, running)]
    counted += [(state, totals.phases[phase]) for state, phase in PHASES.items()]
    return TaskWorld(
        at=at,
        queues=queues,
        kinds=tuple(_kind(key, value) for key, value in tables.scan(DURATION)),
        steals=tuple(_theft(key, value) for key, value in tables.scan(STEALS)),
        states=tuple((state, tasks) for state, tasks in counted if tasks),
        delayed=totals.delayed,
    )


def _queue(desk: Desk, queue: str, lanes: list[LaneName]) -> QueueState:
    durations: dict[str, int] = {}
    times = {lane: backlog(desk, lane, durations) for lane in lanes}
    ranks = [queued_by_rank(desk, lane) for lane in lanes]
    others = [lane for lane in lanes if may_be_stolen(lane)]
    return QueueState(
        queue,
        is_paused(desk.tables, queue),
        tuple(sum(rank) for rank in zip(*ranks, strict=True)) if ranks else (0,) * RANKS,
        sum(sum(desk.taken(lane).ranks) for lane in lanes),
        min(sum(times.values()), FOREVER),
        min(sum(times[lane] for lane in others), FOREVER),
        sum(queued(desk, lane) for lane in others),
    )


def _kind(key: bytes, value: bytes) -> KindState:
    known = task_records.decode_duration(value)
    return KindState(key[1:-1].decode(), known.mean, known.done)


def _theft(key: bytes, value: bytes) -> StealState:
    theft = task_records.decode_theft(value)
    thief, victim = lane_name(key)
    return StealState(thief, victim, theft.tasks, theft.last_at)
