"""A store, its clock, and short calls for what the tests of the rules do all the time."""

from __future__ import annotations

from typing import Any, TypeVar

from cross_instance.rules import records
from cross_instance.rules.operations import (
    MINUTE,
    AccountSpec,
    Acquire,
    Cancel,
    Cancelled,
    Configure,
    Configured,
    Costs,
    Granted,
    Join,
    Joined,
    Kind,
    LimitSpec,
    NodeState,
    Operation,
    Outcome,
    Result,
    Settle,
    Settled,
    Signals,
    Snapshot,
    Source,
    Stale,
    Sweep,
    Swept,
    Waiting,
)
from cross_instance.rules.tables import NODE, PERMIT, named, permit_key
from cross_instance.testing import ModelStore

R = TypeVar("R", bound=Result)

ACCOUNT = "account"
NO_LIMITS = AccountSpec()


def requests(amount: int, burst: int, **rest: Any) -> LimitSpec:
    """Requests per minute."""
    return LimitSpec(Kind.REQUESTS, amount, burst, **rest)


def tokens(amount: int, burst: int | None = None, **rest: Any) -> LimitSpec:
    """Tokens per minute."""
    return LimitSpec(Kind.TOKENS, amount, amount if burst is None else burst, **rest)


def slots(amount: int, source: Source = Source.CONFIGURED) -> LimitSpec:
    """Calls at once."""
    return LimitSpec(Kind.CONCURRENCY, amount, 0, 0, source)


def limits(*specs: LimitSpec, **rest: Any) -> AccountSpec:
    """An account with these limits."""
    return AccountSpec(specs, **rest)


class Case:
    """One store at one instant, moved on by hand."""

    def __init__(self) -> None:
        self.store = ModelStore()
        self.tables = self.store.tables
        self._joins = 0
        self._seq = 0

    @property
    def now(self) -> int:
        return self.store.clock.mono

    def run(self, op: Operation[R]) -> R:
        return self.store.run(op)

    def wait(self, us: int) -> None:
        self.store.clock.advance(us)

    def join(self, name: str, spec: AccountSpec | None = NO_LIMITS, **rest: Any) -> int:
        """A new instance that has published `spec` for the account (None: nothing); its incarnation."""
        self._joins += 1
        publish = {key: rest.pop(key) for key in ("account", "weight", "reserve") if key in rest}
        fields = {"machine": f"machine of {name}", "host": name, "pid": self._joins, **rest}
        joined = self.run(Join(name, nonce=f"{self._joins}", **fields))
        assert isinstance(joined, Joined)
        if spec is not None:
            self.configure(joined.incarnation, spec, **publish)
        return joined.incarnation

    def configure(self, incarnation: int, spec: AccountSpec, account: str = ACCOUNT, **rest: Any) -> Configured:
        answer = self.run(Configure(incarnation, account, spec, **rest))
        assert isinstance(answer, Configured)
        return answer

    def acquire(self, incarnation: int, seq: int | None = None, account: str = ACCOUNT, **rest: Any) -> Result:
        """One `Acquire`, at the configuration's present revision; its `seq` is a new one unless given."""
        if seq is None:
            self._seq = seq = self._seq + 1
        op = Acquire(incarnation, seq, account, **{"revision": self.revision(account), **rest})
        return self.run(op)

    def granted(self, incarnation: int, seq: int | None = None, **rest: Any) -> Granted:
        answer = self.acquire(incarnation, seq, **rest)
        assert isinstance(answer, Granted), answer
        return answer

    def waiting(self, incarnation: int, seq: int | None = None, **rest: Any) -> Waiting:
        answer = self.acquire(incarnation, seq, **rest)
        assert isinstance(answer, Waiting), answer
        return answer

    def count_granted(self, incarnation: int, most: int = 1_000, **rest: Any) -> int:
        """How many requests are granted at this instant, before one is not."""
        for count in range(most):
            if not isinstance(self.acquire(incarnation, **{"timeout": 0, **rest}), Granted):
                return count
        return most

    def settle(self, incarnation: int, seq: int, outcome: Outcome = Outcome.SUCCESS, **rest: Any) -> Settled:
        return self.run(Settle(incarnation, seq, outcome, **rest))

    def reject(self, incarnation: int, seq: int, kind: Kind | None = Kind.REQUESTS, **rest: Any) -> Settled:
        """Settle with a 429."""
        retry_after = rest.pop("retry_after", None)
        return self.settle(incarnation, seq, Outcome.REJECTED, signals=Signals(kind, retry_after), **rest)

    def cancel(self, incarnation: int, seq: int) -> Cancelled:
        return self.run(Cancel(incarnation, seq))

    def sweep(self, *dead: int) -> Swept:
        return self.run(Sweep(dead))

    def revision(self, account: str = ACCOUNT) -> int:
        value = self.tables.get(named(NODE, account))
        return 0 if value is None else records.decode_node(value).revision

    def node(self, name: str = ACCOUNT) -> NodeState:
        return next(node for node in self.run(Snapshot()).nodes if node.node == name)

    def permit(self, incarnation: int, seq: int) -> records.Permit | None:
        value = self.tables.get(permit_key(incarnation, seq))
        return None if value is None else records.decode_permit(value)

    def permits(self) -> dict[tuple[int, int], records.Permit]:
        return {place_of(key): records.decode_permit(value) for key, value in self.tables.scan(PERMIT)}

    def offered(self) -> list[tuple[int, int]]:
        """The waiters that have an offer."""
        return [name for name, permit in self.permits().items() if permit.state is records.State.OFFERED]

    def take_offer(self) -> tuple[int, int]:
        """Let the one waiter that has an offer take it; its name."""
        (name,) = self.offered()
        self.granted(*name)
        return name


def place_of(key: bytes) -> tuple[int, int]:
    """(incarnation, seq) of a permit's key."""
    return int.from_bytes(key[1:9]), int.from_bytes(key[9:])


def token_costs(units: int) -> Costs:
    """One request of this many tokens."""
    return Costs(tokens=units)


__all__ = ["ACCOUNT", "MINUTE", "Case", "Stale", "limits", "place_of", "requests", "slots", "token_costs", "tokens"]
