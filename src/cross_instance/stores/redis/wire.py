"""The wire: operations and results as the scripts have them.

1. An operation is a MessagePack array of its fields in order; structs inside it are maps. What the scripts only keep of
   a workload, its entries, and the spec of an account are MessagePack texts by themselves. Figures are checked before
   anything is sent.
2. An answer is the name of the result's class, a line feed, and a MessagePack map of its fields; what is left out has
   its default. `ValueError` stands for figures that were refused, with the reason.
3. A wake-up is a message `SEQ AT` on the channel of the waiter's incarnation.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from cross_instance.errors import StoreUnavailable
from cross_instance.rules import broadcasts, checks, operations as ops
from cross_instance.rules.limits import EXACT
from cross_instance.rules.operations import NO_SIGNALS, Costs, Instant, Outcome, Wake
from cross_instance.stores.redis import task_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Operation, Result, Workload

VERSION = "v2"
"""Of the stored names and records; raised when they change so that an older package must not see them."""

_OPERATIONS: tuple[type[Operation[Any]], ...] = (
    *(ops.Acquire, ops.Settle, ops.Cancel, ops.Join, ops.Heartbeat, ops.Steal, ops.Leave, ops.Sweep, ops.Configure),
    *(ops.Snapshot, ops.Keep, ops.Unlearn, ops.Lock, ops.Unlock),
)
NAMES = {kind: re.sub(r"\B([A-Z])", r"_\1", kind.__name__).lower() for kind in _OPERATIONS + task_wire.OPERATIONS}
"""Which script decides which operation."""


WITH_TASKS = frozenset({ops.Join, ops.Heartbeat, ops.Leave, ops.Sweep, *task_wire.OPERATIONS})
"""The operations whose scripts are given the keys of tasks, too."""

_RESULTS: dict[str, type[Result]] = {
    kind.__name__: kind
    for kind in (
        *(ops.Granted, ops.Waiting, ops.Refused, ops.Stale, ops.Fenced, ops.Settled, ops.Cancelled, ops.Joined),
        *(ops.Duplicate, ops.Removing, ops.Beaten, ops.Stolen, ops.Left, ops.Swept, ops.Configured, ops.World),
        *(ops.Kept, ops.Unlearned, ops.Locked, ops.Unlocked),
        *task_wire.RESULTS,
    )
}
_DECODERS = {name.encode(): msgspec.msgpack.Decoder(kind).decode for name, kind in _RESULTS.items()}
_CHECKS: dict[type[Operation[Any]], Callable[[Any], None]] = {
    ops.Acquire: checks.acquire,
    ops.Settle: checks.settle,
    ops.Join: checks.join,
    ops.Heartbeat: broadcasts.check,
    ops.Steal: lambda op: checks.within("seq", op.seq, 0, EXACT - 1),
    ops.Configure: lambda op: checks.configure(op, Instant(0, 0)),
    ops.Lock: checks.lock,
    ops.Sweep: checks.sweep,
}
_ACQUIRE = struct.Struct("<8dBBdI").pack
_SETTLE = struct.Struct("<ddBBdddddd").pack
_length = struct.Struct("<I").pack
_NUMBERS = 1 << 64
_OUTCOMES = {outcome: place for place, outcome in enumerate(Outcome, 1)}
_UNKNOWN = Costs()
_encode = msgspec.msgpack.Encoder().encode
_astuple = msgspec.structs.astuple


class Names:
    """What a namespace's keys and channels are called: all of them in one hash slot."""

    def __init__(self, namespace: str) -> None:
        tag = f"{{cir:{VERSION}:{namespace}}}"
        self.keys = (f"{tag}:values", f"{tag}:order", f"{tag}:tasks", f"{tag}:task-order")
        self.feed = f"{tag}:feed"
        self._channel = f"{tag}:wake:"

    def keys_of(self, kind: type[Operation[Any]]) -> tuple[str, ...]:
        """The keys that a kind of operation's script is given."""
        return self.keys if kind in WITH_TASKS else self.keys[:2]

    def channel(self, incarnation: int) -> str:
        """Where the wakes of an incarnation are published."""
        return f"{self._channel}{incarnation}"


def pack(*parts: bytes | str | int) -> bytes:
    """A command as the server reads it (RESP: an array of byte strings)."""
    return b"*%d\r\n%b" % (len(parts), b"".join(map(bulk, parts)))


def bulk(part: bytes | str | int) -> bytes:
    """One byte string of a command."""
    data = part if isinstance(part, bytes) else str(part).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _acquire(op: ops.Acquire) -> bytes:
    """The form `ACQUIRE` of the scripts."""
    costs, task = op.costs, op.task
    account, group, model, name = (text.encode() for text in (op.account, op.group, op.model, task or ""))
    return b"".join(
        (
            _ACQUIRE(
                *(op.incarnation, op.seq, op.revision, op.timeout),
                *(costs.requests, costs.tokens, costs.input_tokens, costs.output_tokens),
                *(op.priority, task is not None, op.task_epoch, len(account)),
            ),
            account,
            *(part for text in (group, model, name) for part in (_length(len(text)), text)),
        )
    )


def _settle(op: ops.Settle) -> bytes:
    """The form `SETTLE` of the scripts; what was said of limits follows where something was."""
    used = op.usage or _UNKNOWN
    figures = _SETTLE(
        *(op.incarnation, op.seq, _OUTCOMES[op.outcome], op.usage is not None),
        *(used.requests, used.tokens, used.input_tokens, used.output_tokens, op.delay, op.draw),
    )
    return figures if op.signals == NO_SIGNALS else figures + _encode(op.signals)


def _opaque(value: object) -> msgspec.Raw:
    """A value that the scripts keep as it came: its MessagePack, as a string (the servers' library has no bytes)."""
    packed = _encode(value)
    return msgspec.Raw(b"\xdb" + len(packed).to_bytes(4) + packed)


def _workload(workload: Workload) -> tuple[msgspec.Raw, int, list[Any]]:
    """What the scripts keep of a workload; the two fields that thefts change, entries with what orders them."""
    kept = msgspec.structs.asdict(workload)
    del kept["pending"], kept["stealable"]
    entries = [(entry.priority, entry.enqueued_at, entry.id, _opaque(entry)) for entry in workload.stealable]
    return _opaque(kept), workload.pending, entries


def _heartbeat(op: ops.Heartbeat) -> bytes:
    workload = None if op.workload is None else _workload(op.workload)
    return _encode((op.incarnation, op.broadcast, op.told, workload))


def _configure(op: ops.Configure) -> bytes:
    spec = _opaque(msgspec.structs.replace(op.spec, origin=""))
    return _encode((op.incarnation, op.account, op.spec.origin, spec, op.weight, op.reserve))


_ENCODERS: dict[type[Operation[Any]], Callable[[Any], bytes]] = {
    ops.Acquire: _acquire,
    ops.Settle: _settle,
    ops.Heartbeat: _heartbeat,
    ops.Configure: _configure,
    **task_wire.ENCODERS,
}


def encode(op: Operation[Any]) -> bytes:
    """An operation for its script. Raises `ValueError` where its figures cannot be stored."""
    kind = type(op)
    check = _CHECKS.get(kind)
    if check is not None:
        check(op)
    for number in (getattr(op, "incarnation", 0), getattr(op, "seq", 0), *getattr(op, "dead", ())):
        if not 0 <= number < _NUMBERS:
            raise ValueError(f"{kind.__name__}: {number} is no number of an incarnation or request")
    encoder = _ENCODERS.get(kind)
    return _encode(_astuple(op)) if encoder is None else encoder(op)


def decode(reply: object) -> Result:
    """A script's answer.

    Raises `ValueError` where it refused the operation's figures, `StoreUnavailable` for what is no answer of ours.
    """
    if not isinstance(reply, bytes):
        raise StoreUnavailable(f"the script answered {reply!r}")
    name, _, body = reply.partition(b"\n")
    decoder = _DECODERS.get(name)
    if decoder is None:
        _refuse(name, body)
    try:
        return decoder(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"the script's answer {reply[:80]!r} cannot be read: {error}") from error


def _refuse(name: bytes, body: bytes) -> NoReturn:
    if name == b"ValueError":
        raise ValueError(msgspec.msgpack.decode(body))
    raise StoreUnavailable(f"the script answered with {name[:80]!r}, which this version does not know")


def decode_wake(channel: bytes, data: bytes) -> Wake | None:
    """The wake-up in a message; None where somebody else wrote it."""
    try:
        seq, at = data.split()
        return Wake(int(channel.rpartition(b":")[2]), int(seq), int(at))
    except ValueError:
        return None
