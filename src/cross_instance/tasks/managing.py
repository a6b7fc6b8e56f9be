"""Managing tasks: those of everyone at the store, by id or by state. `runtime.tasks` is one of these.

Both classes only say who waits; what is done is in `flows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from cross_instance.errors import StoreUnavailable
from cross_instance.protocol import Wait, drive, drive_async
from cross_instance.rules.operations import TaskState
from cross_instance.tasks.context import wait_at_once
from cross_instance.tasks.flows import (
    cancelling,
    counting,
    listing,
    looking,
    purging,
    pushing,
    sending_back,
    setting,
)
from cross_instance.tasks.handles import AsyncTaskHandle, TaskHandle
from cross_instance.tasks.registry import micros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cross_instance.config import Settings
    from cross_instance.rules.operations import NewTask, Operation, TaskWorld
    from cross_instance.runtime import AsyncRuntime, Runtime
    from cross_instance.tasks.flows import Flow
    from cross_instance.tasks.views import TaskStatus

R = TypeVar("R")
MOST_FOUND = 100


class Tasks:
    """The tasks at a runtime's store. Every method raises `StoreUnavailable` where that cannot be used."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def handle(self, task: str) -> TaskHandle:
        """A task by its id, whoever submitted it."""
        return TaskHandle(self, task)

    def status(self, task: str) -> TaskStatus:
        """How a task stands. Raises `TaskUnknown`."""
        return self.perform(looking(task))

    def find(
        self,
        state: TaskState | str | None = None,
        *,
        queue: str | None = None,
        kind: str | None = None,
        most: int = MOST_FOUND,
    ) -> list[TaskStatus]:
        """The first `most` tasks of a state, queue and kind (None: of any), in the order of their submission; those
        that are not over come before the others. Running ones alone go by owner, and then by when it began them."""
        return self.perform(listing(_state(state), queue, kind, most))

    def cancel(self, task: str) -> TaskStatus:
        """Cancel a task; see `TaskHandle.cancel`. Raises `TaskUnknown`."""
        return self.perform(cancelling(task))

    def retry(self, task: str) -> TaskStatus:
        """Send a failed, dead or cancelled task back to its queue, with all its retries; any other stays as it is.

        How it stands then. Raises `TaskUnknown`.
        """
        return self.perform(sending_back(task))

    def purge(self, state: TaskState | str, *, older_than: float = 0.0) -> int:
        """Forget the tasks that are over in this way and ended `older_than` seconds ago or before; how many.

        Raises `ValueError` for a state in which tasks are not over.
        """
        return self.perform(purging(TaskState(state), micros("older_than", older_than)))

    def pause(self, queue: str) -> None:
        """Let nobody take tasks from a queue ("" is the common one), its owner included; what runs goes on."""
        self.perform(setting(queue, paused=True))

    def resume(self, queue: str) -> None:
        """Let a paused queue go on."""
        self.perform(setting(queue, paused=False))

    def summary(self) -> TaskWorld:
        """All queues with tasks or a pause, how long each kind takes, and who took from whom."""
        return self.perform(counting())

    def push(self, tasks: Iterable[NewTask]) -> list[TaskHandle]:
        """Submit tasks that are made already."""
        return [TaskHandle(self, task, existed=existed) for task, existed in self.perform(pushing(tasks))]

    def join(self) -> Runtime:
        """The runtime, joined. Raises `StoreUnavailable` where coordination is switched off."""
        if not self._runtime.join():
            raise switched_off(self._runtime.settings)
        return self._runtime

    def perform(self, flow: Flow[R]) -> R:
        """Perform a flow's steps."""
        self.join()
        return drive(flow, self._step)

    def _step(self, step: Operation[Any] | Wait) -> object:
        if isinstance(step, Wait):
            membership = self._runtime._membership
            return membership.store.wait(step.permit, wait_at_once(membership, step.seconds))
        return self._runtime.run(step)


class AsyncTasks:
    """The same for asyncio; see `Tasks`."""

    def __init__(self, runtime: AsyncRuntime) -> None:
        self._runtime = runtime

    def handle(self, task: str) -> AsyncTaskHandle:
        """A task by its id, whoever submitted it."""
        return AsyncTaskHandle(self, task)

    async def status(self, task: str) -> TaskStatus:
        """How a task stands. Raises `TaskUnknown`."""
        return await self.perform(looking(task))

    async def find(
        self,
        state: TaskState | str | None = None,
        *,
        queue: str | None = None,
        kind: str | None = None,
        most: int = MOST_FOUND,
    ) -> list[TaskStatus]:
        """See `Tasks.find`."""
        return await self.perform(listing(_state(state), queue, kind, most))

    async def cancel(self, task: str) -> TaskStatus:
        """Cancel a task; see `TaskHandle.cancel`. Raises `TaskUnknown`."""
        return await self.perform(cancelling(task))

    async def retry(self, task: str) -> TaskStatus:
        """Send a task that is over back to its queue; see `Tasks.retry`."""
        return await self.perform(sending_back(task))

    async def purge(self, state: TaskState | str, *, older_than: float = 0.0) -> int:
        """Forget tasks that are over; see `Tasks.purge`."""
        return await self.perform(purging(TaskState(state), micros("older_than", older_than)))

    async def pause(self, queue: str) -> None:
        """Let nobody take tasks from a queue; see `Tasks.pause`."""
        await self.perform(setting(queue, paused=True))

    async def resume(self, queue: str) -> None:
        """Let a paused queue go on."""
        await self.perform(setting(queue, paused=False))

    async def summary(self) -> TaskWorld:
        """All queues, kinds and thefts; see `Tasks.summary`."""
        return await self.perform(counting())

    async def push(self, tasks: Iterable[NewTask]) -> list[AsyncTaskHandle]:
        """Submit tasks that are made already."""
        return [AsyncTaskHandle(self, task, existed=existed) for task, existed in await self.perform(pushing(tasks))]

    async def join(self) -> AsyncRuntime:
        """The runtime, joined. Raises `StoreUnavailable` where coordination is switched off."""
        if not await self._runtime.join():
            raise switched_off(self._runtime.settings)
        return self._runtime

    async def perform(self, flow: Flow[R]) -> R:
        """Perform a flow's steps."""
        await self.join()
        return await drive_async(flow, self._step)

    async def _step(self, step: Operation[Any] | Wait) -> object:
        if isinstance(step, Wait):
            return await self._runtime.store.wait(step.permit, step.seconds)
        return await self._runtime.run(step)


def switched_off(settings: Settings) -> StoreUnavailable:
    """Tasks need a store; there is none where coordination is switched off."""
    return StoreUnavailable(f"tasks need coordination, which is switched off ({settings.origin_of('enabled')})")


def _state(state: TaskState | str | None) -> TaskState | None:
    return None if state is None else TaskState(state)
