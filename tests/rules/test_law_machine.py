"""The laws, held after every step of whatever instances may do: a Hypothesis state machine over the model store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.rules import laws
from tests.rules.book import Book, Name
from tests.rules.brute import World
from tests.rules.strategies import (
    ACCOUNTS,
    MODELS,
    cluster_specs,
    costs,
    index,
    spans,
    specs,
    timeouts,
    told_limits,
)

from cross_instance.rules.operations import (
    CLUSTER,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Cancel,
    Configure,
    Configured,
    Costs,
    Fenced,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Keep,
    Kept,
    Kind,
    Leave,
    Operation,
    Outcome,
    Priority,
    Refused,
    Result,
    Settle,
    Settled,
    Signals,
    Stale,
    Sweep,
    Told,
    Unlearn,
    Waiting,
)
from cross_instance.rules.patterns import most_specific
from cross_instance.rules.records import State
from cross_instance.rules.tables import INCARNATIONS, KEPT, LEARNED, LOCK, NODE, TOLD
from cross_instance.testing import FakeClock, ModelStore

Epochs = tuple[int, int, int]

GRACE = 30 * SECOND


@dataclass
class Client:
    """A process as its store sees it: what it waits for, until when, and what it holds."""

    name: str
    incarnation: int = 0
    last: int = 0
    seq: int = 0
    joins: int = 0
    alive: bool = True
    published: set[str] = field(default_factory=set)
    waiting: dict[int, Acquire] = field(default_factory=dict)
    held: dict[int, Granted] = field(default_factory=dict)


class Laws(RuleBasedStateMachine):
    """Four processes, two accounts, and everything that may befall them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = ModelStore(self.clock)
        self.book = Book(self.store.tables)
        self.clients = [Client(name) for name in ("one", "two", "three", "four")]
        self.knowledge: dict[tuple[int, str], tuple[int, tuple[str, ...]]] = {}
        self.timers: dict[Name, int] = {}
        self.fresh: set[str] = set()
        self.lossy = False

    # --- acting ---

    def run(self, op: Operation[Any]) -> Any:
        """One operation: its wakes set timers, the book takes note, `fresh` names the accounts just decided."""
        answer: Result = self.store.run(op)
        assert answer.at == self.clock()
        self.book.observe(op, answer.at)
        for wake in answer.wakes:
            name = (wake.incarnation, wake.seq)
            if name in self.timers and not self.lossy:
                self.timers[name] = min(self.timers[name], wake.at)
        return answer

    def some_client(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    def living(self, number: int) -> Client | None:
        living = [client for client in self.clients if client.alive and client.incarnation]
        return living[number % len(living)] if living else None

    def forget(self, client: Client) -> None:
        for seq in client.waiting:
            self.timers.pop((client.incarnation, seq), None)
        client.waiting.clear()
        client.held.clear()
        client.published.clear()
        client.incarnation = 0

    def ask(self, client: Client, seq: int) -> None:
        """Send a request's `Acquire`, for the first time or again, as a client does."""
        op = client.waiting[seq]
        name = (client.incarnation, seq)
        offered = name in self.book.permits and self.book.permits[name].state is State.OFFERED
        answer = self.run(op)
        decided = isinstance(answer, Waiting) or (isinstance(answer, Granted) and not offered)
        self.fresh = {op.account} if decided else set()
        if isinstance(answer, Stale):
            self.knowledge[client.incarnation, op.account] = (answer.revision, answer.patterns)
            client.waiting[seq] = self.placed(op)
            self.ask(client, seq)
        elif isinstance(answer, Waiting):
            assert answer.check_at > self.clock.mono, "a waiter told to look again at once polls"
            assert answer.not_before >= self.clock.mono
            self.timers[name] = answer.check_at
        elif isinstance(answer, Fenced):
            self.forget(client)
        else:
            assert isinstance(answer, (Granted, Refused))
            del client.waiting[seq]
            self.timers.pop(name, None)
            if isinstance(answer, Granted):
                client.held[seq] = answer
            else:
                self.refused(op, answer)

    def refused(self, op: Acquire, answer: Refused) -> None:
        assert answer.reason in ("timeout", "too_large")
        assert (op.incarnation, op.seq) not in self.book.permits
        if answer.reason == "too_large":
            assert answer.limit is not None
            assert answer.needed > answer.limit.burst

    def placed(self, op: Acquire) -> Acquire:
        revision, patterns = self.knowledge[op.incarnation, op.account]
        return msgspec.structs.replace(op, revision=revision, group=most_specific(patterns, op.model))

    # --- what may happen ---

    @initialize(lossy=st.booleans(), first=specs, second=specs, cluster=st.none() | st.none() | cluster_specs)
    def begin(self, lossy: bool, first: AccountSpec, second: AccountSpec, cluster: AccountSpec | None) -> None:
        self.lossy = lossy
        for client in self.clients:
            self.join(client)
            self.publish(client, "a", first)
            self.publish(client, "b", second)
        if cluster is not None:
            self.run(Configure(self.clients[0].incarnation, CLUSTER, cluster))

    def join(self, client: Client) -> None:
        client.joins += 1
        joined = self.run(
            Join(client.name, f"{client.joins}", client.joins, machine=client.name, host="", timeout=MINUTE)
        )
        assert isinstance(joined, Joined)
        assert joined.incarnation > client.last
        self.forget(client)
        client.incarnation, client.last, client.alive = joined.incarnation, joined.incarnation, True

    def publish(self, client: Client, account: str, spec: AccountSpec, weight: int = 1, reserve: int = 0) -> None:
        answer = self.run(Configure(client.incarnation, account, spec, weight=weight, reserve=reserve))
        if isinstance(answer, Fenced):
            self.forget(client)
            return
        assert isinstance(answer, Configured)
        client.published.add(account)
        self.knowledge[client.incarnation, account] = (answer.revision, answer.patterns)
        self.fresh = {account}

    @rule(
        number=index,
        account=st.sampled_from((*ACCOUNTS, CLUSTER)),
        spec=specs,
        cluster=cluster_specs,
        weight=st.sampled_from((1, 1, 3)),
        reserve=st.sampled_from((0, 0, 6, 100)),
    )
    def configure(
        self, number: int, account: str, spec: AccountSpec, cluster: AccountSpec, weight: int, reserve: int
    ) -> None:
        client = self.living(number)
        if client is None:
            return
        if account != CLUSTER:
            self.publish(client, account, spec, weight, reserve)
        elif isinstance(self.run(Configure(client.incarnation, CLUSTER, cluster)), Fenced):
            self.forget(client)

    @rule(
        number=index,
        account=st.sampled_from(ACCOUNTS),
        model=st.sampled_from(MODELS),
        costs=costs,
        priority=st.sampled_from(Priority),
        timeout=timeouts,
        times=st.integers(1, 6),
    )
    def acquire(
        self, number: int, account: str, model: str, costs: Costs, priority: Priority, timeout: int, times: int
    ) -> None:
        for _ in range(times):
            client = self.living(number)
            if client is None or account not in client.published:
                return
            client.seq += 1
            op = Acquire(
                client.incarnation, client.seq, account, model=model, priority=priority, costs=costs, timeout=timeout
            )
            client.waiting[client.seq] = self.placed(op)
            self.ask(client, client.seq)
            self.hold_all()

    @rule(model=st.sampled_from(MODELS), priority=st.sampled_from(Priority), costs=costs, timeout=timeouts)
    def all_acquire(self, model: str, priority: Priority, costs: Costs, timeout: int) -> None:
        for number in range(len(self.clients)):
            self.acquire(number, "a", model, costs, priority, timeout, 1)

    @precondition(lambda self: self.timers)
    @rule(number=index)
    def look(self, number: int) -> None:
        """Any waiter may look at any time."""
        incarnation, seq = sorted(self.timers)[number % len(self.timers)]
        client = next(client for client in self.clients if client.incarnation == incarnation)
        if client.alive:
            self.ask(client, seq)

    @precondition(lambda self: self.timers)
    @rule(steps=st.sampled_from((1, 1, 3, 10)))
    def on_time(self, steps: int) -> None:
        """Time passes, and every living process looks exactly when it was told to."""
        for _ in range(steps):
            living = {client.incarnation: client for client in self.clients if client.alive}
            due = [(at, name) for name, at in self.timers.items() if name[0] in living]
            if not due:
                return
            at, (incarnation, seq) = min(due)
            self.time_passes(max(0, at - self.clock.mono))
            self.ask(living[incarnation], seq)
            self.hold_all()

    @precondition(lambda self: any(client.held for client in self.clients))
    @rule(
        number=index,
        outcome=st.sampled_from((*Outcome, Outcome.SUCCESS, Outcome.SUCCESS)),
        usage=st.none() | costs,
        kind=st.none() | st.sampled_from(Kind),
        retry_after=st.none() | st.sampled_from((0, 500_000, 3 * SECOND)),
        told=st.none() | told_limits,
        delay=st.sampled_from((0, 0, 1_000, 2 * SECOND)),
    )
    def settle(
        self,
        number: int,
        outcome: Outcome,
        usage: Costs | None,
        kind: Kind | None,
        retry_after: int | None,
        told: Told | None,
        delay: int,
    ) -> None:
        client, seq = self.some_held(number)
        permit = self.book.permits.get((client.incarnation, seq))
        before = {name: node.epochs for name, node in self.book.nodes.items()}
        signals = Signals(kind, retry_after, (told,) if told is not None else ())
        del client.held[seq]
        op = Settle(client.incarnation, seq, outcome, usage, signals, delay, draw=number << 20)
        settled = self.run(op)
        assert isinstance(settled, Settled)
        assert settled.known == (permit is not None and permit.state is State.HELD)
        if permit is None or not settled.known:
            return
        self.fresh = {permit.account}
        place = f"{permit.account}#{permit.group}" if permit.group else permit.account
        self.law_8(op, permit.epochs, before, place)
        again = self.run(op)
        assert not again.known, "a permit ends once"

    @precondition(lambda self: any(client.held for client in self.clients))
    @rule(number=index)
    def finish(self, number: int) -> None:
        """A call ends well."""
        self.settle(number, Outcome.SUCCESS, None, None, None, None, 0)

    def law_8(self, op: Settle, stamped: Epochs, before: dict[str, Epochs], place: str) -> None:
        """One cut per overload: the first rejection of a group's epoch moves it, its echoes do not."""
        after = {name: self.book.nodes[name].epochs for name in before}
        hit = (0, 1, 2) if op.signals.kind is None else (_epoch(op.signals.kind),)
        fresh = all(stamped[kind] == before[place][kind] for kind in hit)
        if op.outcome is Outcome.REJECTED and fresh:
            expected = tuple(epoch + (kind in hit) for kind, epoch in enumerate(before[place]))
        else:
            expected = before[place]
        assert after == {**before, place: expected}

    def some_held(self, number: int) -> tuple[Client, int]:
        held = [(client, seq) for client in self.clients for seq in client.held]
        return held[number % len(held)]

    @rule(number=index, forget=st.booleans())
    def keep_or_forget_what_was_learned(self, number: int, forget: bool) -> None:
        client = self.living(number)
        if forget:
            self.run(Unlearn())
        elif client is not None and isinstance(self.run(Keep(client.incarnation)), Kept):
            assert self.run(Keep(client.incarnation)).nodes == ()

    @rule(number=index, what=st.sampled_from(("waiting", "held", "unknown")))
    def cancel(self, number: int, what: str) -> None:
        client = self.living(number)
        if client is None:
            return
        those = {"waiting": list(client.waiting), "held": list(client.held), "unknown": [client.seq + 1]}[what]
        if not those:
            return
        seq = those[number % len(those)]
        permit = self.book.permits.get((client.incarnation, seq))
        cancelled = self.run(Cancel(client.incarnation, seq))
        client.waiting.pop(seq, None)
        client.held.pop(seq, None)
        self.timers.pop((client.incarnation, seq), None)
        if permit is None or permit.state is State.GHOST:
            assert cancelled.was == "unknown"
        else:
            assert cancelled.was == ("waiting" if permit.state is State.WAITING else "granted")
            self.fresh = {permit.account}

    @rule(number=index, what=st.sampled_from(("crash", "fall silent", "leave", "go on", "join", "join")))
    def trouble(self, number: int, what: str) -> None:
        client = self.living(number)
        if what == "go on":
            self.some_client(number).alive = True
        elif what == "join":
            self.join_anew(self.some_client(number))
        elif client is not None and what == "fall silent":
            client.alive = False
        elif client is not None:
            self.crash(client) if what == "crash" else self.leave(client)

    def join_anew(self, client: Client) -> None:
        """A process starts, after its end or in place of one that hangs on the same machine."""
        known = {account: self.book.nodes[account] for account in ACCOUNTS if account in self.book.nodes}
        self.join(client)
        for account in sorted(known):
            self.publish(client, account, AccountSpec())

    def crash(self, client: Client) -> None:
        """A process dies and the kernel says so: its slots return at once (law 6)."""
        incarnation, accounts = client.incarnation, set(client.published)
        ghosts = {name for name, permit in self.book.permits.items() if permit.state is State.GHOST}
        self.forget(client)
        self.run(Sweep(dead=(incarnation,)))
        assert {name for name in self.book.permits if name[0] == incarnation} <= ghosts
        self.fresh = accounts

    def leave(self, client: Client) -> None:
        accounts = set(client.published)
        known = self.run(Leave(client.incarnation)).known
        self.forget(client)
        self.fresh = accounts if known else set()

    @rule(number=index)
    def vanish(self, number: int) -> None:
        """A machine is cut off, and the others live on until that is noticed."""
        lost = self.living(number)
        for _ in range(3):
            self.time_passes(25 * SECOND)
            for client in self.clients:
                if client is not lost and client.alive and client.incarnation:
                    self.beat_of(client)
        if lost is not None:
            lost.alive = False

    @rule(number=index)
    def beat(self, number: int) -> None:
        client = self.living(number)
        if client is not None:
            self.beat_of(client)

    def beat_of(self, client: Client) -> None:
        if isinstance(self.run(Heartbeat(client.incarnation)), Fenced):
            self.forget(client)
        self.sweep()

    def sweep(self) -> None:
        """Those who fell silent become ghosts, for as long as their calls may run (law 6)."""
        before = dict(self.book.permits)
        names = {client.incarnation: client.name for client in self.clients}
        swept = self.run(Sweep())
        gone = {incarnation for incarnation, name in names.items() if name in swept.removed}
        for name, permit in before.items():
            if name[0] in gone and permit.state is State.HELD:
                assert self.book.permits[name].state is State.GHOST
                assert self.book.permits[name].expires == self.clock.mono + GRACE
            elif name[0] in gone and permit.state is not State.GHOST:
                assert name not in self.book.permits

    @rule(span=spans)
    def idle(self, span: int) -> None:
        """Nobody acts for a while."""
        self.time_passes(span)

    def time_passes(self, span: int) -> None:
        self.clock.advance(span)
        self.fresh = set()

    # --- what must hold ---

    def hold_all(self) -> None:
        for law in (self.law_1, self.law_2, self.law_3, self.law_4_and_5):
            law()

    @invariant()
    def law_1(self) -> None:
        laws.law_1(self.book)

    @invariant()
    def law_2(self) -> None:
        laws.law_2(self.book)

    @invariant()
    def law_3(self) -> None:
        laws.law_3(self.book)

    @invariant()
    def law_4_and_5(self) -> None:
        """Work conserving: nobody who fits is left waiting. No polling: who waits for time to pass has a timer."""
        world = World(self.store.tables, self.clock())
        for claim in world.claims(self.fresh):
            assert claim.ready is None or claim.ready > self.clock.mono, claim
            if claim.ready is not None and not self.lossy:
                self.timer_covers(claim.ready, claim.below)

    def timer_covers(self, ready: int, below: frozenset[Name]) -> None:
        living = {client.incarnation for client in self.clients if client.alive}
        if {name[0] for name in below} <= living:
            assert min(self.timers[name] for name in below) <= ready

    @invariant()
    def integers_only(self) -> None:
        laws.integers_only(self.store.tables)

    def teardown(self) -> None:
        """Law 7: nothing leaks. When all have left and every grace is over, nobody is there and nothing is held."""
        self.lossy = True
        for client in self.clients:
            if client.incarnation:
                self.run(Leave(client.incarnation))
        self.clock.advance(2 * GRACE)
        self.run(Sweep())
        kinds = {key[:1] for key, _ in self.store.tables.scan(b"")}
        assert kinds <= {NODE, TOLD, LOCK, INCARNATIONS, LEARNED, KEPT}, kinds
        for name, node in self.book.nodes.items():
            assert (node.held, node.waiting, node.children) == (0, 0, []), name


def _epoch(kind: Kind) -> int:
    return {Kind.REQUESTS: 0, Kind.REQUESTS_DAY: 0, Kind.CONCURRENCY: 2}.get(kind, 1)


TestLaws = Laws.TestCase
