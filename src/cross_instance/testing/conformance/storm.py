"""A storm: thousands of random operations, some of them absurd, from one seed.

The generator knows nothing of the rules: it only remembers what it was answered, as a crowd of careless instances
would. Whoever runs it compares results: the conformance suite with the model, others with what they hold true.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Any

import msgspec

from cross_instance.rules.operations import (
    CLUSTER,
    DAY,
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Cancel,
    Configure,
    Configured,
    Costs,
    Entry,
    Fenced,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Kind,
    Leave,
    LimitSpec,
    Lock,
    Operation,
    Outcome,
    Priority,
    Result,
    Settle,
    Signals,
    Snapshot,
    Source,
    Stale,
    Steal,
    Sweep,
    Swept,
    Told,
    Unlock,
    Waiting,
    Workload,
)

ACCOUNTS = ("openai:main", "anthropic:größe", "x" * 200)
PATTERNS = ("gpt-4o", "gpt-*", "claude sonnet/4", "模型")
NAMES = tuple(f"instance-{number}" for number in range(7))
PERIODS = (20_000, SECOND, MINUTE, DAY)
PAUSES = (0, 1, 37, 1_000, 20_000, 250_000, SECOND, 7 * SECOND, 61 * SECOND, 3_600 * SECOND)
PAUSE_WEIGHTS = (60, 10, 10, 10, 10, 8, 5, 2, 0.4, 0.1)


class Elapse(msgspec.Struct, frozen=True):
    """Let `us` microseconds pass, where the store's clock can be moved."""

    us: int


Storm = Generator[Operation[Any] | Elapse, Result | None, None]


def random_operations(seed: int, count: int) -> Storm:
    """So many random operations, with time passing between them.

    Send each operation's result back into the generator: later operations refer to it. Send None for an `Elapse`, and
    where the store refuses an operation's figures (`ValueError`).
    """
    crowd = Crowd(Random(seed))
    for _ in range(count):
        crowd.hear((yield Elapse(crowd.pause())))
        op = crowd.next()
        crowd.hear((yield op), op)


class Crowd:
    """What a crowd of careless instances remembers, and does next.

    `living` are the instances by id, `fenced` those that were told so (and sometimes try again), `revisions` what
    each live one published, `waiting` and `held` the requests, `over` those that have ended.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.accounts = (*ACCOUNTS, CLUSTER) if random.random() < 0.5 else ACCOUNTS
        self.living: dict[str, int] = {}
        self.fenced: list[int] = []
        self.revisions: dict[tuple[int, str], int] = {}
        self.patterns: dict[str, tuple[str, ...]] = {}
        self.waiting: dict[tuple[int, int], Acquire] = {}
        self.held: dict[tuple[int, int], Acquire] = {}
        self.over: list[Acquire] = []
        self.sent: list[Operation[Any]] = []
        self.seq = 0

    def pause(self) -> int:
        """How long nothing happens, in µs."""
        return self.random.choices(PAUSES, PAUSE_WEIGHTS)[0]

    def next(self) -> Operation[Any]:
        """The next operation."""
        if len(self.living) < 3:
            return self._join()
        moves, weights = zip(*self._moves(), strict=True)
        op: Operation[Any] = self.random.choices(moves, weights)[0]()
        self.sent = [*self.sent[-19:], op]
        return op

    def _moves(self) -> list[tuple[Any, float]]:
        return [
            (self._acquire, 45 if self.revisions else 0),
            (lambda: self._one_of(self.waiting), 25 if self.waiting else 0),
            (self._settle, 25 if self.held else 0),
            (lambda: Cancel(*self._named(self._any_request())), 4 if self.waiting or self.held else 0),
            (self._configure, 5),
            (self._join, 0.7),
            (self._beat, 8),
            (lambda: Steal(self._anyone(), self.random.randrange(4)), 4),
            (lambda: Leave(self._anyone()), 0.3),
            (self._sweep, 3),
            (self._lock, 3),
            (lambda: Unlock(f"lock-{self.random.randrange(3)}", f"token-{self.random.randrange(3)}"), 3),
            (lambda: self.random.choice(self.sent), 5 if self.sent else 0),
            (Snapshot, 2),
        ]

    def hear(self, result: Result | None, op: Operation[Any] | None = None) -> None:
        """Remember what an answer means for what comes next."""
        match op, result:
            case Join(instance_id=name), Joined(incarnation=incarnation):
                self.living[name] = incarnation
            case Sweep(), Swept(removed=removed):
                self.living = {name: one for name, one in self.living.items() if name not in removed}
            case Configure(account=account, incarnation=incarnation), Configured(revision=revision, patterns=patterns):
                self.revisions[incarnation, account], self.patterns[account] = revision, patterns
            case Acquire() as ask, _:
                self._hear_of(ask, result)
            case Settle() | Cancel(), _:
                self._end((op.incarnation, op.seq))
            case ((Heartbeat() | Lock() | Configure()), Fenced()):
                self._fence(op.incarnation)

    def _hear_of(self, ask: Acquire, result: Result | None) -> None:
        name = self._named(ask)
        match result:
            case Stale(revision=revision, patterns=patterns):
                self.revisions[ask.incarnation, ask.account], self.patterns[ask.account] = revision, patterns
            case Waiting():
                self.waiting[name] = ask
            case Granted():
                self.waiting.pop(name, None)
                self.held[name] = ask
            case Fenced():
                self._fence(ask.incarnation)
            case _:
                self._end(name)

    def _end(self, name: tuple[int, int]) -> None:
        ended = self.waiting.pop(name, None) or self.held.pop(name, None)
        if ended is not None:
            self.over = [*self.over[-19:], ended]

    def _fence(self, incarnation: int) -> None:
        self.fenced = [*self.fenced[-4:], incarnation]
        self.living = {name: one for name, one in self.living.items() if one != incarnation}
        self.revisions = {key: value for key, value in self.revisions.items() if key[0] != incarnation}
        for requests in (self.waiting, self.held):
            for name in [name for name in requests if name[0] == incarnation]:
                self._end(name)

    def _anyone(self) -> int:
        if self.fenced and self.random.random() < 0.03:
            return self.random.choice(self.fenced)
        return self.random.choice([*self.living.values()])

    def _one_of(self, requests: dict[tuple[int, int], Acquire]) -> Acquire:
        return self.random.choice([*requests.values()])

    def _any_request(self) -> Acquire:
        if self.over and self.random.random() < 0.05:
            return self.random.choice(self.over)
        return self._one_of({**self.waiting, **self.held})

    @staticmethod
    def _named(ask: Acquire) -> tuple[int, int]:
        return ask.incarnation, ask.seq

    def _join(self) -> Join:
        name, home = self.random.choice(NAMES), self.random.choice(("here", "there"))
        return Join(
            name,
            f"nonce-{self.random.randrange(4)}",
            pid=self.random.randrange(1, 9),
            machine=home,
            host=home,
            holds_lock=self.random.random() < 0.6,
            timeout=self.random.choice((10 * SECOND, 60 * SECOND, 3_600 * SECOND)),
        )

    def _configure(self) -> Configure:
        account = self.random.choice(self.accounts)
        groups = {pattern: self._limits() for pattern in self.random.sample(PATTERNS, self.random.randrange(3))}
        ageing = self.random.choice((0, 0, 0, SECOND))
        spec = AccountSpec(self._limits(), tuple(groups.items()), f"file-{self.random.randrange(3)}", ageing)
        if self.random.random() < 0.1:
            spec = AccountSpec()
        reserve = self.random.choice((0, 0, 0, 1, 6, 60, 600))
        return Configure(self._anyone(), account, spec, self.random.randrange(0, 5), reserve)

    def _limits(self) -> tuple[LimitSpec, ...]:
        kinds = self.random.sample(list(Kind), self.random.choice((0, 1, 1, 2, 3)))
        return tuple(self._limit(kind) for kind in kinds)

    def _limit(self, kind: Kind) -> LimitSpec:
        source = self.random.choice((*Source, Source.CONFIGURED, Source.CONFIGURED))
        if kind is Kind.CONCURRENCY:
            return LimitSpec(kind, self.random.randrange(1, 6), source=source)
        largest = 20 if kind in (Kind.REQUESTS, Kind.REQUESTS_DAY) else 3_000
        return LimitSpec(
            kind,
            self.random.randrange(1, largest * 3),
            burst=self.random.randrange(1, largest),
            period=self.random.choice(PERIODS),
            source=source,
            correct=self.random.random() < 0.7,
            refund=self.random.random() < 0.5,
            anchor=self.random.choice((None, None, None, 0, 7 * SECOND)),
        )

    def _acquire(self) -> Acquire:
        incarnation, account = self.random.choice([*self.revisions])
        account = account or ACCOUNTS[0]  # nobody asks the cluster
        self.seq += 1
        return Acquire(
            incarnation,
            self.seq,
            account,
            group=self.random.choice(("", *self.patterns.get(account, ()))),
            revision=self.revisions.get((incarnation, account), 0),
            model=self.random.choice(PATTERNS),
            priority=self.random.choice(list(Priority)),
            costs=self._costs(),
            timeout=self.random.choice((0, 300_000, 20 * SECOND, 1 << 52)),
        )

    def _costs(self) -> Costs:
        def units() -> int:
            return self.random.choice((0, 1, self.random.randrange(50), self.random.randrange(2_000)))

        return Costs(self.random.choice((1, 1, 1, 2)), units(), units(), units())

    def _settle(self) -> Settle:
        return Settle(
            *self._named(self._one_of(self.held) if self.random.random() < 0.95 else self._any_request()),
            outcome=self.random.choices(list(Outcome), (60, 8, 4, 4, 4, 8))[0],
            usage=self._costs() if self.random.random() < 0.6 else None,
            signals=self._signals(),
            delay=self.random.choice((0, 0, 5_000, SECOND)),
            draw=self.random.randrange(1 << 32),
        )

    def _signals(self) -> Signals:
        if self.random.random() < 0.6:
            return Signals()
        told = Told(
            self.random.choice(list(Kind)),
            self.random.randrange(0, 5_000),
            remaining=self.random.choice((None, 0, 3, 100)),
            period=self.random.choice(PERIODS),
        )
        return Signals(
            kind=self.random.choice((None, *Kind)),
            retry_after=self.random.choice((None, 0, 5_000, 2 * SECOND)),
            told=self.random.choice(((), (told,))),
            exhausted=self.random.choice((None, None, None, "insufficient_quota")),
        )

    def _beat(self) -> Heartbeat:
        pending = self.random.randrange(9)
        entries = tuple(Entry(f"entry-{number}", priority=Priority(number)) for number in range(pending % 4))
        return Heartbeat(
            self._anyone(),
            self.random.choice((None, Workload(pending, latency=5 * pending, stealable=entries))),
            broadcast=self.random.random() < 0.5,
            told=self.random.choice(((), ("entry-0",), ("entry-1", "entry-2"))),
        )

    def _sweep(self) -> Sweep:
        awake = self.random.choice((FOREVER, FOREVER, FOREVER, self.random.randrange(90 * SECOND)))
        return Sweep((self._anyone(),) if self.random.random() < 0.15 else (), awake)

    def _lock(self) -> Lock:
        resource, token = self.random.randrange(3), self.random.randrange(3)
        return Lock(self._anyone(), f"lock-{resource}", f"token-{token}", self.random.choice((20_000, 5 * SECOND)))
