"""Shared: what all stores of a process on one address have in common.

1. Wakes reach a process once, however many stores it has: one set of mailboxes, one connection that listens.
2. A process receives the wakes of the incarnations that joined through it, or that ask through it: it begins to listen
   when they join, so that the first question need not wait for that. Those that an operation has for its own
   incarnation come with its result; the script publishes the others.
3. Each operation says with which nonce its incarnation joined. A server that has lost its last writes, and whose clock
   is behind, may give the same number twice; the nonce tells the two apart, and the older one finds itself fenced.
4. Whoever opens a store shares; the last who closes one ends it. A forked child starts without any.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Acquire, Claim, Fenced, GetTask, Join, Joined, Left, Result
from cross_instance.stores.mailboxes import Mailboxes
from cross_instance.stores.redis.address import parse
from cross_instance.stores.redis.scripts import Script, Scripts
from cross_instance.stores.redis.servers import Servers
from cross_instance.stores.redis.wakeups import Listener
from cross_instance.stores.redis.wire import NAMES, Names, bulk, decode, decode_wake, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import Operation

R = TypeVar("R", bound=Result)

WAITING = frozenset({Acquire, Claim, GetTask})
"""The operations that wait for a wake."""
FRESH = 10_000_000
"""µs for which the best estimate of the server's clock holds; clocks drift apart and may be set."""


class Call(NamedTuple):
    """What all calls for one kind of operation have in common: the script, and the command up to its two arguments."""

    script: Script
    begin: bytes


class Shared:
    """The state of one process at one address."""

    def __init__(self, url: str, scripts: Scripts | None = None) -> None:
        self.address = parse(url)
        self.servers = Servers(self.address)
        self.mailboxes = Mailboxes()
        self.patience = self.address.patience
        """Seconds for which an operation is repeated."""
        self.proven = False
        """Whether the server has answered, and is one for us."""
        self.teaching: set[str] = set()
        """The scripts (SHA-1) that are on their way to the server."""
        self.users = 0
        self.abandoned = False
        self._scripts = scripts or Scripts()
        self._names = Names(self.address.namespace)
        self.feed_key = self._names.feed
        """Where the instances of the namespace hear each other (`feed`)."""
        self._calls: dict[type[Operation[Any]], Call] = {}
        self._nonces: dict[int, str] = {}
        self._listened: set[int] = set()
        self._listener = Listener(self.servers, self._heard, self.mailboxes.rouse)
        self._offset = time.time_ns() // 1000 - _local()
        self._measured = -FRESH

    # --- operations ------------------------------------------------------------------------------------------

    def command(self, op: Operation[Any]) -> tuple[Script, bytes]:
        """An operation's script, and the command that has it decided. Raises `ValueError` for what cannot be stored."""
        kind = type(op)
        call = self._calls.get(kind)
        if call is None:
            call = self._calls[kind] = self._call_of(kind)
        nonce = self._nonces.get(getattr(op, "incarnation", 0), "")
        return call.script, b"%b%b%b" % (call.begin, bulk(encode(op)), bulk(nonce))

    def _call_of(self, kind: type[Operation[Any]]) -> Call:
        script, keys = self._scripts[NAMES[kind]], self._names.keys_of(kind)
        begin: tuple[str | int, ...] = ("EVALSHA", script.sha, len(keys), *keys)
        return Call(script, b"*%d\r\n%b" % (len(begin) + 2, b"".join(map(bulk, begin))))

    def received(self, op: Operation[R], reply: object, *, repeated: bool) -> R:
        """The result in a reply. Wakes for waiters of this process are delivered."""
        result: Any = decode(reply)
        self._set_clock(result.at.mono)
        own = getattr(op, "incarnation", 0)
        if result.wakes:
            self.mailboxes.deliver([wake for wake in result.wakes if wake.incarnation == own])
        if repeated:
            self.mailboxes.rouse()
        if isinstance(op, Join):
            if isinstance(result, Joined):
                self._nonces[result.incarnation] = op.nonce
                self._listener.begin(self._names.channel(result.incarnation))
        elif isinstance(result, Fenced) or (isinstance(result, Left) and not result.more):
            self._nonces.pop(own, None)
            self._listened.discard(own)
            self._listener.drop(self._names.channel(own))
        decided: R = result
        return decided

    def now(self) -> int:
        """The server's instant, as well as it is known here: the wall clock until it has answered."""
        return _local() + self._offset

    def _set_clock(self, mono: int) -> None:
        """The answer that travelled fastest tells the time best, as long as it is fresh."""
        local = _local()
        if mono - local > self._offset or local - self._measured > FRESH:
            self._offset, self._measured = mono - local, local

    # --- wakes -----------------------------------------------------------------------------------------------

    def unheard(self, op: Operation[Any]) -> int:
        """The incarnation to listen for before an operation is sent, where nobody has yet; else 0."""
        if type(op) not in WAITING:
            return 0
        incarnation: int = op.watcher[0] if isinstance(op, GetTask) and op.watcher else getattr(op, "incarnation", 0)
        if incarnation in self._listened:
            return 0
        if self._listener.is_heard(self._names.channel(incarnation)):
            self._listened.add(incarnation)
            return 0
        return incarnation

    def listen(self, incarnation: int) -> None:
        """Receive what is published for an incarnation; waits for the server, for a limited time and once."""
        if incarnation not in self._listened:
            self._listener.begin(self._names.channel(incarnation)).wait(self.address.timeout)
            self._listened.add(incarnation)

    def _heard(self, channel: bytes, data: bytes) -> None:
        wake = decode_wake(channel, data)
        if wake is not None:
            self.mailboxes.deliver((wake,))

    # --- the end ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises `StoreUnavailable` in a forked child, for stores of its parent."""
        if self.abandoned:
            raise StoreUnavailable("this store was opened before a fork; the child process opens its own")

    def close(self) -> None:
        """Stop listening, and end every wait."""
        self._listener.close()
        self.mailboxes.close()

    def abandon(self) -> None:
        """Leave everything to the parent, in a forked child."""
        self.abandoned = True
        self._listener.abandon()


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock of this machine that goes on while it sleeps, as the server's does (macOS's CLOCK_MONOTONIC does so)."""


def _local() -> int:
    return time.clock_gettime_ns(_CLOCK) // 1000


_guard = threading.RLock()
_shared: dict[str, Shared] = {}


def share(url: str, make: Callable[[str], Shared]) -> Shared:
    """What this process has at a URL; made where it has nothing yet. Raises `ConfigError`."""
    with _guard:
        shared = _shared.get(url)
        if shared is None:
            shared = _shared[url] = make(url)
        shared.users += 1
        return shared


def give_back(shared: Shared) -> None:
    """End one use."""
    with _guard:
        shared.users -= 1
        if shared.users or shared.abandoned:
            return
        for url, known in list(_shared.items()):
            if known is shared:
                del _shared[url]
    shared.close()


def _after_fork_in_child() -> None:
    global _guard  # a thread that does not exist in the child may have held it
    _guard = threading.RLock()
    for shared in _shared.values():
        shared.abandon()
    _shared.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
