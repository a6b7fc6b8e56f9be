"""What a store is: five methods. Everything else in the runtime is built on `run`.

1. `run(op)` decides one operation atomically and durably as far as the operation asks, then delivers its wakes.
2. `wait(permit, timeout)` returns when a wake for that waiter has arrived, or at the timeout. Wakes are hints: they
   may be lost or come twice, and one that arrives before `wait` is called is not lost. A permit has one waiter at a
   time; of several wakes that nobody has waited for, the one with the earliest instant may stand for all.
   `forget(permit)` ends it: what is kept for a waiter that no longer waits is dropped.
3. `now()` tells the store's instant as well as it is known here; timers are armed by it, nothing is decided by it.
4. `close()` may be called twice; afterwards every call raises `StoreUnavailable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.rules.operations import Operation, Result, Wake

    R = TypeVar("R", bound=Result)

Permit = tuple[int, int]
"""A permit's or waiter's name: (incarnation, seq)."""


class Told(NamedTuple):
    """What was read of a feed: the place to go on from, and the entries: who told (`origin`), and the lines."""

    place: str
    entries: list[tuple[str, list[bytes]]]


class Feed(Protocol):
    """Where the instances of a store that several machines share hear each other; such a store gives it as `feed`.

    It is bounded, and what stands in it expires. Its methods may be called from any thread.
    """

    def add(self, origin: str, lines: Sequence[str]) -> None:
        """Add lines that an instance of the machine `origin` tells. Raises `StoreUnavailable`."""

    def read(self, after: str) -> Told:
        """Some of what stands in it after a place, in its order. Raises `StoreUnavailable`."""

    def beginning(self) -> str:
        """The place before all that stands in it."""

    def now(self) -> str:
        """The place before all that is added from now on, as well as it is known here."""


class Store(Protocol):
    """A synchronous store; every method may be called from any thread."""

    def run(self, op: Operation[R], /) -> R:
        """Decide one operation.

        Raises `StoreUnavailable` where the store cannot be reached; the operation may or may not have happened, and
        sending it again is safe. Raises `ValueError` where the operation's figures cannot be stored; nothing happened.
        """

    def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds."""

    def forget(self, permit: Permit, /) -> None:
        """Drop what is kept for a waiter that no longer waits."""

    def now(self) -> int:
        """The store's instant (mono µs) as well as it is known here; for arming timers, never for decisions."""

    def close(self) -> None:
        """Let go of every resource."""


class AsyncStore(Protocol):
    """The same for asyncio; no call blocks the event loop for longer than one store operation."""

    async def run(self, op: Operation[R], /) -> R:
        """Decide one operation; see `Store.run`."""

    async def wait(self, permit: Permit, timeout: float, /) -> Wake | None:
        """The next wake for a waiter, or None after `timeout` seconds; safe to cancel."""

    def forget(self, permit: Permit, /) -> None:
        """Drop what is kept for a waiter that no longer waits."""

    def now(self) -> int:
        """See `Store.now`."""

    async def close(self) -> None:
        """Let go of every resource."""
