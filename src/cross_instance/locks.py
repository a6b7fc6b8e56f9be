"""Named locks for applications: one holder across all processes, a time to live, and a fence.

    with runtime.lock("deploy", ttl=30) as lock:
        database.write(..., fence=lock.fence)

1. A lock is its holder's until it is given back, its time is over, or its instance is gone. Then it goes to one
   contender.
2. Each holder's fence is larger than any before: whatever the lock protects can refuse a holder whose time is over
   and who does not know it (a stopped process, a sleeping machine).
3. Who waits asks again when the holder's time is over, and now and then before that; there is no queue.
4. The flow is one generator with two drivers, as in `protocol`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from cross_instance.errors import CrossInstanceError, StoreUnavailable
from cross_instance.events import LOCK_LOST
from cross_instance.protocol import Rejoin, Rejoins
from cross_instance.rules.operations import FOREVER, SECOND, Fenced, Lock as LockOp, Unlock
from cross_instance.rules.tables import MAX_NAME
from cross_instance.tasks.context import wait_at_once
from cross_instance.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import Locked
    from cross_instance.runtime import AsyncRuntime, Runtime

log = logging.getLogger("cross_instance")

TTL = 30.0
"""Seconds for which a lock is held where nothing else is said."""
ASK_EVERY = 0.25
"""Seconds between questions of one who waits, at most."""
_HASHED = "sha256:"


class Pause(NamedTuple):
    """Wait a while before asking again."""

    seconds: float


def resource_name(resource: str) -> str:
    """The name by which the store knows a resource: any text is accepted; what no key can hold is hashed."""
    encoded = resource.encode(errors="surrogatepass")
    plain = 0 < len(encoded) <= MAX_NAME and b"\0" not in encoded and not resource.startswith(_HASHED)
    try:
        resource.encode()
    except UnicodeEncodeError:
        plain = False
    return resource if plain else _HASHED + hashlib.sha256(encoded).hexdigest()


def ttl_in_us(seconds: float) -> int:
    """A time to live as operations have it. Raises `ValueError` where it is not a positive number of seconds."""
    if not 0 < seconds < FOREVER / SECOND / 2:
        raise ValueError(f"a lock's time to live is a positive number of seconds, not {seconds}")
    return max(1, round(seconds * SECOND))


class _Lock:
    """What both kinds have in common. `fence` is 0 while the lock has not been taken."""

    def __init__(self, membership: Membership, resource: str, ttl: float, timeout: float | None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout is a number of seconds, 0 or more, or None; not {timeout}")
        self.resource = resource
        self.ttl = ttl
        self.fence = 0
        self._membership = membership
        self._ttl = ttl_in_us(ttl)
        self._timeout = math.inf if timeout is None else timeout
        self._name = resource_name(resource)
        self._token = ""

    def __repr__(self) -> str:
        return f"<lock {self.resource!r} {f'with fence {self.fence}' if self.fence else 'not held'}>"

    @staticmethod
    def _needs(joined: bool) -> None:
        if not joined:
            raise StoreUnavailable("coordination is switched off (`enabled`): there are no locks across processes")

    def _taking(self) -> Generator[LockOp | Rejoin | Pause, Any, None]:
        """Ask until it is ours. Raises `TimeoutError`, `InstanceFenced`."""
        if self.fence:
            raise RuntimeError(f"{self!r} has been taken already")
        deadline = time.monotonic() + self._timeout
        self._token = uuid.uuid4().hex
        rejoins = Rejoins(self._membership)
        while True:
            incarnation = self._membership.incarnation
            answer: Locked | Fenced = yield LockOp(incarnation, self._name, self._token, self._ttl)
            if isinstance(answer, Fenced):
                rejoins.count()
                yield Rejoin(incarnation)
            elif answer.mine:
                self.fence = answer.lock.fence
                self._membership.switch.keepers.add(self)
                return
            else:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"the lock {self.resource!r} is held by another (fence {answer.lock.fence})")
                until_free = (answer.lock.expires_at - answer.at.mono) / SECOND
                yield Pause(min(left, until_free, ASK_EVERY * random.uniform(0.5, 1.0)))

    def _renewal(self) -> LockOp | None:
        return LockOp(self._membership.incarnation, self._name, self._token, self._ttl) if self.fence else None

    def _renewed(self, answer: Locked | Fenced) -> bool:
        """Whether it is still the same holding: another fence means that it was lost in between, and is given back."""
        kept = not isinstance(answer, Fenced) and answer.mine and answer.lock.fence == self.fence
        if not kept:
            self._forget()
            self._withdraw()
            self._tell_lost("renewed")
        return kept

    def _withdraw(self) -> None:
        """Have the heartbeat thread give back what the store may have given while nobody listened."""
        if not self.fence:
            self._membership.later(Unlock(self._name, self._token))

    def _giving_back(self) -> Unlock | None:
        held = self._forget()
        return Unlock(self._name, self._token) if held else None

    def _forget(self) -> int:
        """Hold it no more; its fence."""
        fence, self.fence = self.fence, 0
        self._membership.switch.keepers.discard(self)
        return fence

    def _gave_back(self, known: bool) -> bool:
        if not known:
            self._tell_lost("given back")
        return known

    def _tell_lost(self, before: str) -> None:
        text = f"the lock {self.resource!r} was lost before it was {before}: its time was over"
        self._membership.events.tell(LOCK_LOST, text, resource=self.resource)

    def _not_told(self, error: BaseException) -> bool:
        """The store did not answer, or the call was interrupted: it is told later."""
        self._withdraw()
        if not isinstance(error, CrossInstanceError):
            raise error
        log.warning("the lock %r is given back later, at the end of its time at the latest: %s", self.resource, error)
        return False


class Lock(_Lock):
    """A named lock, not yet taken; made by `Runtime.lock`. It can be used again when it was given back."""

    def __init__(self, runtime: Runtime, membership: Membership, resource: str, ttl: float, timeout: float | None):
        super().__init__(membership, resource, ttl, timeout)
        self._runtime = runtime

    def acquire(self) -> Self:
        """Take it. Raises `TimeoutError` where another holds it for longer than `timeout`; inside a task that is to end
        meanwhile, `TaskCancelled`."""
        self._needs(self._runtime.join())
        steps, answer = self._taking(), None
        try:
            while True:
                answer = self._perform(steps.send(answer))
        except StopIteration:
            return self
        except BaseException:
            self._withdraw()
            raise

    def _perform(self, step: LockOp | Rejoin | Pause) -> Any:
        if isinstance(step, Pause):
            time.sleep(wait_at_once(self._membership, step.seconds))
        elif isinstance(step, Rejoin):
            self._membership.rejoin(step.incarnation)
        else:
            return self._runtime.run(step)
        return None

    def renew(self) -> bool:
        """Hold it for `ttl` from now on. False: it was lost, and another may have had it."""
        renewal = self._renewal()
        return renewal is not None and self._renewed(self._runtime.run(renewal))

    def release(self) -> bool:
        """Give it back. False: it was lost before; that is also logged."""
        op = self._giving_back()
        try:
            return op is None or self._gave_back(self._runtime.run(op).known)
        except BaseException as error:  # noqa: BLE001  # raised again where it is not the store's
            return self._not_told(error)

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, _: object, __: object, ___: TracebackType | None) -> None:
        self.release()


class AsyncLock(_Lock):
    """The same for asyncio; made by `AsyncRuntime.lock`."""

    def __init__(self, runtime: AsyncRuntime, membership: Membership, resource: str, ttl: float, timeout: float | None):
        super().__init__(membership, resource, ttl, timeout)
        self._runtime = runtime

    async def acquire(self) -> Self:
        """Take it; a cancelled wait holds nothing. Raises as `Lock.acquire` does."""
        self._needs(await self._runtime.join())
        steps, answer = self._taking(), None
        try:
            while True:
                answer = await self._perform(steps.send(answer))
        except StopIteration:
            return self
        except BaseException:
            self._withdraw()
            raise

    async def _perform(self, step: LockOp | Rejoin | Pause) -> Any:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Rejoin):
            await in_thread(self._membership.rejoin, step.incarnation)
        else:
            return await self._runtime.run(step)
        return None

    async def renew(self) -> bool:
        """See `Lock.renew`."""
        renewal = self._renewal()
        return renewal is not None and self._renewed(await self._runtime.run(renewal))

    async def release(self) -> bool:
        """See `Lock.release`."""
        op = self._giving_back()
        try:
            return op is None or self._gave_back((await self._runtime.run(op)).known)
        except BaseException as error:  # noqa: BLE001  # raised again where it is not the store's
            return self._not_told(error)

    async def __aenter__(self) -> Self:
        return await self.acquire()

    async def __aexit__(self, _: object, __: object, ___: TracebackType | None) -> None:
        await self.release()


class Locking:
    """What a `Runtime` has of locks."""

    _membership: Membership

    def lock(self, resource: str, *, ttl: float = TTL, timeout: float | None = None) -> Lock:
        """A named lock, to be entered: `with runtime.lock("deploy", ttl=30) as lock`, then use `lock.fence`.

        `resource`: any text. `ttl`: seconds until it is free also where it was not given back. `timeout`: seconds to
        wait for it (None: as long as it takes; 0: not at all), then `TimeoutError`. Raises `ValueError` for figures
        that make no sense.
        """
        return Lock(cast("Runtime", self), self._membership, resource, ttl, timeout)


class AsyncLocking:
    """What an `AsyncRuntime` has of locks."""

    _membership: Membership

    def lock(self, resource: str, *, ttl: float = TTL, timeout: float | None = None) -> AsyncLock:
        """A named lock, to be entered with `async with`; see `Runtime.lock`."""
        return AsyncLock(cast("AsyncRuntime", self), self._membership, resource, ttl, timeout)
