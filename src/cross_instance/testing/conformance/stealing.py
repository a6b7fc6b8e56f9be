"""Stealing: an idle instance takes over what another has queued, and only where that helps."""

from __future__ import annotations

from cross_instance.rules.operations import DAY, SECOND, Outcome, Priority, Signals, Sweep, TaskState
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Scene, requests, require, slots
from cross_instance.testing.conformance.workers import Worker, look, push, queues


@law()
def an_idle_one_steals_the_oldest_of_the_highest_class(scene: Scene) -> None:
    """A thief takes tasks in their owner's order, at most half of them, and only where it has none itself."""
    owner, thief = Worker(scene, "a"), Worker(scene, "b")
    push(scene, "low", queue="a", priority=Priority.LOW)
    push(scene, "t1", "t2", "t3", queue="a")
    push(scene, "mine", queue="b")
    require(thief.take(9, steal=True) == ["mine"], "its own first")
    stolen = thief.claim(9, steal=True)
    require([task.spec.task for task in stolen.tasks] == ["t1", "t2"], f"half of the four: {stolen}")
    require(stolen.victim == "a" and look(scene, "t1").owner == "b", "it is said whose they were")
    require(owner.take(9) == ["t3", "low"], "the rest is its owner's")
    require(not thief.take(9, steal=True), "what runs is not stolen")


@law()
def half_is_rounded_up(scene: Scene) -> None:
    """The last queued task of a busy instance may be stolen too."""
    thief = Worker(scene, "b")
    push(scene, *(f"t{number}" for number in range(5)), queue="a")
    taken = [len(thief.take(9, steal=True)) for _ in range(4)]
    require(taken == [3, 1, 1, 0], f"3 of 5, 1 of 2, 1 of 1: {taken}")


@law(Need.CLOCK)
def the_largest_backlog_is_that_of_time(scene: Scene) -> None:
    """The victim is who has the most work by the mean duration of each kind, not the most tasks."""
    worker, thief = Worker(scene, "w"), Worker(scene, "z")
    push(scene, "brief", "long", queue="w")
    for name, took in (("brief", SECOND), ("long", 50 * SECOND)):
        push(scene, f"{name} one", kind=name, queue="w", priority=Priority.HIGH)
        worker.take()
        scene.pass_time(took)
        worker.end(f"{name} one")
        thief.beat()
    push(scene, *(f"b{number}" for number in range(9)), kind="brief", queue="a")
    push(scene, "l1", "l2", kind="long", queue="b")
    backlogs = {queue.queue: queue.stealable for queue in queues(scene).queues}
    require(backlogs == {"a": 9 * SECOND, "b": 100 * SECOND, "w": 2 * SECOND}, f"the backlogs are shown: {backlogs}")
    require(thief.claim(steal=True).victim == "b", "nine brief ones are less than two long ones")


@law()
def only_what_may_be_stolen_is(scene: Scene) -> None:
    """Not what is kept by its owner, nor what the thief is not able to do; the common queue is nobody's."""
    thief = Worker(scene, "b")
    push(scene, "kept", queue="a", stealable=False)
    push(scene, "tagged", queue="a", tags=("gpu",))
    push(scene, "kept too", queue="a", stealable=False)
    (shown,) = queues(scene).queues
    require((sum(shown.queued), shown.stealable_tasks) == (3, 1), f"how many may be is shown: {shown}")
    require(not thief.take(9, steal=True), "neither")
    require(thief.take(9, steal=True, tags=("gpu",)) == ["tagged"], "who is able to")
    push(scene, "anyone's")
    require(thief.claim(steal=True).victim == "", "what is common is not stolen")
    require(Worker(scene, "a").take(9) == ["kept", "kept too"], "and the owner has its own")


@law()
def a_small_gain_is_left_to_who_serves(scene: Scene) -> None:
    """Below the minimum gain nothing is taken from an instance that serves its queue; from any other it is."""
    owner, thief = Worker(scene, "a"), Worker(scene, "b")
    push(scene, "t1", "t2", queue="a")
    require(thief.take(steal=True, min_gain=3 * SECOND) == ["t1"], "nobody has served this queue")
    require(owner.take() == ["t2"], "now it is served")
    push(scene, "t3", "t4", queue="a")
    require(not thief.take(steal=True, min_gain=3 * SECOND), "two seconds are not enough")
    require(thief.take(steal=True, min_gain=2 * SECOND) == ["t3"], "unless they are")
    scene.run(Sweep(dead=(owner.incarnation,)))
    require(thief.take(steal=True, min_gain=3 * SECOND) == ["t2"], "who is gone serves nothing")


@law()
def what_a_limit_holds_back_is_not_stolen(scene: Scene) -> None:
    """While others wait for a permit of a task's account, another instance would only wait there too."""
    owner, thief = Worker(scene, "a"), Worker(scene, "b")
    owner.publish(slots(1), requests(100))
    push(scene, "t", queue="a", account=ACCOUNT)
    holder, waiter = owner.hold(), owner.wait()
    require(not thief.take(steal=True), "the limit is what holds everyone back")
    waiter.cancel()
    require(thief.take(steal=True) == ["t"], "now nobody waits")
    holder.settle()


@law()
def each_account_holds_back_its_own(scene: Scene) -> None:
    """Of tasks of several accounts in one queue only those of the busy one stay, whichever of them goes first."""
    owner, thief = Worker(scene, "a"), Worker(scene, "b")
    owner.publish(slots(1), requests(100))
    for name, account in (
        ("t1", ACCOUNT),
        ("t2", ""),
        ("t3", "acme:idle"),
        ("t4", ACCOUNT),
        ("t5", ""),
        ("t6", ACCOUNT),
    ):
        push(scene, name, queue="a", account=account)
    push(scene, "urgent", queue="a", account=ACCOUNT, priority=Priority.HIGH)
    holder, waiter = owner.hold(), owner.wait()
    stolen = Worker(scene, "c").take(9, steal=True)
    require(stolen == ["t2", "t3"], f"half of the three that gain by it: {stolen}")
    require(owner.take() == ["urgent"], "its owner has all of them, in their order")
    require(not thief.take(9, steal=True, min_gain=2 * SECOND), "what stays is no gain")
    require(thief.take(9, steal=True, min_gain=SECOND) == ["t5"], "what may go is")
    require(not thief.take(9, steal=True), "the limit is what holds back the rest")
    waiter.cancel()
    require(thief.take(9, steal=True) == ["t1", "t4"], "now nobody waits")
    require(owner.take(9) == ["t6"], "and the rest is its owner's")
    holder.settle()


@law(Need.CLOCK)
def what_a_pause_holds_back_is_not_stolen(scene: Scene) -> None:
    """While the provider has asked for a pause, nobody would get a permit; afterwards all is as before."""
    owner, thief = Worker(scene, "a"), Worker(scene, "b")
    owner.publish(slots(1), requests(100))
    push(scene, "t", queue="a", account=ACCOUNT)
    owner.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=20 * SECOND))
    scene.pass_time(20 * SECOND - 1)
    require(not thief.take(steal=True), "the pause is what holds everyone back")
    scene.pass_time(SECOND)
    require(thief.take(steal=True) == ["t"], "now it is over")


@law()
def thefts_are_counted(scene: Scene) -> None:
    """Who took how many from whom, and who tried; where there is nothing to take, nothing is counted."""
    thief = Worker(scene, "b")
    thief.take(steal=True)
    require(queues(scene).steals == (), "there was nothing to try for")
    push(scene, "t1", "t2", "t3", queue="a")
    thief.take(2, steal=True)
    thief.take(2, steal=True)
    counted = [(theft.thief, theft.victim, theft.tasks) for theft in queues(scene).steals]
    require(counted == [("b", "", 2), ("b", "a", 3)], f"two attempts, three tasks: {counted}")


@law()
def a_thief_owns_what_it_took(scene: Scene) -> None:
    """A stolen task is ended by the thief, and returns to its queue with the thief's death."""
    thief = Worker(scene, "b")
    push(scene, "t1", "t2", "t3", queue="a")
    thief.take(2, steal=True)
    require(thief.end("t1").state is TaskState.DONE, "it ends it")
    scene.run(Sweep(dead=(thief.incarnation,)))
    require(Worker(scene, "a").take(9) == ["t2", "t3"], "it is back in its place")


@law(Need.CLOCK)
def thefts_are_forgotten(scene: Scene) -> None:
    """What nobody has added to for a day is counted no more: the table does not grow for ever."""
    thief, other = Worker(scene, "b"), Worker(scene, "c")
    push(scene, *(f"t{number}" for number in range(9)), queue="a")
    thief.take(steal=True)
    other.take(steal=True)
    scene.pass_time(DAY - SECOND)
    scene.run(Sweep())
    Worker(scene, "b").take(steal=True)
    require(len(queues(scene).steals) == 4, "a day is not over")
    scene.pass_time(SECOND)
    scene.run(Sweep())
    counted = [(theft.thief, theft.victim, theft.tasks) for theft in queues(scene).steals]
    require(counted == [("b", "", 2), ("b", "a", 2)], f"only what is older than a day is gone: {counted}")
