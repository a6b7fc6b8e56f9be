"""The vocabulary of the laws: instances that publish limits, ask for permits, settle them, and die.

A `Scene` is one fresh store beside the model. What a law says of results is checked on the store's; that the model
says the same is checked with every operation, and the whole state once more at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.rules.operations import (
    DAY,
    FOREVER,
    MINUTE,
    AccountSpec,
    Acquire,
    Cancel,
    Cancelled,
    Configure,
    Configured,
    Costs,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Kind,
    Leave,
    Left,
    LimitSpec,
    LimitState,
    Lock,
    Locked,
    NodeState,
    Outcome,
    Priority,
    Refused,
    Removing,
    Result,
    Settle,
    Settled,
    Snapshot,
    Source,
    Unlock,
    Unlocked,
    Waiting,
    Workload,
    World,
)
from cross_instance.testing.conformance.mirror import ConformanceError, Mirror

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cross_instance.rules.operations import Operation
    from cross_instance.stores.base import Store
    from cross_instance.testing.clock import FakeClock

    R = TypeVar("R", bound=Result)

ACCOUNT = "acme:main"
"""The account that laws use where one is enough."""


def require(condition: object, text: str) -> None:
    """Fail the law in words; unlike `assert` also under `python -O`."""
    if not condition:
        raise ConformanceError(text)


def limit(kind: Kind, amount: int, burst: int | None = None, period: int = DAY, **fields: Any) -> LimitSpec:
    """A limit with a burst of the whole amount and a refill too slow to be seen, unless said."""
    if kind is Kind.CONCURRENCY:
        return LimitSpec(kind, amount, 0, 0, **fields)
    return LimitSpec(kind, amount, amount if burst is None else burst, period, **fields)


def requests(amount: int, burst: int | None = None, period: int = DAY, **fields: Any) -> LimitSpec:
    """See `limit`."""
    return limit(Kind.REQUESTS, amount, burst, period, **fields)


def tokens(amount: int, burst: int | None = None, period: int = DAY, **fields: Any) -> LimitSpec:
    """See `limit`."""
    return limit(Kind.TOKENS, amount, burst, period, **fields)


def slots(amount: int, source: Source = Source.CONFIGURED) -> LimitSpec:
    """So many at once."""
    return limit(Kind.CONCURRENCY, amount, source=source)


class Scene:
    """One fresh store, mirrored by the model. `clock` is None where the store owns its time."""

    def __init__(self, store: Store, clock: FakeClock | None) -> None:
        self.store = store
        self.clock = clock
        self.mirror = Mirror(store)
        self.revisions: dict[str, int] = {}
        self._mirrored = True

    def run(self, op: Operation[R]) -> R:
        """Decide one operation on the store and the model."""
        return self.mirror.run(op)

    def unmirrored(self) -> Store:
        """The store itself, for what cannot be replayed in order; from then on nothing is compared."""
        self._mirrored = False
        return self.store

    def refuses(self, op: Operation[Any]) -> bool:
        """Whether store and model refuse an operation's figures."""
        try:
            self.run(op)
        except ValueError:
            return True
        return False

    def instance(self, name: str, *limits: LimitSpec, account: str = ACCOUNT, **published: Any) -> Actor:
        """An instance that has joined, and published limits for one account."""
        actor = Actor(self, name)
        actor.publish(*limits, account=account, **published)
        return actor

    def pass_time(self, us: int) -> None:
        """Let time pass, where the clock is ours."""
        if self.clock is None:
            raise RuntimeError("this law needs a clock that can be moved")
        self.clock.advance(us)

    def world(self) -> World:
        """Everything that can be seen."""
        return self.run(Snapshot())

    def node(self, name: str = ACCOUNT) -> NodeState:
        """One node of the limits' tree."""
        found = [node for node in self.world().nodes if node.node == name]
        require(found, f"the snapshot does not show the node {name!r}")
        return found[0]

    def limit(self, kind: Kind, node: str = ACCOUNT) -> LimitState:
        """One limit in force."""
        found = [limit for limit in self.node(node).limits if limit.kind is kind]
        require(found, f"no limit of {kind.value} is in force at {node!r}")
        return found[0]

    def available(self, kind: Kind, node: str = ACCOUNT) -> int:
        """What a limit has left."""
        return self.limit(kind, node).available

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None and self._mirrored:
                self.world()
            elif error is not None:
                error.add_note(f"the last operations:\n{self.mirror.trail()}")
        finally:
            self.store.close()


class Actor:
    """An instance in a scene."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene = scene
        self.name = name
        self.identity = Join(name, f"{name}/nonce", pid=4_711, machine="here", host="here.example")
        joined = scene.run(self.identity)
        while isinstance(joined, Removing):
            joined = scene.run(self.identity)
        if not isinstance(joined, Joined):
            raise ConformanceError(f"{name} could not join: {joined}")
        self.incarnation = joined.incarnation
        self._seq = 0

    def publish(
        self,
        *limits: LimitSpec,
        account: str = ACCOUNT,
        groups: dict[str, tuple[LimitSpec, ...]] | None = None,
        weight: int = 1,
        reserve: int = 0,
        ageing: int = 0,
        origin: str = "defaults",
    ) -> Configured:
        """Publish limits for an account."""
        spec = AccountSpec(limits, tuple((groups or {}).items()), origin, ageing)
        result = self.scene.run(Configure(self.incarnation, account, spec, weight, reserve))
        if not isinstance(result, Configured):
            raise ConformanceError(f"{self.name} could not publish limits: {result}")
        self.scene.revisions[account] = result.revision
        return result

    def ask(
        self,
        *,
        account: str = ACCOUNT,
        group: str = "",
        priority: Priority = Priority.NORMAL,
        timeout: int = FOREVER,
        model: str = "",
        tokens: int = 0,
        costs: Costs | None = None,
    ) -> Request:
        """Ask for a permit, of one request with so many tokens unless `costs` says more."""
        self._seq += 1
        op = Acquire(
            self.incarnation,
            self._seq,
            account,
            group=group,
            revision=self.scene.revisions[account],
            model=model,
            priority=priority,
            costs=Costs(tokens=tokens) if costs is None else costs,
            timeout=timeout,
        )
        return Request(self.scene, op)

    def hold(self, **asked: Any) -> Request:
        """Ask for a permit that must be granted at once."""
        request = self.ask(**asked)
        require(request.granted, f"{self.name} should hold a permit, and got {request.answer}")
        return request

    def wait(self, **asked: Any) -> Request:
        """Ask for a permit that must be waited for."""
        request = self.ask(**asked)
        require(request.waiting, f"{self.name} should wait, and got {request.answer}")
        return request

    def beat(self, workload: Workload | None = None, **said: Any) -> Result:
        """Send a heartbeat."""
        return self.scene.run(Heartbeat(self.incarnation, workload, **said))

    def leave(self) -> Left:
        """Leave the registry."""
        return self.scene.run(Leave(self.incarnation))

    def lock(self, resource: str, token: str, ttl: int = 60_000_000) -> Locked:
        """Take or renew a named lock."""
        result = self.scene.run(Lock(self.incarnation, resource, token, ttl))
        if not isinstance(result, Locked):
            raise ConformanceError(f"{self.name} could not ask for the lock {resource!r}: {result}")
        return result

    def unlock(self, resource: str, token: str) -> Unlocked:
        """Give a named lock back."""
        return self.scene.run(Unlock(resource, token))


class Request:
    """One permit from its first `Acquire` on; `answer` is the latest."""

    def __init__(self, scene: Scene, op: Acquire) -> None:
        self.scene = scene
        self.op = op
        self.name = (op.incarnation, op.seq)
        self.answer: Result = scene.run(op)

    @property
    def granted(self) -> bool:
        """Whether the latest answer is a grant."""
        return isinstance(self.answer, Granted)

    @property
    def waiting(self) -> bool:
        """Whether the latest answer is a place in the queue."""
        return isinstance(self.answer, Waiting)

    @property
    def refused(self) -> str:
        """Why it was refused; "" where it was not."""
        return self.answer.reason if isinstance(self.answer, Refused) else ""

    @property
    def offered(self) -> bool:
        """Whether somebody else's operation granted it, and woke it, since it last asked."""
        return self.name in self.scene.mirror.offers

    @property
    def timer(self) -> int | None:
        """The instant at which a wake told it to look, since it last asked."""
        return self.scene.mirror.timers.get(self.name)

    def expect(self, kind: type[R]) -> R:
        """The latest answer, which must be of this kind."""
        if not isinstance(self.answer, kind):
            raise ConformanceError(f"{self.op} should be answered by {kind.__name__}, and got {self.answer}")
        return self.answer

    def again(self) -> Request:
        """Send the same `Acquire` once more."""
        self.scene.mirror.forget(self.name)
        self.answer = self.scene.run(self.op)
        return self

    def take(self) -> Request:
        """Take what was offered."""
        require(self.offered, f"permit {self.name} should have been granted and woken")
        self.again()
        require(self.granted, f"the offered permit {self.name} should be held, and got {self.answer}")
        return self

    def settle(self, outcome: Outcome = Outcome.SUCCESS, **reported: Any) -> Settled:
        """End the permit."""
        return self.scene.run(Settle(*self.name, outcome, **reported))

    def cancel(self) -> Cancelled:
        """Leave the queue, or give the permit back."""
        return self.scene.run(Cancel(*self.name))


__all__ = ["ACCOUNT", "DAY", "MINUTE", "Actor", "Request", "Scene", "limit", "requests", "require", "slots", "tokens"]
