"""Operations and results: everything a store can be asked, as frozen data.

1. An operation carries what a decision needs and the store cannot know: account, incarnation, an operation id,
   the signals seen, a random draw where jitter is wanted. It never carries the time: the store owns time.
2. Every operation may be sent twice. The second copy changes nothing and gets an answer of the same meaning, so a
   call cut in the middle is simply repeated. A permit's operation id is its fence: (incarnation, seq).
3. Every result says at which instant it was decided (`at`), so that a recorded run can be replayed.
4. Wakes in a result are hints, addressed to waiters; they are delivered after the decision is stored.

Units: times and durations are integer microseconds, rates are units per period, amounts are whole units
(requests, tokens, slots). Structs are immutable; tuples stand for lists.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # msgspec reads the annotations
from enum import IntEnum, StrEnum
from typing import ClassVar, Generic, TypeVar

import msgspec

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
FOREVER = 1 << 52
"""A timeout or an instant that never comes; below 2^53, so that Lua's doubles hold it."""

CLUSTER = ""
"""The name of the root node, which holds limits across all accounts (`totalMaxLlm`)."""


class Kind(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    REQUESTS_DAY = "requests_day"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CONCURRENCY = "concurrency"


class Priority(IntEnum):
    """The strict request classes: a smaller number goes first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    BACKGROUND = 4


class Source(StrEnum):
    """Where a limit in force comes from, strongest first: what the user set is a ceiling, a preset only a start."""

    CONFIGURED = "configured"
    TOLD = "told"
    LEARNED = "learned"
    PRESET = "preset"
    GUESS = "guess"


class Outcome(StrEnum):
    """The ways in which a permit ends (law 7)."""

    SUCCESS = "success"
    REJECTED = "rejected"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    ERROR = "error"
    IGNORED = "ignored"


class Data(msgspec.Struct, frozen=True):
    """Base of everything that is passed around: immutable, comparable, cheap to build."""


class Instant(Data, frozen=True):
    """One moment on the store's two clocks.

    `mono` never runs backwards and decides; `wall` (Unix time) serves what outlives a boot or is shown. Both in µs.
    """

    mono: int
    wall: int


class Costs(Data, frozen=True):
    """What one request takes of each kind of limit, in whole units."""

    requests: int = 1
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def of(self, kind: Kind) -> int:
        """The units taken of one kind: slots are taken one by one, a day's requests like a minute's."""
        if kind is Kind.CONCURRENCY:
            return 1
        if kind is Kind.REQUESTS_DAY:
            return self.requests
        units: int = getattr(self, kind.value)
        return units


class LimitSpec(Data, frozen=True):
    """One limit as published by an instance.

    `amount` units per `period` µs with `burst` units at once; for concurrency `amount` slots (period and burst 0).
    `correct`: a settled permit is corrected to its real usage. `refund`: a rejected request gets its charge back.
    `anchor`: None for a continuously refilled bucket; otherwise a fixed window of `period`, one of whose boundaries
    is at this wall time (Gemini's day starts at midnight, Pacific time).
    """

    kind: Kind
    amount: int
    burst: int = 0
    period: int = MINUTE
    source: Source = Source.CONFIGURED
    correct: bool = True
    refund: bool = True
    anchor: int | None = None


class AccountSpec(Data, frozen=True):
    """The limits of one account (or of the cluster) as one instance knows them.

    `groups` maps a model pattern to the limits that come on top for its models. `origin` names the file or variable
    that said so, for messages.
    """

    limits: tuple[LimitSpec, ...] = ()
    groups: tuple[tuple[str, tuple[LimitSpec, ...]], ...] = ()
    origin: str = "defaults"
    ageing: int = 0
    """After each such time (µs) a waiter counts as one class higher; 0: classes are strict."""


class Told(Data, frozen=True):
    """A limit that the provider stated in a response: `limit` units per `period`, `remaining` of them left,
    `reset` µs until full or until the window ends (None where the provider did not say). `correct` and `refund` are
    the provider's charging rule for this kind, as in `LimitSpec`."""

    kind: Kind
    limit: int
    remaining: int | None = None
    reset: int | None = None
    period: int = MINUTE
    correct: bool = True
    refund: bool = True


class Signals(Data, frozen=True):
    """What one response said about limits, already parsed.

    `kind` is the limit that was hit, where the provider said so; `retry_after` in µs; `told` the limits it stated;
    `exhausted` is set where waiting does not help (no credit, spend limit): nothing is learned from it.
    """

    kind: Kind | None = None
    retry_after: int | None = None
    told: tuple[Told, ...] = ()
    exhausted: str | None = None


NO_SIGNALS = Signals()


class Workload(Data, frozen=True):
    """What an instance says of its own work: the coordinator's queue state, sent with heartbeats."""

    pending: int = 0
    orchestrations: int = 0
    latency: int | None = None
    last_completed: int | None = None
    active_models: tuple[tuple[str, str, int], ...] = ()
    """Provider, model, and since when (wall µs)."""
    stealable: tuple[Mapping[str, str | int | None], ...] = ()


class Wake(Data, frozen=True):
    """A hint for the waiter (incarnation, seq): repeat your `Acquire` at the store's instant `at` (mono µs)."""

    incarnation: int
    seq: int
    at: int


class Notice(Data, frozen=True):
    """Something that must not stay silent (law 11): a `topic` such as "reserve-scaled" and a sentence."""

    topic: str
    text: str


class Result(Data, frozen=True, kw_only=True):
    """Base of every result: when it was decided, whom to wake, what must be said."""

    at: Instant
    wakes: tuple[Wake, ...] = ()
    notices: tuple[Notice, ...] = ()


R_co = TypeVar("R_co", bound=Result, covariant=True)


class Operation(Data, Generic[R_co], frozen=True):
    """Base of every operation; the type parameter is what it answers."""

    durable: ClassVar[bool] = False
    """Whether its effect must survive a power cut before the answer is given."""


# --- limits in force -------------------------------------------------------------------------------------------


class LimitState(Data, frozen=True):
    """A limit in force, as shown and as told to a refused caller. `available` may be negative: what is owed."""

    node: str
    kind: Kind
    amount: int
    burst: int
    period: int
    source: Source
    available: int
    guard: int = 0


# --- permits ---------------------------------------------------------------------------------------------------


class Fenced(Result, frozen=True, kw_only=True):
    """The incarnation is no longer valid: it was silent too long, or another process took its id. Join anew."""


class Stale(Result, frozen=True, kw_only=True):
    """The account's configuration moved on: resolve the model against `patterns` and repeat.

    `revision` 0: this instance has not published its limits for the account yet (`Configure` first).
    """

    revision: int
    patterns: tuple[str, ...]


class Granted(Result, frozen=True, kw_only=True):
    """The permit (incarnation, seq) is held. `epochs` are those of the account when it was granted."""

    waited: int = 0
    epochs: tuple[int, int, int] = (0, 0, 0)


class Waiting(Result, frozen=True, kw_only=True):
    """The request stands in the queue. `not_before`: it cannot be granted earlier. `check_at`: repeat the operation
    then unless woken before (an instant, mono µs). `limit` is what holds it back, where it is its own turn."""

    not_before: int
    check_at: int
    limit: LimitState | None = None


class Refused(Result, frozen=True, kw_only=True):
    """Not granted and not queued: it cannot be had within the timeout (`"timeout"`), ever (`"too_large"`), or the
    task's epoch has passed to another owner (`"stale_task"`). `retry_after` µs is a lower bound."""

    reason: str
    retry_after: int = 0
    limit: LimitState | None = None
    needed: int = 0


class Acquire(Operation["Granted | Waiting | Refused | Stale | Fenced"], frozen=True):
    """Take a permit, or wait in the queue for one; repeated, it asks how the same request stands.

    `timeout` µs from the first time it was sent; 0 does not wait. `draw` is random in [0, 2^32).
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
    draw: int = 0


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


# --- registry --------------------------------------------------------------------------------------------------


class Joined(Result, frozen=True, kw_only=True):
    """The instance lives as `incarnation`, larger than any before, also before the last boot."""

    incarnation: int


class Duplicate(Result, frozen=True, kw_only=True):
    """Another live process has this instance id."""

    pid: int
    machine: str


class Join(Operation["Joined | Duplicate"], frozen=True):
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
    """The instance is alive; `taken` are the ids of stealable entries that others took since the last beat."""

    taken: tuple[str, ...] = ()


class Heartbeat(Operation["Beaten | Fenced"], frozen=True):
    """Say that the instance lives, and how it stands (None: as before)."""

    incarnation: int
    workload: Workload | None = None


class Left(Result, frozen=True, kw_only=True):
    """`known` is false where the instance was gone already."""

    known: bool


class Leave(Operation[Left], frozen=True):
    """Leave the registry; waiters are dropped, permits still held are given back as they were charged."""

    incarnation: int


class Swept(Result, frozen=True, kw_only=True):
    """The ids of instances removed, dead or silent."""

    removed: tuple[str, ...] = ()


class Sweep(Operation[Swept], frozen=True):
    """Remove the `dead` incarnations (known dead from the kernel: their slots return at once), instances silent
    beyond their timeout (their slots become ghosts), and what has expired."""

    dead: tuple[int, ...] = ()


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


# --- what can be seen ------------------------------------------------------------------------------------------


class InstanceState(Data, frozen=True):
    """One live instance. `joined_at`, `beat_at`: wall µs."""

    incarnation: int
    instance_id: str
    pid: int
    machine: str
    host: str
    session_id: str
    cwd: str
    version: str
    joined_at: int
    beat_at: int
    workload: Workload
    held: int
    waiting: int


class FlowState(Data, frozen=True):
    """One instance at one account: `used` requests were granted in the last 60 s."""

    incarnation: int
    weight: int
    reserve: int
    used: int


class NodeState(Data, frozen=True):
    """One node of the limits' tree. `limits` in the order of `Kind`; `used`: requests granted in the last 60 s by
    all instances, gone ones included (accounts only); `paused_until` mono µs."""

    node: str
    limits: tuple[LimitState, ...]
    waiting: int
    held: int
    ghosts: int
    paused_until: int
    epochs: tuple[int, int, int]
    used: int
    patterns: tuple[str, ...]
    flows: tuple[FlowState, ...]
    notices: tuple[Notice, ...] = ()


class World(Result, frozen=True, kw_only=True):
    """Everything at one instant, in a fixed order: the same on every store."""

    instances: tuple[InstanceState, ...]
    nodes: tuple[NodeState, ...]
    locks: tuple[LockState, ...] = ()


class Snapshot(Operation[World], frozen=True):
    """Look at everything; changes nothing."""


# --- locks -----------------------------------------------------------------------------------------------------


class LockState(Data, frozen=True):
    """A held lock: `fence` rises with every new holder; `expires_at` mono µs."""

    resource: str
    incarnation: int
    token: str
    fence: int
    acquired_at: int
    expires_at: int


class Locked(Result, frozen=True, kw_only=True):
    """`lock` is None where another holds it; `mine` tells whether it is the caller's."""

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
