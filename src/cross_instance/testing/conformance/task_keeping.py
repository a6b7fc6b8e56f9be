"""What is kept of tasks, and for how long; what is shown, and what is too large."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from cross_instance.rules.operations import (
    SECOND,
    CancelTask,
    Claim,
    Finish,
    GetTask,
    HeldTask,
    ListTasks,
    NewTask,
    Purge,
    Push,
    Renew,
    Requeue,
    Sweep,
    TaskEnd,
    TaskOutcome,
    TaskState,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import Scene, require
from cross_instance.testing.conformance.workers import Worker, cancel, look, push, queues, state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cross_instance.rules.operations import TaskInfo


@law(Need.CLOCK)
def what_is_over_is_kept_for_a_while(scene: Scene) -> None:
    """A task, its result and its key are forgotten after its retention; a dead letter stays."""
    worker = Worker(scene, "a")
    push(scene, "t", key="key", retention=10 * SECOND, max_deaths=1)
    push(scene, "dies", retention=10 * SECOND, max_deaths=1)
    worker.take()
    worker.end("t")
    worker.take()
    scene.run(Sweep(dead=(worker.incarnation,)))
    scene.pass_time(10 * SECOND - 1)
    require(push(scene, "again", key="key").known == ("t",), "it is kept, and so is its key")
    scene.pass_time(1)
    require(push(scene, "again", key="key").known == (), "now it is forgotten")
    require(scene.run(GetTask("t")).info is None, "with all that was known of it")
    require(look(scene, "dies").state is TaskState.DEAD, "a dead letter waits for somebody")


@law(Need.CLOCK)
def who_was_ready_first_is_served_first(scene: Scene) -> None:
    """What became due unnoticed comes before what is sent back, or tried again, after that."""
    worker = Worker(scene, "a")
    push(scene, "fails", "stumbles", retries=1, backoff=0)
    worker.take(most=2)
    worker.end("fails", TaskOutcome.FAILED)
    push(scene, "first", delay=SECOND)
    push(scene, "second", delay=2 * SECOND)
    scene.pass_time(SECOND)
    worker.end("stumbles", TaskOutcome.RETRY)
    scene.pass_time(SECOND)
    scene.run(Requeue("fails"))
    served = worker.take(most=9)
    require(served == ["first", "stumbles", "second", "fails"], f"in the order of becoming ready, not {served}")


@law(Need.CLOCK)
def a_key_is_free_once_its_retention_is_over(scene: Scene) -> None:
    """However many others wait to be forgotten before its task."""
    worker = Worker(scene, "a")
    names = [f"t{number}" for number in range(5)]
    push(scene, *names, retention=10 * SECOND)
    push(scene, "keyed", key="key", retention=10 * SECOND)
    worker.take(6)
    for name in (*names, "keyed"):
        worker.end(name)
    scene.pass_time(10 * SECOND)
    again = push(scene, "again", key="key")
    require((again.tasks, again.known) == (("again",), ()), "it is a task of its own")
    require(scene.run(GetTask("keyed")).info is None, "the one before is forgotten")
    require(state(scene, "again") is TaskState.QUEUED, "and the new one waits for its turn")
    require(push(scene, "more", key="key").known == ("again",), "whose key it is now")


@law()
def tasks_are_purged(scene: Scene) -> None:
    """What is over can be forgotten by name or by state, page by page; what is not, cannot."""
    worker = Worker(scene, "a")
    push(scene, *(f"t{number}" for number in range(7)))
    for name in worker.take(5):
        worker.end(name, TaskOutcome.FAILED if name == "t1" else TaskOutcome.DONE)
    worker.take()
    require(scene.run(Purge(("t0", "t5", "t6", "none"))).tasks == ("t0",), "only what is over")
    now = scene.run(GetTask("t1")).at.wall
    require(scene.run(Purge(state=TaskState.DONE, before=1)).tasks == (), "only what is old enough")
    first = scene.run(Purge(state=TaskState.DONE, before=now + SECOND, most=2))
    rest = scene.run(Purge(state=TaskState.DONE, before=now + SECOND, most=2, after=first.after))
    require((first.tasks, rest.tasks, rest.after) == (("t2", "t3"), ("t4",), ""), f"by pages: {first}, {rest}")
    require(scene.refuses(Purge(state=TaskState.QUEUED)), "what is queued is cancelled first")
    require(dict(queues(scene).states)[TaskState.FAILED] == 1, "the others stay")


@law()
def what_is_over_can_be_sent_back(scene: Scene) -> None:
    """A failed or cancelled task runs again with all its retries, behind the others; one that is done does not."""
    worker = Worker(scene, "a")
    push(scene, "fails", "cancelled", "done", retries=0)
    cancel(scene, "cancelled")
    worker.take(2)
    worker.end("fails", TaskOutcome.RETRY, result=b"half")
    worker.end("done")
    push(scene, "next")
    states = [scene.run(Requeue(name)).info for name in ("fails", "cancelled", "done", "none")]
    shown = [None if info is None else info.state for info in states]
    require(shown == [TaskState.QUEUED, TaskState.QUEUED, TaskState.DONE, None], f"what they are now: {shown}")
    require(worker.take(9) == ["next", "fails", "cancelled"], "they run again")
    require(look(scene, "fails").result == b"", "without what was left of the first time")


@law()
def tasks_are_listed(scene: Scene) -> None:
    """Lists go page by page, by state, queue and kind, in the order of submission."""
    worker = Worker(scene, "a")
    push(scene, "t0", "t1", "t2", "t3", kind="k", queue="a")
    push(scene, "t4", kind="other")
    worker.take(2)
    worker.end("t0")
    listed = {
        "": _listed(scene),
        "queued": _listed(scene, state=TaskState.QUEUED),
        "running": _listed(scene, state=TaskState.RUNNING),
        "done": _listed(scene, state=TaskState.DONE),
        "queue a": _listed(scene, queue="a"),
        "other": _listed(scene, kind="other"),
    }
    require(
        listed
        == {
            "": ["t1", "t2", "t3", "t4", "t0"],
            "queued": ["t2", "t3", "t4"],
            "running": ["t1"],
            "done": ["t0"],
            "queue a": ["t1", "t2", "t3", "t0"],
            "other": ["t4"],
        },
        f"each as asked for: {listed}",
    )


def _listed(scene: Scene, **asked: Any) -> list[str]:
    return [info.spec.task for info in islice(_pages(scene, **asked), 100)]


def _pages(scene: Scene, **asked: Any) -> Iterator[TaskInfo]:
    page = scene.run(ListTasks(most=2, **asked))
    yield from page.tasks
    while page.after:
        page = scene.run(ListTasks(most=2, after=page.after, **asked))
        yield from page.tasks


@law()
def the_longest_names_fit(scene: Scene) -> None:
    """A task with the longest queue, account and tags goes its way like any other."""
    thief = Worker(scene, "b")
    tags, task = ("x" * 96,), "t" * 200
    push(scene, task, kind="k" * 200, queue="q" * 200, account="y" * 200, tags=tags, key="z" * 200)
    require(thief.take(steal=True, tags=tags) == [task], "it is stolen")
    require(thief.end(task, TaskOutcome.RETRY, retry_after=0).state is TaskState.QUEUED, "it is tried again")
    require(thief.take(steal=True, tags=tags) == [task], "and once more")
    require(thief.end(task).state is TaskState.DONE, "it is over")


@law()
def the_last_attempts_are_kept(scene: Scene) -> None:
    """Of many attempts the last ten are remembered."""
    worker = Worker(scene, "a")
    push(scene, "t", retries=20, backoff=0)
    for number in range(12):
        worker.take()
        worker.end("t", TaskOutcome.RETRY, error=str(number))
    errors = [attempt.error for attempt in look(scene, "t").attempts]
    require(errors == [str(number) for number in range(2, 12)], f"the last ten: {errors}")
    require(look(scene, "t").failures == 12, "all are counted")


@law()
def figures_of_tasks_are_checked(scene: Scene) -> None:
    """What is too large or makes no sense is refused as a whole, and nothing of it is kept."""
    worker = Worker(scene, "a")
    me = worker.incarnation
    good = NewTask("good", "kind")
    bad: list[dict[str, Any]] = [
        {"task": ""},
        {"task": "x" * 201},
        {"kind": "a\0b"},
        {"payload": bytes((1 << 20) + 1)},
        {"queue": "x" * 201},
        {"tags": ("a,b",)},
        {"tags": tuple("x" * 50 + str(number) for number in range(9))},
        {"queue": "a", "tags": ("x" * 97,), "account": "y" * 200},
        {"retries": -1},
        {"max_deaths": 0},
        {"delay": -1},
        {"run_at": 1 << 53},
        {"timeout": 0},
        {"backoff": 1 << 40},
        {"retention": 1 << 52},
    ]
    for fields in bad:
        task = NewTask(**{"task": "bad", "kind": "kind", **fields})
        require(scene.refuses(Push((good, task))), f"{list(fields)} is refused")
    big = bytes(1 << 20)
    require(scene.refuses(Push(tuple(NewTask(f"t{n}", "k", big) for n in range(9)))), "too much together")
    require(scene.refuses(Push(tuple(NewTask(f"t{n}", "k") for n in range(1_001)))), "too many")
    require(scene.refuses(Push(())), "nothing")
    require(scene.run(GetTask("good")).info is None, "nothing of it was kept")
    for op in (
        Claim(me, 0),
        Claim(me, 1, most=-1),
        Claim(me, 1, most=101),
        Renew(me, (HeldTask("t", 1, bytes(4_097)),)),
        Finish(me, (TaskEnd("t", 1, TaskOutcome.DIED),)),
        Finish(me, (TaskEnd("t", 1, result=bytes((1 << 20) + 1)),)),
        Finish(me, (TaskEnd("t", 1, error="x" * 16_385),)),
        ListTasks(most=0),
        ListTasks(after="no cursor"),
        CancelTask(""),
        GetTask("x" * 201),
    ):
        require(scene.refuses(op), f"{op} is refused")
