"""Permits: the right to send one request, held from its grant until it is settled.

1. `acquire` waits for the grant; whatever interrupts it, the request is withdrawn from the store.
2. `sent` and `settle` only record (`permit_record`). `close` tells the store how the permit ended, once.
3. What the store cannot be told now, the heartbeat thread tells it later: closing never fails.
4. The fast path, a permit granted at once, is one store operation and no generator.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from cross_instance.permit_record import PermitRecord
from cross_instance.protocol import Rejoin, Step, Wait, drive, drive_async, negotiate
from cross_instance.rules.operations import Cancel, Granted, Settle
from cross_instance.tasks.context import wait_at_once

if TYPE_CHECKING:
    from types import TracebackType

    from cross_instance.protocol import Answer
    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.stores.base import AsyncStore


class Permit(PermitRecord):
    """The right to send one request. `with permit:` waits for the grant and gives it back."""

    __slots__ = ()

    runtime: Runtime

    def acquire(self) -> Self:
        """Wait for the grant.

        Raises `RateLimitExceeded`, `RequestTooLarge`, `StoreUnavailable`; `InstanceFenced` where this instance
        was removed and cannot join anew; `TaskCancelled` in a task that is to end.
        """
        membership = self.membership
        if self.runtime not in membership.users and not self.runtime.join():
            self._hold_uncoordinated()
            return self
        self._open()
        try:
            question = self._begin()
            answer = membership.store.run(question) if question.revision else None
            if type(answer) is not Granted:
                answer = self._negotiate(answer)
            self._hold(answer)
        except BaseException as error:
            try:
                self._tell(self._withdrawal(error))
            finally:
                self._forget_wakes(membership.store)
            if not self._is_let_through(error):
                raise
            self._hold_uncoordinated()
        return self

    def _negotiate(self, answer: Answer) -> Granted | None:
        store = self.membership.store
        granted = drive(negotiate(self, answer, store.now), self._perform)
        self._forget_wakes(store)
        return granted

    def _perform(self, step: Step) -> object:
        store = self.membership.store
        if isinstance(step, Wait):
            return store.wait(step.permit, wait_at_once(self.membership, step.seconds))
        if isinstance(step, Rejoin):
            self._forget_wakes(store)
            self.membership.rejoin(step.incarnation)
            return None
        result = store.run(step)
        self._heard(result)
        return result

    def close(self) -> None:
        """End the permit and tell the store; a second time does nothing. A store out of reach is told later."""
        self._tell(self._end(None))

    def _tell(self, op: Cancel | Settle | None) -> None:
        if op is None:
            return
        try:
            self._heard(self.membership.store.run(op))
        except BaseException as error:  # noqa: BLE001  # raised again where it is not the store's
            self._untold(op, error)

    __enter__ = acquire

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        self._tell(self._end(error))


class AsyncPermit(PermitRecord):
    """The right to send one request, for asyncio. `async with permit:` waits for the grant and gives it back."""

    __slots__ = ("_store",)

    runtime: AsyncRuntime
    _store: AsyncStore

    async def acquire(self) -> Self:
        """Wait for the grant; see `Permit.acquire`. A cancelled wait leaves nothing behind."""
        runtime = self.runtime
        if runtime not in self.membership.users and not await runtime.join():
            self._hold_uncoordinated()
            return self
        self._store = runtime.store
        self._open()
        try:
            question = self._begin()
            answer = await self._store.run(question) if question.revision else None
            if type(answer) is not Granted:
                answer = await self._negotiate(answer)
            self._hold(answer)
        except BaseException as error:
            try:
                await self._tell(self._withdrawal(error))
            finally:
                self._forget_wakes(self._store)
            if not self._is_let_through(error):
                raise
            self._hold_uncoordinated()
        return self

    async def _negotiate(self, answer: Answer) -> Granted | None:
        granted = await drive_async(negotiate(self, answer, self._store.now), self._perform)
        self._forget_wakes(self._store)
        return granted

    async def _perform(self, step: Step) -> object:
        if isinstance(step, Wait):
            return await self._store.wait(step.permit, step.seconds)
        if isinstance(step, Rejoin):
            self._forget_wakes(self._store)
            return await asyncio.to_thread(self.membership.rejoin, step.incarnation)
        result = await self._store.run(step)
        self._heard(result)
        return result

    async def close(self) -> None:
        """End the permit and tell the store; a second time does nothing. A store out of reach is told later."""
        await self._tell(self._end(None))

    async def _tell(self, op: Cancel | Settle | None) -> None:
        if op is None:
            return
        try:
            self._heard(await self._store.run(op))
        except BaseException as error:  # noqa: BLE001  # raised again where it is not the store's
            self._untold(op, error)

    __aenter__ = acquire

    async def __aexit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        await self._tell(self._end(error))
