"""What the task queue keeps, and under which keys. As in `records`, fields are only ever appended.

Durable, so that a commit is synced:

| key | value |
|---|---|
| TASK id | the task, without payload and result, which stand under PAYLOAD and RESULT |
| BY_PHASE phase, number | its id: all tasks of a phase in the order of submission |
| READY queue, lane, rank, place | its id: what is ready and not over, also while it runs, in the order of its turn |
| DELAYED run_at, number | the id of a task that is not ready yet |
| LANE queue, lane | how many stand in its READY lists, by rank and kind |
| TASK_KEY key; EXPIRES wall, number | ids: by idempotency key; by the end of the retention |
| QUEUE queue; DURATION kind; TOTALS; EPOCHS | a pause; mean duration; numbers given out and counts; reserved epochs |

Coordination, which ends with the boot and is never synced:

| key | value |
|---|---|
| CLAIM id | who runs it: incarnation and epoch |
| OWNED incarnation, seq, turn | the id of what an incarnation claimed |
| TAKEN queue, lane | how many of its READY lists are claimed, and up to which place each was handed out |
| RETURNED queue, lane, rank, place | places before that which are free again |
| IDLE, CLAIMER incarnation | whom to wake for work; the last seq that got something, and whether it has retired |
| EPOCH; WATCH id, incarnation, seq; STEALS thief, victim | the next epoch; who waits for a result until when; thefts |

So a claim syncs nothing, and where coordination is lost every task that was running is simply ready again.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from cross_instance.rules.records import Record
from cross_instance.rules.tables import BY_PHASE, DELAYED, EXPIRES, OWNED, WATCH, named
from cross_instance.rules.task_values import Attempt, NewTask, TaskState

RANKS = 5
"""Priority classes."""

LaneName = tuple[str, str]
"""(queue, lane): the tasks of a queue that the same instances may take, and that the same account holds back."""
SPENDS = ",,"
"""Stands before the account in a lane's name; no tag has a comma in it."""


class Phase(IntEnum):
    """What the durable record tells of a task: open ones are queued or running."""

    OPEN = 0
    DONE = 1
    FAILED = 2
    DEAD = 3
    CANCELLED = 4


STATES = {
    Phase.DONE: TaskState.DONE,
    Phase.FAILED: TaskState.FAILED,
    Phase.DEAD: TaskState.DEAD,
    Phase.CANCELLED: TaskState.CANCELLED,
}
"""The states of tasks that are over."""
PHASES = {state: phase for phase, state in STATES.items()}


class Task(Record):
    """A task. `spec` comes without payload; `number` is its place in the order of submission; `place` the one in its
    READY list, 0 where it is in none; `failures` count since it was submitted or sent back."""

    spec: NewTask
    number: int
    submitted_at: int
    run_at: int
    place: int = 0
    phase: Phase = Phase.OPEN
    failures: int = 0
    deaths: int = 0
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    finished_at: int = 0
    cancel: bool = False


class TaskClaim(Record):
    """Who runs a task since when (`since` mono, `began` wall µs), under which OWNED key, and where it stands."""

    epoch: int
    incarnation: int
    seq: int
    turn: int
    instance_id: str
    since: int
    began: int
    queue: str
    lane: str
    rank: int
    place: int
    kind: str
    cancel: bool = False
    progress: bytes = b""


class Lane(Record):
    """How many tasks stand in a lane's READY lists, by rank and by kind."""

    ranks: list[int] = msgspec.field(default_factory=lambda: [0] * RANKS)
    kinds: dict[str, int] = msgspec.field(default_factory=dict)

    def count(self, rank: int, kind: str, by: int) -> None:
        """One more or one less."""
        self.ranks[rank] += by
        left = self.kinds.get(kind, 0) + by
        if left:
            self.kinds[kind] = left
        else:
            self.kinds.pop(kind, None)


class Taken(Lane):
    """How many of them are claimed; `cursors`: the last place of each rank that was handed out."""

    cursors: list[int] = msgspec.field(default_factory=lambda: [0] * RANKS)


class Idle(Record):
    """A worker that found nothing: how to wake it, and for what. `timed`: it was told when a delayed task will be
    ready, which nobody else who is idle may know."""

    seq: int
    steal: bool
    tags: tuple[str, ...]
    timed: bool = False


class Duration(Record):
    """How long the tasks of a kind take, in µs."""

    mean: int = 0
    done: int = 0


class Totals(Record):
    """The last number given out, how many tasks are in each phase, and how many are delayed."""

    number: int = 0
    phases: list[int] = msgspec.field(default_factory=lambda: [0] * len(Phase))
    delayed: int = 0


class Theft(Record):
    """How often, and when last (wall µs)."""

    tasks: int = 0
    last_at: int = 0


decode_task = msgspec.msgpack.Decoder(Task).decode
decode_claim = msgspec.msgpack.Decoder(TaskClaim).decode
decode_lane = msgspec.msgpack.Decoder(Lane).decode
decode_taken = msgspec.msgpack.Decoder(Taken).decode
decode_idle = msgspec.msgpack.Decoder(Idle).decode
decode_duration = msgspec.msgpack.Decoder(Duration).decode
decode_totals = msgspec.msgpack.Decoder(Totals).decode
decode_theft = msgspec.msgpack.Decoder(Theft).decode

_one = struct.Struct(">Q").pack
_two = struct.Struct(">QQ").pack
_three = struct.Struct(">QQQ").pack


def claimer(seq: int, *, retired: bool = False) -> bytes:
    """The last claim of an incarnation that was answered with tasks; `retired`: it claims no more."""
    return seq.to_bytes(8) + b"\1" * retired


def last_claim(value: bytes | None) -> int:
    """The seq of a claimer, 0 for none."""
    return int.from_bytes((value or b"")[:8])


def has_retired(value: bytes) -> bool:
    """Whether a claimer claims no more."""
    return len(value) > 8


def lane_of(spec: NewTask) -> LaneName:
    """The lane of a task: whether it may be stolen, the tags it asks for and, where it may be stolen from somebody, the
    account it spends from."""
    lane = ("s" if spec.stealable else "k") + ",".join(sorted(spec.tags))
    return spec.queue, lane + SPENDS + spec.account if spec.account and may_be_stolen((spec.queue, lane)) else lane


def may_be_stolen(lane: LaneName) -> bool:
    """Whether others may take a lane's tasks from their queue."""
    return lane[0] != "" and lane[1][0] == "s"


def may_take(lane: str, tags: frozenset[str], *, steal: bool) -> bool:
    """Whether somebody who is able to do `tags` may take a lane's tasks from its own queue, or another's."""
    asked = lane[1:].partition(SPENDS)[0]
    return (lane[0] == "s" or not steal) and (not asked or tags.issuperset(asked.split(",")))


def account_of(lane: LaneName) -> str:
    """The account that holds back a lane's tasks from thieves, "" for none."""
    return lane[1].partition(SPENDS)[2]


def lane_key(table: bytes, lane: LaneName) -> bytes:
    """Where a lane's record is kept, and the prefix of its lists."""
    return named(table, lane[0]) + named(b"", lane[1])


def lane_name(key: bytes) -> LaneName:
    """The two names in the key of a lane's record, or of a theft."""
    queue, lane, _ = key[1:].split(b"\0")
    return queue.decode(), lane.decode()


def place_key(table: bytes, lane: LaneName, rank: int, place: int) -> bytes:
    """A place in one of a lane's lists."""
    return lane_key(table, lane) + bytes((rank,)) + _one(place)


def phase_key(phase: Phase, number: int) -> bytes:
    """A task's place among those of its phase."""
    return BY_PHASE + bytes((phase,)) + _one(number)


def delayed_key(run_at: int, number: int) -> bytes:
    """A task that is not ready yet."""
    return DELAYED + _two(run_at, number)


def expires_key(at: int, number: int) -> bytes:
    """A task that is over, by the end of its retention."""
    return EXPIRES + _two(at, number)


def owned_key(incarnation: int, seq: int, turn: int) -> bytes:
    """What an incarnation claimed."""
    return OWNED + _three(incarnation, seq, turn)


def watch_key(task: str, incarnation: int, seq: int) -> bytes:
    """Somebody who waits for a task to be over."""
    return named(WATCH, task) + _two(incarnation, seq)
