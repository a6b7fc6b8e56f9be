"""An outage: the time without the store, and the store of its own that an instance has then.

1. It decides by the same rules, over the limits in force at the last look, cut to the instance's fair share.
2. Permits keep their names. Calls under way when the outage begins hold their slots in it.
3. Pauses known at the last look hold. What responses say about limits is not believed here: it is said of the
   whole limit.
4. A request for a task is refused: who owns it cannot be known.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cross_instance.degraded.shares import Share, first_level, scaled_spec, shares_in
from cross_instance.errors import StoreUnavailable
from cross_instance.rules import records
from cross_instance.rules.operations import (
    CLUSTER,
    SECOND,
    AccountSpec,
    Acquire,
    Cancel,
    Cancelled,
    Configure,
    Configured,
    Instant,
    Join,
    Kind,
    Refused,
    Settle,
    Settled,
    Source,
    Waiting,
    Wake,
)
from cross_instance.rules.patterns import most_specific
from cross_instance.rules.tables import INCARNATIONS, NODE, named
from cross_instance.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cross_instance.rules.operations import NodeState, Operation, World
    from cross_instance.rules.permits import Answer
    from cross_instance.stores.base import Permit


class Sight(NamedTuple):
    """What an instance knew when it was cut off. Instants are the store's, in µs.

    `contact`: when the store answered last. `silent_at`: when the others count the instance as gone. `world`: the
    store at the last look (None: there was none). `published`: what the instance published, by account. `held`: its
    calls under way. `paused`: pauses heard of since the look, by account.
    """

    incarnation: int
    contact: int
    silent_at: int
    world: World | None
    published: Mapping[str, AccountSpec]
    held: tuple[Acquire, ...]
    paused: Mapping[str, int]


class Outage:
    """The time from now until the store can be used again, `error` being why it cannot."""

    def __init__(self, error: StoreUnavailable, clock: Callable[[], int], sight: Sight) -> None:
        self.error = error
        self.granted = 0
        """Permits granted from the share."""
        self.failed: dict[type[Operation[Any]], Operation[Any]] = {}
        """The operations that did not reach the store, the last of each kind."""
        self.shares: dict[str, Share] = {}
        """By account, "" for the limit across all of them; empty where there is none (any more)."""
        self.is_told_stopped = False
        self._clock = clock
        self._sight = sight
        self._begun = clock()
        self._store = MemoryStore(lambda: Instant(clock(), time.time_ns() // 1000))
        self.mailboxes = self._store.mailboxes
        self._nodes: dict[str, NodeState] = {}
        self._revisions: dict[str, int] = {}
        if sight.world is not None and sight.silent_at > self._begun:
            self._nodes = {node.node: node for node in sight.world.nodes}
            known = self._nodes.keys() & {CLUSTER, *sight.published}
            shares = shares_in(sight.world, sight.incarnation)
            self.shares = {name: share for name, share in shares.items() if name in known}
            self._open()

    # --- the share as a store ----------------------------------------------------------------------------------

    def _open(self) -> None:
        """Begin as the instance that it is, with its calls under way, then put the limits in force."""
        sight = self._sight
        self._store.tables.put(INCARNATIONS, (sight.incarnation - 1).to_bytes(8))
        self._store.run(Join(instance_id="this", nonce="", pid=0, machine="", host=""))
        accounts = [name for name in self.shares if name != CLUSTER]
        for account in accounts:
            unlimited = AccountSpec(groups=tuple((pattern, ()) for pattern in self._nodes[account].patterns))
            self._revisions[account] = self._configure(account, unlimited)
        for question in sight.held:
            if question.account in self._revisions:
                self._store.run(self._own(question))
        for account in accounts:
            self._configure(account, scaled_spec(account, self._nodes, self.shares[account], sight.published[account]))
        if CLUSTER in self.shares:
            self._configure(CLUSTER, scaled_spec(CLUSTER, self._nodes, self.shares[CLUSTER], AccountSpec()))
        for name in self._nodes:
            self._set_levels(name)

    def _configure(self, account: str, spec: AccountSpec) -> int:
        configured = self._store.run(Configure(self._sight.incarnation, account, spec))
        assert isinstance(configured, Configured)
        return configured.revision

    def _set_levels(self, name: str) -> None:
        """Bring a node from full buckets to what the share held when the store answered last."""
        key = named(NODE, name)
        value = self._store.tables.get(key)
        share = self.shares.get(name.partition("#")[0])
        if value is None or share is None:
            return
        node, seen = records.decode_node(value), self._nodes[name]
        states = {state.kind: state for state in seen.limits}
        for limit in node.limits:
            if limit.kind is not Kind.CONCURRENCY:
                limit.level = limit.low = min(limit.cap, first_level(states[limit.kind], share)) * limit.den
                limit.at = self._sight.contact if limit.anchor is None else limit.at
        node.paused_until = max(self._sight.paused.get(name, 0), seen.paused_until)
        self._store.tables.put(key, records.encode(node))

    def _own(self, question: Acquire) -> Acquire:
        """A question as this store understands it."""
        account = question.account
        group = most_specific(self._nodes[account].patterns, question.model)
        return msgspec.structs.replace(question, revision=self._revisions[account], group=group, task=None)

    # --- decisions ---------------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """Whether there is no share, or no more."""
        return not self._revisions or self._clock() >= self._sight.silent_at

    def seconds(self) -> float:
        """How long it has lasted."""
        return max(0, self._clock() - self._begun) / SECOND

    def seconds_left(self) -> float:
        """How long the share still lasts."""
        return 0.0 if self.is_over() else (self._sight.silent_at - self._clock()) / SECOND

    def acquire(self, question: Acquire) -> Answer:
        """Decide a request.

        Raises the error of the outage where there is no share for it (any more).
        """
        if self.is_over() or question.task is not None or question.account not in self._revisions:
            raise self.refusal()
        refused = self._too_large(question)
        return self._with_source(self._store.run(self._own(question))) if refused is None else refused

    def _with_source(self, answer: Answer) -> Answer:
        """An answer that says of its limit where that comes from (here all are called learned, see `shares`)."""
        if not isinstance(answer, Waiting | Refused) or answer.limit is None:
            return answer
        limit = answer.limit
        source = next(seen.source for seen in self._nodes[limit.node].limits if seen.kind is limit.kind)
        return msgspec.structs.replace(answer, limit=msgspec.structs.replace(limit, source=source))

    def refusal(self) -> StoreUnavailable:
        """The error that callers meet; a new one each time, since each is raised in another place."""
        if not self._revisions or not self.is_over():
            return copy.copy(self.error)
        return StoreUnavailable(
            f"the store has been out of reach for {self.seconds():.0f} s and this instance's share has run out "
            f"with its heartbeat timeout: {self.error}"
        )

    def _too_large(self, question: Acquire) -> Refused | None:
        """The refusal of what the whole limit would never allow."""
        own = self._own(question)
        for name in (f"{own.account}#{own.group}", own.account):
            for state in self._nodes[name].limits if name in self._nodes else ():
                needed = question.costs.of(state.kind)
                known = state.source in {Source.CONFIGURED, Source.TOLD} and state.kind is not Kind.CONCURRENCY
                if known and needed > state.burst:
                    at = Instant(self._clock(), time.time_ns() // 1000)
                    return Refused(at=at, reason="too_large", limit=state, needed=needed)
        return None

    def end(self, op: Settle | Cancel) -> Settled | Cancelled:
        """Decide how a permit ended that was granted here or under way before."""
        if isinstance(op, Cancel):
            return self._store.run(op)
        signals = msgspec.structs.replace(op.signals, told=())
        return self._store.run(msgspec.structs.replace(op, signals=signals))

    def wake(self, permits: Iterable[Permit]) -> None:
        """Have the waiters ask again, which will be elsewhere; they may come and go meanwhile."""
        now = self._clock()
        self.mailboxes.deliver([Wake(*permit, now) for permit in tuple(permits)])
