"""Laws 9 and 10: the durable task queue. One owner per epoch, nothing lost, and everything in its turn."""

from __future__ import annotations

import msgspec

from cross_instance.rules.operations import (
    DAY,
    SECOND,
    Acquire,
    Fenced,
    Finish,
    GetTask,
    Granted,
    HeldTask,
    NewTask,
    Priority,
    Push,
    Refused,
    Renew,
    Renewed,
    Requeue,
    SetQueue,
    Sweep,
    TaskEnd,
    TaskOutcome,
    TaskState,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Scene, require, slots
from cross_instance.testing.conformance.workers import Worker, cancel, look, push, queues, state

QUEUED, RUNNING, DONE = TaskState.QUEUED, TaskState.RUNNING, TaskState.DONE


@law()
def a_task_goes_to_one_owner(scene: Scene) -> None:
    """A submitted task is given to one instance, whole, and is over when that one says so."""
    one, other = Worker(scene, "a"), Worker(scene, "b")
    push(scene, "t", payload=b"\0load", provider="acme", model="big", timeout=SECOND)
    require(state(scene, "t") is QUEUED, "it waits")
    (task,) = one.claim().tasks
    require((task.spec.payload, task.spec.timeout, task.attempt) == (b"\0load", SECOND, 1), f"it is whole: {task}")
    require(not other.take(), "nobody else is given it")
    shown = look(scene, "t")
    require((shown.state, shown.owner, shown.epoch) == (RUNNING, "a", task.epoch), f"who runs it is shown: {shown}")
    require(one.end("t", result=b"result").state is DONE, "it is over")
    shown = look(scene, "t")
    require((shown.result, shown.spec.payload) == (b"result", b"\0load"), "the result is kept")
    require([attempt.outcome for attempt in shown.attempts] == [TaskOutcome.DONE], "and how it came about")


@law()
def everyone_serves_its_own_queue_and_the_common_one(scene: Scene) -> None:
    """A task is meant for one instance or for whoever comes; its own instance need not be there yet."""
    one = Worker(scene, "a")
    push(scene, "for b", queue="b")
    push(scene, "for anyone")
    push(scene, "for a", queue="a")
    require(one.take(9) == ["for anyone", "for a"], "its own and the common ones, in one order")
    require(Worker(scene, "b").take(9) == ["for b"], "what waited for the other")


@law()
def tasks_go_by_class_then_by_age(scene: Scene) -> None:
    """Strict classes; within one, first ready, first served, whatever tags they ask for."""
    worker = Worker(scene, "a")
    for number, priority in enumerate((Priority.LOW, Priority.NORMAL, Priority.CRITICAL, Priority.NORMAL)):
        push(scene, f"t{number}", queue="a", priority=priority, tags=("gpu",) if number == 1 else ())
    require(worker.take(9, tags=("gpu", "large")) == ["t2", "t1", "t3", "t0"], "in the order of their turn")


@law()
def tags_are_asked_for(scene: Scene) -> None:
    """A task goes only to who is able to do all that it asks for."""
    worker = Worker(scene, "a")
    push(scene, "t", tags=("gpu", "large"))
    require(not worker.take() and not worker.take(tags=("gpu",)), "not to who lacks a tag")
    require(worker.take(tags=("large", "other", "gpu")) == ["t"], "but to who has them all")


@law(Need.CLOCK)
def a_task_waits_for_its_time(scene: Scene) -> None:
    """A delayed task is not given away before its time, is announced, and stands behind what was ready before."""
    worker = Worker(scene, "a")
    push(scene, "later", delay=10 * SECOND)
    push(scene, "at noon", run_at=scene.run(GetTask("later")).at.wall + 5 * SECOND)
    answer = worker.claim(9)
    require(not answer.tasks and answer.check_at == answer.at.mono + 5 * SECOND, f"the next is told: {answer}")
    require(queues(scene).delayed == 2, "both are shown")
    scene.pass_time(4_999_999)
    push(scene, "now")
    scene.pass_time(1)
    require(worker.take(9) == ["now", "at noon"], "by when they became ready")
    scene.pass_time(5 * SECOND)
    require(worker.take(9) == ["later"], "and the last one")


@law(Need.CLOCK)
def a_running_task_stays_with_the_living(scene: Scene) -> None:
    """However long it runs, a task is taken back only when its owner's incarnation is gone."""
    owner, other = Worker(scene, "a"), Worker(scene, "b")
    push(scene, "t")
    owner.take()
    for _ in range(50):
        scene.pass_time(30 * SECOND)
        owner.beat()
        other.beat()
        scene.run(Sweep())
    require(not other.take(steal=True), "its owner lives")
    scene.pass_time(60 * SECOND)
    other.beat()
    scene.run(Sweep())
    require(other.take() == ["t"], "silent beyond its timeout, it is gone")


@law()
def a_stale_owner_is_refused(scene: Scene) -> None:
    """Who lost a task cannot end it, renew it, or buy a permit for it; its next owner can."""
    zombie = Worker(scene, "a")
    push(scene, "t")
    (task,) = zombie.claim().tasks
    require(isinstance(_buy(scene, zombie, task.epoch), Granted), "its owner buys permits for it")
    scene.run(Sweep(dead=(zombie.incarnation,)))
    stale = TaskEnd("t", task.epoch, result=b"stale")
    require(isinstance(scene.run(Finish(zombie.incarnation, (stale,))), Fenced), "the fenced one ends nothing")
    again = Worker(scene, "a")
    (anew,) = again.claim().tasks
    require((anew.spec.task, anew.attempt, anew.epoch > task.epoch) == ("t", 2, True), f"a later epoch: {anew}")
    require(not again.try_to_end(stale).known, "the old epoch ends nothing, whoever says it")
    answer = _buy(scene, again, task.epoch)
    require(isinstance(answer, Refused) and answer.reason == "stale_task", f"nor buys anything: {answer}")
    require(isinstance(_buy(scene, again, anew.epoch), Granted), "the new one does")
    renewed = scene.run(Renew(again.incarnation, (HeldTask("t", task.epoch), HeldTask("t", anew.epoch))))
    require(isinstance(renewed, Renewed) and renewed.lost == ("t",), f"and the old one is told: {renewed}")
    require(state(scene, "t") is RUNNING, "nothing was ended")


def _buy(scene: Scene, worker: Worker, epoch: int) -> object:
    revision = worker.publish(slots(9)).revision
    return scene.run(Acquire(worker.incarnation, epoch, ACCOUNT, revision=revision, task="t", task_epoch=epoch))


@law()
def the_dead_return_their_tasks(scene: Scene) -> None:
    """What the dead ran stands where it stood before, and goes first; so does what the leaving gave back."""
    dead, leaving, heir = Worker(scene, "a"), Worker(scene, "b"), Worker(scene, "c")
    push(scene, "t1", "t2", "t3")
    dead.take()
    leaving.take()
    leaving.leave()
    scene.run(Sweep(dead=(dead.incarnation,)))
    require(heir.take(9) == ["t1", "t2", "t3"], "all of them, in their old order")
    deaths = [look(scene, name).deaths for name in ("t1", "t2")]
    require(deaths == [1, 0], f"only a death counts: {deaths}")


@law()
def who_kills_its_owners_is_set_aside(scene: Scene) -> None:
    """After so many owners died with it a task is dead, until it is sent back."""
    push(scene, "t", max_deaths=2, retries=0)
    for attempt in (1, 2):
        worker = Worker(scene, "a")
        require([task.attempt for task in worker.claim().tasks] == [attempt], "it is tried again")
        scene.run(Sweep(dead=(worker.incarnation,)))
    shown = look(scene, "t")
    require(shown.state is TaskState.DEAD and shown.deaths == 2, f"it is a dead letter: {shown}")
    require([attempt.outcome for attempt in shown.attempts] == [TaskOutcome.DIED] * 2, "how it died is kept")
    worker = Worker(scene, "a")
    require(not worker.take(), "nobody is given it")
    sent = scene.run(Requeue("t")).info
    require(sent is not None and (sent.state, sent.deaths) == (QUEUED, 0), f"it is sent back: {sent}")
    require(worker.take() == ["t"], "and runs again")


@law(Need.CLOCK)
def failures_are_tried_again(scene: Scene) -> None:
    """A failed attempt is tried again after a backoff that doubles; after the last retry the task has failed."""
    worker = Worker(scene, "a")
    push(scene, "t", retries=2, backoff=10 * SECOND, max_backoff=15 * SECOND)
    for draw, wait in ((0, 5 * SECOND), ((1 << 32) - 1, 15 * SECOND)):
        worker.take()
        at = scene.run(GetTask("t")).at.wall
        ended = worker.end("t", TaskOutcome.RETRY, error=f"no {wait}", draw=draw)
        require(ended.state is QUEUED and wait - SECOND < ended.run_at - at <= wait, f"it waits {wait}: {ended}")
        scene.pass_time(ended.run_at - at - 1)
        require(not worker.take(), "not before its time")
        scene.pass_time(1)
    worker.take()
    ended = worker.end("t", TaskOutcome.RETRY, error="no more")
    require(ended.state is TaskState.FAILED, f"it has failed: {ended}")
    errors = [attempt.error for attempt in look(scene, "t").attempts]
    require(errors == [f"no {5 * SECOND}", f"no {15 * SECOND}", "no more"], f"every error is kept: {errors}")


@law()
def an_owner_says_when_and_whether(scene: Scene) -> None:
    """An attempt may be given back without a trace, put off at will, or be the last one."""
    worker = Worker(scene, "a")
    push(scene, "t1", "t2", retries=1)
    worker.take(2)
    require(worker.end("t1", TaskOutcome.RELEASED).state is QUEUED, "it is given back")
    require([task.attempt for task in worker.claim().tasks] == [1], "and no attempt was made")
    require(worker.end("t1", TaskOutcome.RETRY, retry_after=0).state is QUEUED, "at once")
    require(worker.take(9) == ["t1"], "it stands at the end")
    ended = worker.end("t2", TaskOutcome.FAILED, error="never", result=b"partial")
    require(ended.state is TaskState.FAILED and look(scene, "t2").result == b"partial", "for good")


@law()
def cancelling_reaches_every_task(scene: Scene) -> None:
    """A queued task is cancelled at once, the owner of a running one is asked; it does not start anew."""
    worker = Worker(scene, "a")
    push(scene, "waits", delay=DAY)
    push(scene, "queued", "runs", "dies", "ends")
    require(cancel(scene, "queued") is TaskState.CANCELLED is cancel(scene, "waits"), "at once")
    claims = {name: worker.claim() for name in ("runs", "dies", "ends")}
    require(all(cancel(scene, name) is RUNNING for name in claims), "its owner goes on")
    held = tuple(HeldTask(name, worker.running[name].epoch) for name in claims)
    renewed = scene.run(Renew(worker.incarnation, held))
    require(isinstance(renewed, Renewed) and set(renewed.cancelled) == set(claims), f"and is told: {renewed}")
    require(worker.end("runs", TaskOutcome.RETRY).state is TaskState.CANCELLED, "it is not tried again")
    require(worker.end("ends", result=b"x").state is DONE, "what was done is done")
    require(cancel(scene, "ends") is DONE, "and stays so")
    scene.run(Sweep(dead=(worker.incarnation,)))
    require(state(scene, "dies") is TaskState.CANCELLED, "nor is it after its owner's death")


@law()
def progress_is_shown(scene: Scene) -> None:
    """What an owner reports is shown until the attempt is over."""
    worker = Worker(scene, "a")
    push(scene, "t")
    (task,) = worker.claim().tasks
    for progress in (b"half", None):
        scene.run(Renew(worker.incarnation, (HeldTask("t", task.epoch, progress),)))
        require(look(scene, "t").progress == b"half", "it is shown")
    worker.end("t", TaskOutcome.RELEASED)
    require(look(scene, "t").progress == b"", "and ends with the attempt")


@law()
def a_paused_queue_gives_nothing(scene: Scene) -> None:
    """Nobody takes tasks from a paused queue; what runs goes on, and what waits is given when it is resumed."""
    worker, thief = Worker(scene, "a"), Worker(scene, "b")
    push(scene, "t1", "t2", queue="a")
    worker.take()
    scene.run(SetQueue("a", paused=True))
    require(not worker.take() and not thief.take(steal=True), "nobody is given anything")
    require([queue.paused for queue in queues(scene).queues] == [True], "the pause is shown")
    worker.end("t1")
    scene.run(SetQueue("a", paused=False))
    require(worker.take() == ["t2"], "it goes on")


@law()
def tasks_twice(scene: Scene) -> None:
    """The same task or key pushed again, the same claim, the same end: once."""
    worker = Worker(scene, "a")
    first = Push((NewTask("t1", "k", key="key"), NewTask("t2", "k"), NewTask("t3", "k", key="key")))
    pushed = scene.run(first)
    require((pushed.tasks, pushed.known) == (("t1", "t2", "t1"), ("t1",)), f"one key is one task: {pushed}")
    require(scene.run(first).known == ("t1", "t2", "t1"), "all are there")
    claim = worker.next_claim(1)
    one, two = scene.run(claim), scene.run(claim)
    require(msgspec.structs.replace(one, at=two.at) == two, f"one claim, one task: {one}, {two}")
    (later,) = worker.claim().tasks
    ends = Finish(worker.incarnation, (TaskEnd("t2", later.epoch), TaskEnd("t2", later.epoch)))
    for _ in range(2):
        answer = scene.run(ends)
        require(not isinstance(answer, Fenced) and all(one.known for one in answer.tasks), f"one end: {answer}")
    require(len(look(scene, "t2").attempts) == 1, "and one attempt")
    scene.run(claim)
    require(not worker.take(), "an old claim is given nothing new")
