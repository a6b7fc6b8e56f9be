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

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from cross_instance.rules.operations import Operation, Result, Wake

    R = TypeVar("R", bound=Result)

Permit = tuple[int, int]
"""A permit's or waiter's name: (incarnation, seq)."""


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
