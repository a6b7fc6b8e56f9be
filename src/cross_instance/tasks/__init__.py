"""Tasks: functions that are submitted to a durable queue, and run by whichever instance has time for them.

`Runtime.task`, `submit` and `work` are the way in (`methods`). A task's function finds itself with `current_task()`.
"""

from cross_instance.errors import PayloadError, TaskCancelled, TaskError, TaskFailed, TaskUnknown
from cross_instance.rules.operations import TaskState
from cross_instance.tasks.context import AbandonTask, RetryTask, RunningTask, current_task
from cross_instance.tasks.handles import AsyncTaskHandle, TaskHandle
from cross_instance.tasks.managing import AsyncTasks, Tasks
from cross_instance.tasks.views import PastAttempt, TaskStatus

__all__ = [
    "AbandonTask",
    "AsyncTaskHandle",
    "AsyncTasks",
    "PastAttempt",
    "PayloadError",
    "RetryTask",
    "RunningTask",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskHandle",
    "TaskState",
    "TaskStatus",
    "TaskUnknown",
    "Tasks",
    "current_task",
]
