"""Handles: a submitted task, as its submitter sees it. Nothing is kept here but its id: any process can make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.asking import patience_of
from cross_instance.tasks.flows import awaiting, cancelling, looking, result_of

if TYPE_CHECKING:
    from cross_instance.tasks.managing import AsyncTasks, Tasks
    from cross_instance.tasks.views import TaskStatus


class _Handle:
    """`task` is its id; `existed` says that a task with the same key was there before, and is the one."""

    __slots__ = ("_tasks", "existed", "task")

    def __init__(self, task: str, existed: bool) -> None:
        self.task = task
        self.existed = existed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task}>"


class TaskHandle(_Handle):
    """A submitted task."""

    __slots__ = ()

    def __init__(self, tasks: Tasks, task: str, *, existed: bool = False) -> None:
        super().__init__(task, existed)
        self._tasks = tasks

    def result(self, timeout: float | None = None) -> Any:
        """Wait until it is over, and give what it returned.

        Raises `TaskFailed` where it failed or its owners died too often, `TaskCancelled`, `TaskUnknown`;
        `TimeoutError` where it is not over after `timeout` seconds. Inside a task that is to end meanwhile:
        `TaskCancelled`.
        """
        return result_of(self.wait(timeout))

    def wait(self, timeout: float | None = None) -> TaskStatus:
        """Wait until it is over, however it ended. Raises `TimeoutError`, `TaskUnknown`."""
        tasks = self._tasks
        runtime = tasks.join()
        membership = runtime._membership
        return tasks.perform(awaiting(self.task, membership, patience_of(timeout), membership.store.now))

    def status(self) -> TaskStatus:
        """How it stands. Raises `TaskUnknown`."""
        return self._tasks.perform(looking(self.task))

    def cancel(self) -> TaskStatus:
        """Cancel it: at once where it is queued; one that runs is asked to end, and may still be done before.

        How it stands then; what is over stays. Raises `TaskUnknown`.
        """
        return self._tasks.perform(cancelling(self.task))


class AsyncTaskHandle(_Handle):
    """A submitted task, for asyncio; see `TaskHandle`."""

    __slots__ = ()

    def __init__(self, tasks: AsyncTasks, task: str, *, existed: bool = False) -> None:
        super().__init__(task, existed)
        self._tasks = tasks

    async def result(self, timeout: float | None = None) -> Any:
        """Wait until it is over, and give what it returned; raises as `TaskHandle.result` does."""
        return result_of(await self.wait(timeout))

    async def wait(self, timeout: float | None = None) -> TaskStatus:
        """Wait until it is over, however it ended. Raises `TimeoutError`, `TaskUnknown`."""
        tasks = self._tasks
        runtime = await tasks.join()
        flow = awaiting(self.task, runtime._membership, patience_of(timeout), runtime.store.now)
        return await tasks.perform(flow)

    async def status(self) -> TaskStatus:
        """How it stands. Raises `TaskUnknown`."""
        return await self._tasks.perform(looking(self.task))

    async def cancel(self) -> TaskStatus:
        """Cancel it; see `TaskHandle.cancel`."""
        return await self._tasks.perform(cancelling(self.task))
