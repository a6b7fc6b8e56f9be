"""Operations on tasks as the scripts have them.

1. What the scripts only pass on (a task's description, its payload, progress, results) is sent as it is to be stored:
   the servers' MessagePack has no bytes, only strings.
2. A description is a MessagePack map without its head, so that the scripts can add the payload to it.
3. Figures are checked before anything is sent, as the rules check them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from cross_instance.rules import checks, operations as ops, task_checks
from cross_instance.rules.operations import NewTask, TaskOutcome
from cross_instance.rules.task_records import lane_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Operation

OPERATIONS: tuple[type[Operation[Any]], ...] = (
    *(ops.Push, ops.Claim, ops.Renew, ops.Finish, ops.GetTask, ops.CancelTask, ops.Requeue, ops.ListTasks, ops.Purge),
    *(ops.SetQueue, ops.TaskSnapshot),
)
RESULTS = (
    *(ops.Pushed, ops.Claimed, ops.Renewed, ops.Finished, ops.TaskAnswer, ops.TaskPage, ops.Purged, ops.QueueSet),
    ops.TaskWorld,
)

_OUTCOMES = {outcome: place for place, outcome in enumerate(TaskOutcome, 1)}
_NUMBERS = 1 << 64
_MAP16 = 0xDE
_spec = struct.Struct("<B5d").pack
_times = struct.Struct("<dd").pack
_length = struct.Struct("<I").pack
_short = struct.Struct("<H").pack
_encode = msgspec.msgpack.Encoder().encode


def _text(data: bytes) -> msgspec.Raw:
    """Bytes as a MessagePack string."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4) + data)


def _sized(data: bytes) -> bytes:
    return _length(len(data)) + data


def _description(spec: NewTask) -> bytes:
    """A task without its payload: the number of fields, and these."""
    packed = _encode(msgspec.structs.replace(spec, payload=b""))
    fields, body = (packed[1] << 8 | packed[2], packed[3:]) if packed[0] == _MAP16 else (packed[0] & 15, packed[1:])
    return _short(fields) + _sized(body)


def _new_task(spec: NewTask) -> bytes:
    """The form `NEW` of the scripts, with a `SPEC` inside."""
    queue, lane = lane_of(spec)
    names = (queue, lane, spec.kind, spec.key, spec.account)
    figures = _spec(spec.priority, spec.retries, spec.max_deaths, spec.backoff, spec.max_backoff, spec.retention)
    described = b"".join((figures, *(_sized(name.encode()) for name in names), _description(spec)))
    parts = (spec.task.encode(), described, spec.payload)
    return _times(spec.run_at, spec.delay) + b"".join(map(_sized, parts))


def _push(op: ops.Push) -> bytes:
    task_checks.push(op)
    return _length(len(op.tasks)) + b"".join(map(_new_task, op.tasks))


def _claim(op: ops.Claim) -> bytes:
    task_checks.claim(op)
    return _encode((op.incarnation, op.seq, op.most, op.steal, op.min_gain, op.tags))


def _renew(op: ops.Renew) -> bytes:
    task_checks.renew(op)
    held = [(one.task, one.epoch, one.progress is not None, _text(one.progress or b"")) for one in op.held]
    return _encode((op.incarnation, held))


def _finish(op: ops.Finish) -> bytes:
    task_checks.finish(op)
    ends = [
        (end.task, end.epoch, _OUTCOMES[end.outcome], _text(end.result), end.error, _or(end.retry_after, -1), end.draw)
        for end in op.ends
    ]
    return _encode((op.incarnation, ends))


def _get_task(op: ops.GetTask) -> bytes:
    checks.name("task id", op.task)
    for number in op.watcher or ():
        checks.within("watcher", number, 0, _NUMBERS - 1)
    return _encode((op.task, op.watcher))


def _named(op: ops.CancelTask | ops.Requeue) -> bytes:
    checks.name("task id", op.task)
    return _encode((op.task,))


def _list_tasks(op: ops.ListTasks) -> bytes:
    task_checks.page(op.most)
    task_checks.cursor(op.after)
    wanted = (_or(op.state, False), _or(op.queue, False), _or(op.kind, False))
    return _encode((*wanted, _text(bytes.fromhex(op.after)), op.most))


def _purge(op: ops.Purge) -> bytes:
    task_checks.purge(op)
    return _encode((op.tasks, _or(op.state, False), op.before, _text(bytes.fromhex(op.after)), op.most))


def _set_queue(op: ops.SetQueue) -> bytes:
    task_checks.queue(op.queue)
    return _encode((op.queue, op.paused))


def _or(value: Any, otherwise: Any) -> Any:
    """Lua's lists end at the first nil."""
    return otherwise if value is None else value


ENCODERS: dict[type[Operation[Any]], Callable[[Any], bytes]] = {
    ops.Push: _push,
    ops.Claim: _claim,
    ops.Renew: _renew,
    ops.Finish: _finish,
    ops.GetTask: _get_task,
    ops.CancelTask: _named,
    ops.Requeue: _named,
    ops.ListTasks: _list_tasks,
    ops.Purge: _purge,
    ops.SetQueue: _set_queue,
    ops.TaskSnapshot: lambda _: b"",
}
"""Each raises `ValueError` for what cannot be stored."""
