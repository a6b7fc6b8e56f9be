"""The values that operations and results are made of, as frozen data.

Units: times and durations are integer microseconds, rates are units per period, amounts are whole units
(requests, tokens, slots). Structs are immutable; tuples stand for lists.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

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


class Data(msgspec.Struct, frozen=True, repr_omit_defaults=True):
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


class Learning(Data, frozen=True):
    """How the limits of an account are learned.

    `simple`: multiply by `reduction` and `recovery` (ppm) instead of measuring. `lowest`, `highest`: the bounds of a
    learned rate, in thousandths of a request per minute. `predicts`: reduce beforehand as the risk of 429s rises.
    """

    simple: bool = False
    reduction: int = 900_000
    recovery: int = 1_050_000
    lowest: int = 1_000
    highest: int = 1_000_000_000_000
    predicts: bool = False


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
    spread: int = 0
    """How far the delay from grant to send is taken to spread until it has been measured, in µs."""
    learning: Learning | None = None
    """How limits are learned; None: not at all."""


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


class Entry(Data, frozen=True):
    """Work that an application offers to others: they see what it is, and take it by its id.

    `enqueued_at`: since when it waits (wall µs); `duration` (µs) and `rounds`: what it is expected to take.
    """

    id: str
    tool: str = ""
    priority: Priority = Priority.NORMAL
    enqueued_at: int = 0
    duration: int | None = None
    rounds: int | None = None


class Workload(Data, frozen=True):
    """What an instance says of its own work: the coordinator's queue state, sent with heartbeats.

    `latency` (µs) is the mean of its tasks, `last_completed` when the last one ended (wall µs). `at_work`: it runs
    tasks of the durable queue; they are among the `orchestrations`, those that wait for it are in their queue.
    """

    pending: int = 0
    orchestrations: int = 0
    latency: int | None = None
    last_completed: int | None = None
    active_models: tuple[tuple[str, str, int], ...] = ()
    """Provider, model, and since when (wall µs)."""
    stealable: tuple[Entry, ...] = ()
    at_work: bool = False


class Wake(Data, frozen=True):
    """A hint for the waiter (incarnation, seq): repeat your `Acquire` at the store's instant `at` (mono µs)."""

    incarnation: int
    seq: int
    at: int


class Notice(Data, frozen=True):
    """Something that must not stay silent (law 11): a `topic` such as "reserve-scaled" and a sentence."""

    topic: str
    text: str


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


class InstanceState(Data, frozen=True):
    """One live instance. `joined_at`, `beat_at`: wall µs; `heard_at` is its last beat too, and `broadcast_at` when it
    last told its queue (0: never), on the clock that decides (mono µs)."""

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
    heard_at: int = 0
    broadcast_at: int = 0


class FlowState(Data, frozen=True):
    """One instance at one account: `used` requests were granted in the last 60 s."""

    incarnation: int
    weight: int
    reserve: int
    used: int


class LearnedState(Data, frozen=True):
    """What is learned at one node, with its evidence; rates in thousandths of a unit per minute, 0 where unknown.

    `started`: the rate it began with; `ceiling`: what the user configured; `told`: what the provider stated, `doubted`
    where the counts do not agree. `rate` is what is allowed now, `estimate` what the limit is taken to be, `phase` what
    the learner does. `reason` and `changed_at` (wall µs): the last change. `measured` and `span`: the requests accepted
    between the last two overloads, and the µs between them. `granted` and `rejected`: all requests so far. `cap`: calls
    at once, guessed from `samples`, the calls in flight at the last overloads. `tokens`: the rate of the token limit of
    the kind `token_kind`. `shares`: the ppm of requests that met 429 in the last 10, 30 and 60 minutes, `risk` what
    they imply, `cut` by how much the rate is reduced for it. `simple`: by the two factors instead of measuring.
    `window`: the span (µs) of the provider's fixed windows, where they were recognised.
    """

    simple: bool = False
    started: int = 0
    ceiling: int = 0
    told: int = 0
    doubted: bool = False
    rate: int = 0
    estimate: int = 0
    phase: str = ""
    reason: str = ""
    changed_at: int = 0
    measured: int = 0
    span: int = 0
    granted: int = 0
    rejected: int = 0
    cap: int = 0
    samples: tuple[int, ...] = ()
    token_kind: Kind | None = None
    tokens: int = 0
    shares: tuple[int, int, int] = (0, 0, 0)
    risk: int = 0
    cut: int = 0
    window: int = 0


class NodeState(Data, frozen=True):
    """One node of the limits' tree. `limits` in the order of `Kind`; `used`: requests granted in the last 60 s by
    all instances, gone ones included (accounts only); `paused_until` mono µs; `learned` where limits are learned."""

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
    learned: LearnedState | None = None


class LockState(Data, frozen=True):
    """A held lock: `fence` rises with every new holder; `expires_at` mono µs."""

    resource: str
    incarnation: int
    token: str
    fence: int
    acquired_at: int
    expires_at: int
