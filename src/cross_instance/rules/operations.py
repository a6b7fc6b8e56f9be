"""Operations and results: everything a store can be asked, as frozen data.

1. An operation carries what a decision needs and the store cannot know: account, incarnation, an operation id,
   the signals seen, a random draw where jitter is wanted. It never carries the time: the store owns time.
2. Every operation may be sent twice. The second copy changes nothing and gets an answer of the same meaning, so a
   call cut in the middle is simply repeated. A permit's operation id is its fence: (incarnation, seq).
3. Every result says at which instant it was decided (`at`), so that a recorded run can be replayed.
4. Wakes in a result are hints, addressed to waiters; they are delivered after the decision is stored.

The values they are made of are in `values` and `task_values`, the operations on tasks in `task_operations`; all can
be imported from here.
"""

from __future__ import annotations

from typing import ClassVar

from cross_instance.rules.base import Fenced as Fenced, Operation as Operation, Result as Result
from cross_instance.rules.task_operations import (
    CancelTask as CancelTask,
    Claim as Claim,
    Claimed as Claimed,
    Finish as Finish,
    Finished as Finished,
    GetTask as GetTask,
    ListTasks as ListTasks,
    Purge as Purge,
    Purged as Purged,
    Push as Push,
    Pushed as Pushed,
    QueueSet as QueueSet,
    Renew as Renew,
    Renewed as Renewed,
    Requeue as Requeue,
    SetQueue as SetQueue,
    TaskAnswer as TaskAnswer,
    TaskPage as TaskPage,
    TaskSnapshot as TaskSnapshot,
    TaskWorld as TaskWorld,
)
from cross_instance.rules.task_values import (
    Attempt as Attempt,
    ClaimedTask as ClaimedTask,
    EndedTask as EndedTask,
    HeldTask as HeldTask,
    KindState as KindState,
    NewTask as NewTask,
    QueueState as QueueState,
    StealState as StealState,
    TaskEnd as TaskEnd,
    TaskInfo as TaskInfo,
    TaskOutcome as TaskOutcome,
    TaskState as TaskState,
)
from cross_instance.rules.values import (
    CLUSTER as CLUSTER,
    DAY as DAY,
    FOREVER as FOREVER,
    MINUTE as MINUTE,
    NO_SIGNALS as NO_SIGNALS,
    SECOND as SECOND,
    AccountSpec as AccountSpec,
    Costs as Costs,
    Data as Data,
    Entry as Entry,
    FlowState as FlowState,
    InstanceState as InstanceState,
    Instant as Instant,
    Kind as Kind,
    LearnedState as LearnedState,
    Learning as Learning,
    LimitSpec as LimitSpec,
    LimitState as LimitState,
    LockState as LockState,
    NodeState as NodeState,
    Notice as Notice,
    Outcome as Outcome,
    Priority as Priority,
    Signals as Signals,
    Source as Source,
    Told as Told,
    Wake as Wake,
    Workload as Workload,
)


class Stale(Result, frozen=True, kw_only=True):
    """The account's configuration moved on: resolve the model against `patterns` and repeat.

    `revision` 0: this instance has not published its limits for the account yet (`Configure` first).
    """

    revision: int
    patterns: tuple[str, ...]


class Granted(Result, frozen=True, kw_only=True):
    """The permit (incarnation, seq) is held. `epochs` are those of its model group, or of the account's other models,
    when it was granted: of (requests, tokens, concurrency). `age`: how long ago it was charged, in µs: what is offered
    to a waiter is charged when it is offered."""

    waited: int = 0
    age: int = 0
    epochs: tuple[int, int, int] = (0, 0, 0)


class Waiting(Result, frozen=True, kw_only=True):
    """The request stands in the queue. `not_before`: when the pause is over and its limits have refilled for it, were
    it its turn; earlier only by what others give back. `check_at`: repeat the operation then unless woken before.
    (Instants, mono µs.) `limit` is what holds it back, where it is its own turn."""

    not_before: int
    check_at: int
    limit: LimitState | None = None


class Refused(Result, frozen=True, kw_only=True):
    """Not granted and not queued: it was not, or cannot be, had within the timeout (`"timeout"`), or ever
    (`"too_large"`), or the task's epoch has passed to another owner (`"stale_task"`). `retry_after`: µs until the pause
    is over and its limits have refilled for it; earlier only by what others give back."""

    reason: str
    retry_after: int = 0
    limit: LimitState | None = None
    needed: int = 0


class Acquire(Operation["Granted | Waiting | Refused | Stale | Fenced"], frozen=True):
    """Take a permit, or wait in the queue for one; repeated, it asks how the same request stands.

    `timeout` µs from the first time it was sent; 0 does not wait.
    """

    incarnation: int
    seq: int
    account: str
    group: str = ""
    revision: int = 0
    model: str = ""
    priority: Priority = Priority.NORMAL
    costs: Costs = Costs()
    timeout: int = FOREVER
    task: str | None = None
    task_epoch: int = 0


class Settled(Result, frozen=True, kw_only=True):
    """`known` is false where the permit was not held: settled before, or its incarnation was fenced."""

    known: bool
    paused_until: int = 0


class Settle(Operation[Settled], frozen=True):
    """End a permit and report what happened. `usage` is what it really cost by the provider's rule, None: unknown.

    `delay`: µs from grant to send; `duration` and `first_token`: µs from send.
    """

    incarnation: int
    seq: int
    outcome: Outcome = Outcome.SUCCESS
    usage: Costs | None = None
    signals: Signals = NO_SIGNALS
    delay: int = 0
    duration: int | None = None
    first_token: int | None = None
    draw: int = 0


class Cancelled(Result, frozen=True, kw_only=True):
    """`was` is "waiting", "granted" (given back unused) or "unknown"."""

    was: str


class Cancel(Operation[Cancelled], frozen=True):
    """Leave the queue; a permit granted in the meantime is given back unused."""

    incarnation: int
    seq: int


class Joined(Result, frozen=True, kw_only=True):
    """The instance lives as `incarnation`, larger than any before, also before the last boot."""

    incarnation: int


class Duplicate(Result, frozen=True, kw_only=True):
    """Another live process has this instance id."""

    pid: int
    machine: str


class Removing(Result, frozen=True, kw_only=True):
    """An earlier incarnation of this id is gone in part; repeat the operation, with the same `nonce`."""


class Join(Operation["Joined | Duplicate | Removing"], frozen=True):
    """Enter the registry. `nonce` makes a repeated Join the same one.

    `machine` identifies host and boot: with `holds_lock` the caller holds the kernel's lock on the instance's file,
    so an earlier incarnation of this id on the same machine is certainly dead.
    """

    durable: ClassVar[bool] = True
    instance_id: str
    nonce: str
    pid: int
    machine: str
    host: str
    holds_lock: bool = True
    session_id: str = ""
    cwd: str = ""
    version: str = ""
    timeout: int = 60 * SECOND


class Beaten(Result, frozen=True, kw_only=True):
    """The instance is alive; `taken` are the ids of its entries that others took, until it was `told`. `unkept`: of its
    accounts something was learned that would not outlive a boot (`Keep`)."""

    taken: tuple[str, ...] = ()
    unkept: bool = False


class Heartbeat(Operation["Beaten | Fenced"], frozen=True):
    """Say that the instance lives, and how it stands (None: as before).

    `broadcast`: the workload is news of its queue. `told` are the ids of entries that it knows to be taken: they need
    not be repeated to it, and may be offered again.
    """

    incarnation: int
    workload: Workload | None = None
    broadcast: bool = False
    told: tuple[str, ...] = ()


class Stolen(Result, frozen=True, kw_only=True):
    """`entry` is the thief's from now on, and was the `victim`'s (an instance id); None: there was nothing to take."""

    entry: Entry | None = None
    victim: str = ""


class Steal(Operation["Stolen | Fenced"], frozen=True):
    """Take one entry that another instance offers, the oldest of the highest class.

    A `seq` that was answered with an entry is answered with the same one again.
    """

    incarnation: int
    seq: int


class Left(Result, frozen=True, kw_only=True):
    """`known` is false where the instance was gone already. `more`: it has left in part; repeat the operation."""

    known: bool
    more: bool = False


class Leave(Operation[Left], frozen=True):
    """Leave the registry; waiters are dropped, permits still held are given back as they were charged."""

    lengthy: ClassVar[bool] = True
    incarnation: int


class Swept(Result, frozen=True, kw_only=True):
    """The ids of instances removed, dead or silent. `more`: there is more to remove; repeat the operation."""

    removed: tuple[str, ...] = ()
    more: bool = False


class Sweep(Operation[Swept], frozen=True):
    """Remove the `dead` incarnations (known dead from the kernel: their slots return at once), instances silent
    beyond their timeout (their slots become ghosts), and what has expired.

    `awake`: for how long the caller's machine has been awake, in µs. Nobody counts as silent to whom has slept for a
    part of the timeout: they may have slept together, on a store whose clock went on.
    """

    lengthy: ClassVar[bool] = True
    dead: tuple[int, ...] = ()
    awake: int = FOREVER


class Configured(Result, frozen=True, kw_only=True):
    """What to resolve models against: the patterns of all live instances, and the revision to quote."""

    revision: int
    patterns: tuple[str, ...]


class Configure(Operation["Configured | Fenced"], frozen=True):
    """Publish the limits this instance knows for an account; the strictest of the live ones holds.

    `weight` is the instance's share in fair queueing; `reserve` the requests per minute it is sure of.
    `account` "" is the cluster. An empty spec withdraws the limits published before.
    """

    incarnation: int
    account: str
    spec: AccountSpec
    weight: int = 1
    reserve: int = 0


class Kept(Result, frozen=True, kw_only=True):
    """The nodes of which what was learned was written down."""

    nodes: tuple[str, ...] = ()


class Keep(Operation["Kept | Fenced"], frozen=True):
    """Make what was learned of an instance's accounts outlive a boot."""

    durable: ClassVar[bool] = True
    incarnation: int


class Unlearned(Result, frozen=True, kw_only=True):
    """The nodes at which something learned was forgotten."""

    nodes: tuple[str, ...] = ()


class Unlearn(Operation[Unlearned], frozen=True):
    """Forget what was learned of limits: of all accounts, of one `provider`'s, of one `account`; `model`: only of the
    group that it belongs to."""

    durable: ClassVar[bool] = True
    provider: str = ""
    account: str = ""
    model: str = ""


class World(Result, frozen=True, kw_only=True):
    """Everything at one instant, in a fixed order: the same on every store."""

    instances: tuple[InstanceState, ...]
    nodes: tuple[NodeState, ...]
    locks: tuple[LockState, ...] = ()


class Snapshot(Operation[World], frozen=True):
    """Look at everything; changes nothing.

    `counts` False leaves 0 for what each instance holds and waits for, and for the ghosts of each node: then it does
    not go through permits and waiters, and costs the same however many there are.
    """

    lengthy: ClassVar[bool] = True
    counts: bool = True


class Locked(Result, frozen=True, kw_only=True):
    """The lock as it is held; `mine` tells whether by the caller."""

    lock: LockState
    mine: bool


class Lock(Operation["Locked | Fenced"], frozen=True):
    """Take or renew a named lock for `ttl` µs. The same `token` renews; an expired lock goes to one contender."""

    incarnation: int
    resource: str
    token: str
    ttl: int


class Unlocked(Result, frozen=True, kw_only=True):
    """`known` is false where this token did not hold the lock."""

    known: bool


class Unlock(Operation[Unlocked], frozen=True):
    """Give a lock back; only its own token can."""

    resource: str
    token: str
