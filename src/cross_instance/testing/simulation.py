"""A deterministic simulation: hundreds of instances share an account in virtual time.

1. One seed decides everything. A failure carries the seed and the virtual time as a note.
2. Instances know the store only through its operations. A waiter acts at its `check_at` and when a wake tells it to,
   never otherwise: what is granted is granted without polling.
3. Wakes may be lost, instances killed, stopped and cut off; each of them joins anew when it finds itself fenced.
4. Whether too much was admitted is judged by `SimulatedAccount`, which knows nothing of the rules.

All times are µs.
"""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cross_instance.rules.operations import (
    CLUSTER,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Fenced,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Outcome,
    Refused,
    Settle,
    Signals,
    Stale,
    Sweep,
    Waiting,
)
from cross_instance.rules.patterns import most_specific
from cross_instance.testing.model import ModelStore
from cross_instance.testing.simulated_account import Call
from cross_instance.testing.simulated_members import Load, Member, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cross_instance.rules.operations import Operation, Result
    from cross_instance.testing.simulated_account import SimulatedAccount

    R = TypeVar("R", bound=Result)

__all__ = ["Load", "Member", "Report", "Simulation"]

Permit = tuple[int, int]


class Simulation:
    """Instances, their store, and the account they share.

    `provider` maps an account's name, or `account#pattern`, to what is enforced there. `wake_latency` is drawn evenly
    from its range, `lost` is the share of wakes that never arrive, `noticed` how soon a killed process is noticed by
    the others, `beat` the interval of heartbeats. `check` is called after each instant at which something happened.
    """

    def __init__(
        self,
        seed: int,
        provider: Mapping[str, SimulatedAccount],
        *,
        store: ModelStore | None = None,
        lost: float = 0.0,
        wake_latency: tuple[int, int] = (0, 0),
        noticed: int = SECOND,
        beat: int = 15 * SECOND,
        silence: int = MINUTE,
        check: Callable[[Simulation], None] | None = None,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.provider = provider
        self.store = store or ModelStore()
        self.report = Report()
        self.members: list[Member] = []
        self.timers: dict[Permit, int] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._lost, self._wake_latency, self._noticed = lost, wake_latency, noticed
        self._beat, self._silence = beat, silence
        self._check = check
        self._by_incarnation: dict[int, Member] = {}

    @property
    def now(self) -> int:
        """The present instant, mono µs."""
        return self.store.clock.mono

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Do something at an instant."""
        self._order += 1
        heapq.heappush(self._events, (max(when, self.now), self._order, action))

    def add(self, member: Member, after: int = 0) -> Member:
        """Let an instance start `after` µs from now."""
        self.members.append(member)
        self.at(self.now + after, lambda: self._start(member))
        return member

    def run(self, duration: int) -> Report:
        """Let `duration` pass. Whatever fails carries the seed and the virtual time as a note."""
        end = self.now + duration
        try:
            while self._events and self._events[0][0] <= end:
                self._instant(self._events[0][0])
            self.store.clock.advance(end - self.now)
        except BaseException as error:
            error.add_note(f"simulation seed {self.seed}, at {self.now} µs of virtual time")
            raise
        return self.report

    def _instant(self, when: int) -> None:
        self.store.clock.advance(when - self.now)
        while self._events and self._events[0][0] == when:
            heapq.heappop(self._events)[2]()
        if self._check is not None:
            self._check(self)

    # --- what befalls instances ---

    def kill(self, member: Member) -> None:
        """End a process: its connections are gone at once, the kernel tells the others soon."""
        member.alive = False
        self._hang_up(member)
        self._drop_waiters(member)
        incarnation = member.incarnation
        self.at(self.now + self.random.randint(0, self._noticed), lambda: self._tell_dead(incarnation))

    def cut_off(self, member: Member) -> None:
        """Take a machine off the net for good: nobody is told, its calls go on at the provider."""
        member.alive = False
        self._drop_waiters(member)

    def stop(self, member: Member) -> None:
        """Suspend a process, as SIGSTOP does; its calls go on at the provider."""
        member.stopped = True

    def resume(self, member: Member) -> None:
        """Let a suspended process go on: it catches up on everything at once."""
        member.stopped = False
        missed, member.missed = member.missed, []
        for action in missed:
            action()

    def leave(self, member: Member) -> None:
        """Let an instance go in order."""
        member.alive = False
        self._hang_up(member)
        self._drop_waiters(member)
        while self._run(Leave(member.incarnation)).more:
            pass

    def configure(self, member: Member, specs: Mapping[str, AccountSpec]) -> None:
        """Change what an instance publishes."""
        member.specs = specs
        for account, spec in specs.items():
            own = account == member.load.account
            answer = self._run(
                Configure(
                    member.incarnation,
                    account,
                    spec,
                    weight=member.weight,
                    reserve=member.reserve if own else 0,
                )
            )
            if own and isinstance(answer, Configured):
                member.revision, member.patterns = answer.revision, answer.patterns

    def _tell_dead(self, incarnation: int) -> None:
        if any(member.alive and not member.stopped for member in self.members):
            self._sweep(incarnation)

    def _sweep(self, *dead: int) -> None:
        while self._run(Sweep(dead)).more:
            pass

    @staticmethod
    def _hang_up(member: Member) -> None:
        for call in member.calls:
            call.end()
        member.calls.clear()

    def _drop_waiters(self, member: Member) -> None:
        for seq in member.waiting:
            self.timers.pop((member.incarnation, seq), None)
        member.waiting.clear()

    # --- the life of an instance ---

    def _later(self, member: Member, when: int, action: Callable[[], None]) -> None:
        """Let an instance act at an instant, unless it is dead by then; a stopped one acts when it goes on."""

        def act() -> None:
            if member.stopped:
                member.missed.append(act)
            elif member.alive:
                action()

        self.at(when, act)

    def _start(self, member: Member) -> None:
        self._join(member)
        self._later(member, self.now + self._beat, lambda: self._heartbeat(member))
        for _ in range(member.load.parallel):
            self._next_request(member)

    def _join(self, member: Member) -> None:
        member.joins += 1
        nonce = f"{member.name}.{member.joins}"
        joined = self._run(
            Join(member.name, nonce, member.joins, machine=member.name, host=member.name, timeout=self._silence)
        )
        assert isinstance(joined, Joined), f"{member.name} could not join: {joined}"
        member.incarnation = joined.incarnation
        self._by_incarnation[joined.incarnation] = member
        self.configure(member, member.specs)

    def _heartbeat(self, member: Member) -> None:
        if isinstance(self._run(Heartbeat(member.incarnation)), Fenced):
            self._join_anew(member, member.incarnation)
        self._sweep()
        self._later(member, self.now + self._beat, lambda: self._heartbeat(member))

    def _join_anew(self, member: Member, fenced: int) -> None:
        """What waited waits again; calls on their way end unreported."""
        if fenced != member.incarnation:
            return
        self.report.fenced += 1
        waiting = len(member.waiting)
        self._drop_waiters(member)
        del self._by_incarnation[fenced]
        self._join(member)
        for _ in range(waiting):
            self._request(member)

    def _next_request(self, member: Member) -> None:
        load = member.load
        if load.total is None or member.started < load.total:
            member.started += 1
            self._later(member, self.now + self.random.randint(*load.pause), lambda: self._request(member))

    def _request(self, member: Member) -> None:
        load = member.load
        member.seq += 1
        member.waiting[member.seq] = Acquire(
            member.incarnation,
            member.seq,
            load.account,
            model=load.model,
            priority=self.random.choice(load.priorities),
            costs=load.costs,
            timeout=load.timeout,
            **self._where(member),
        )
        self._ask(member, member.seq)

    def _ask(self, member: Member, seq: int) -> None:
        """Send a request's `Acquire`, for the first time or again, and do as the answer says."""
        op = member.waiting[seq]
        answer = self._run(op)
        if isinstance(answer, Waiting):
            self._arm(member, seq, answer.check_at)
        elif isinstance(answer, Stale):
            member.revision, member.patterns = answer.revision, answer.patterns
            member.waiting[seq] = msgspec.structs.replace(op, **self._where(member))
            self._ask(member, seq)
        elif isinstance(answer, Fenced):
            self._join_anew(member, op.incarnation)
        else:
            del member.waiting[seq]
            self.timers.pop((op.incarnation, seq), None)
            self._decided(member, op, answer)

    def _decided(self, member: Member, op: Acquire, answer: Granted | Refused) -> None:
        if isinstance(answer, Granted):
            self._granted(member, op, answer)
        else:
            self.report.refused += 1
            self._next_request(member)

    @staticmethod
    def _where(member: Member) -> dict[str, Any]:
        return {"group": most_specific(member.patterns, member.load.model), "revision": member.revision}

    def _arm(self, member: Member, seq: int, when: int) -> None:
        name = (member.incarnation, seq)
        self.timers[name] = when

        def look() -> None:
            if self.timers.get(name) == when:
                self.report.looks += 1
                self._ask(member, seq)

        self._later(member, when, look)

    def _run(self, op: Operation[R]) -> R:
        """Run an operation and deliver its wakes, late or never."""
        self.report.operations += 1
        answer = self.store.run(op)
        for wake in answer.wakes:
            self.store.forget((wake.incarnation, wake.seq))
            due = self.timers.get((wake.incarnation, wake.seq))
            arrival = max(self.now + self.random.randint(*self._wake_latency), wake.at)
            if due is not None and arrival < due and self.random.random() >= self._lost:
                self._arm(self._by_incarnation[wake.incarnation], wake.seq, arrival)
        return answer

    # --- calls ---

    def _granted(self, member: Member, op: Acquire, answer: Granted) -> None:
        report, load = self.report, member.load
        report.granted += 1
        report.waited += answer.waited
        report.longest_wait = max(report.longest_wait, answer.waited)
        member.granted += 1
        names = (op.account, f"{op.account}#{op.group}", CLUSTER)
        accounts = tuple(self.provider[name] for name in names if name in self.provider)
        delay = self.random.randint(*load.delay)
        call = Call(op.incarnation, op.seq, load.usage or op.costs, accounts, delay)
        self._later(member, self.now + delay, lambda: self._send(member, call))

    def _send(self, member: Member, call: Call) -> None:
        kind = call.send(self.store.clock())
        if kind is not None:
            named = all(account.names for account in call.accounts)
            self._settle(call, Outcome.REJECTED, signals=Signals(kind=kind if named else None))
            self._request(member)
            return
        member.calls.add(call)
        end = self.now + self.random.randint(*member.load.duration)
        self.at(end, call.end)
        self._later(member, end, lambda: self._answered(member, call))

    def _answered(self, member: Member, call: Call) -> None:
        member.calls.discard(call)
        self._settle(call, Outcome.SUCCESS, usage=call.usage)
        self.report.finished += 1
        self._next_request(member)

    def _settle(self, call: Call, outcome: Outcome, **report: Any) -> None:
        self._run(Settle(call.incarnation, call.seq, outcome, delay=call.delay, **report))
