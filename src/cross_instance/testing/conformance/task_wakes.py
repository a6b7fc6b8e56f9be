"""Who is woken for what. A wake is a hint, but it is to reach somebody who is able and willing to act on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules.operations import (
    FOREVER,
    MINUTE,
    SECOND,
    CancelTask,
    Claimed,
    Finish,
    GetTask,
    Leave,
    Priority,
    Sweep,
    TaskEnd,
    TaskState,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import Scene, require
from cross_instance.testing.conformance.workers import Worker, push, state

if TYPE_CHECKING:
    from cross_instance.rules.operations import Result

QUEUED, RUNNING = TaskState.QUEUED, TaskState.RUNNING


@law()
def those_who_wait_are_woken(scene: Scene) -> None:
    """A task wakes its queue's idle worker or another that may take it, its end those who watch it."""
    own, other = Worker(scene, "a"), Worker(scene, "b")
    for worker in (own, other):
        scene.run(worker.next_claim(steal=True))
    idle = {worker.incarnation: worker.seq for worker in (own, other)}
    require(not push(scene, "t0", queue="a", tags=("gpu",)).wakes, "nobody is able to do it")
    woken = _woken(push(scene, "t1", queue="a"))
    require(woken == [(own.incarnation, idle[own.incarnation])], f"its own worker first: {woken}")
    woken = _woken(push(scene, "t2", "t3", queue="a"))
    require(woken == [(other.incarnation, idle[other.incarnation])], f"then one who steals, once: {woken}")
    scene.run(GetTask("t1", watcher=(other.incarnation, 77)))
    own.take()
    woken = _woken(scene.run(CancelTask("t1")))
    require(woken == [(own.incarnation, own.seq)], f"the owner of what is to be cancelled: {woken}")
    end = TaskEnd("t1", own.running["t1"].epoch)
    woken = _woken(scene.run(Finish(own.incarnation, (end,))))
    require(woken == [(other.incarnation, 77)], f"who waits for its end: {woken}")


@law()
def a_delayed_task_sets_a_timer(scene: Scene) -> None:
    """Of those who are idle one is told when a delayed task will be ready; it stays idle until then."""
    worker = Worker(scene, "a")
    worker.take()
    pushed = push(scene, "later", delay=3600 * SECOND)
    expected = [(worker.incarnation, worker.seq, pushed.at.mono + 3600 * SECOND)]
    told = [(wake.incarnation, wake.seq, wake.at) for wake in pushed.wakes]
    require(told == expected, f"its timer is set: {told}")
    require(_woken(push(scene, "now")) == [(worker.incarnation, worker.seq)], "and it is woken for the next")


@law()
def a_wake_is_never_lost_with_its_worker(scene: Scene) -> None:
    """Who was woken for a task and dies or leaves before it claims: another is woken, as soon as that is known."""
    for end in ("dies", "leaves"):
        woken, other = Worker(scene, "a"), Worker(scene, "b")
        for worker in (woken, other):
            scene.run(worker.next_claim())
        require(_woken(push(scene, f"{end} 1")) == [(woken.incarnation, woken.seq)], "one is woken")
        told: Result = scene.run(Sweep((woken.incarnation,)) if end == "dies" else Leave(woken.incarnation))
        require(_woken(told) == [(other.incarnation, other.seq)], f"it {end}: now the other: {told}")
        require(other.take(9) == [f"{end} 1"], "who takes it")
        other.end(f"{end} 1")
        other.leave()


@law()
def who_works_no_more_hands_on(scene: Scene) -> None:
    """A worker that asks for 0 tasks works no more: others are woken instead, and what it was given is given back."""
    retiring, other = Worker(scene, "a"), Worker(scene, "b")
    for worker in (retiring, other):
        scene.run(worker.next_claim(steal=True))
    require(_woken(push(scene, "t1", queue="a")) == [(retiring.incarnation, retiring.seq)], "its own worker first")
    last = retiring.next_claim(0)
    retired = scene.run(last)
    require(_woken(retired) == [(other.incarnation, other.seq)], f"now the other: {retired}")
    require(other.take(steal=True, min_gain=FOREVER) == ["t1"], "nobody serves this queue now, so any gain is enough")
    require(not push(scene, "t2", queue="a").wakes, "who works no more is woken no more")
    lost = retiring.next_claim()
    scene.run(lost)
    require(state(scene, "t2") is RUNNING, "its answer may have been lost")
    scene.run(msgspec.structs.replace(lost, most=0))
    require(state(scene, "t2") is QUEUED, "it is given back")
    copy = scene.run(lost)
    require(isinstance(copy, Claimed) and not copy.tasks, "and a copy of the claim is given nothing")
    require(retiring.take() == ["t2"], "it may work again")
    scene.run(retiring.next_claim())
    scene.run(last)
    require(_woken(push(scene, "t3", queue="a")) == [(retiring.incarnation, retiring.seq)], "whatever it said before")


@law()
def what_a_claim_leaves_wakes_the_next(scene: Scene) -> None:
    """Who was woken for one task may be given another first; then the next who is able is woken for what is left."""
    able, other, next_able = (Worker(scene, name) for name in ("a", "b", "c"))
    for worker in (able, next_able):
        scene.run(worker.next_claim(tags=("gpu",)))
    scene.run(other.next_claim())
    require(_woken(push(scene, "t1", tags=("gpu",))) == [(able.incarnation, able.seq)], "one who is able")
    push(scene, "t2", priority=Priority.HIGH)
    given = able.claim(tags=("gpu",))
    require([task.spec.task for task in given.tasks] == ["t2"], f"it is given what goes first: {given}")
    require((next_able.incarnation, next_able.seq) in _woken(given), f"so t1 is another's: {given}")
    require(next_able.take(tags=("gpu",)) == ["t1"] and not other.take(tags=("gpu",)), "who takes it")
    require(able.take() == [] and _woken(push(scene, "t3")) != [], "and nobody is forgotten")


@law()
def a_timer_is_kept_by_who_is_idle(scene: Scene) -> None:
    """Who was told when a delayed task will be ready, and then is given others or goes: another is told."""
    one, two, three = (Worker(scene, name) for name in ("a", "b", "c"))
    for worker in (one, two, three):
        worker.take()
    due = push(scene, "later", delay=3600 * SECOND)
    require(_timed(due) == [one.incarnation], f"one keeps the time: {due}")
    require(not one.take(), "also if it looks for others meanwhile")
    busy = push(scene, "now")
    require(len(busy.wakes) == 2 and _timed(busy) == [two.incarnation], f"it has work, so another keeps it: {busy}")
    require(one.take() == ["now"], "the work is done by who was woken")
    gone = scene.run(Sweep(dead=(two.incarnation,)))
    require(len(gone.wakes) == 1 and _timed(gone) == [three.incarnation], f"it died: {gone}")


@law(Need.CLOCK)
def who_watches_no_more_is_forgotten(scene: Scene) -> None:
    """Whoever waits for a task's end asks for it now and then; one who does not for a minute is not told."""
    gone, there = Worker(scene, "a"), Worker(scene, "b")
    push(scene, "t", "other")
    for watcher in (gone, there):
        scene.run(GetTask("t", watcher=(watcher.incarnation, 7)))
    scene.pass_time(MINUTE - 1)
    scene.run(GetTask("t", watcher=(there.incarnation, 7)))
    scene.run(Sweep())
    scene.pass_time(1)
    scene.run(Sweep())
    woken = _woken(scene.run(CancelTask("t")))
    require(woken == [(there.incarnation, 7)], f"who asked again: {woken}")


def _timed(result: Result) -> list[int]:
    """Who is told to look in an hour, as far as a clock that is not ours allows to say."""
    in_an_hour = result.at.mono + 3500 * SECOND
    return [wake.incarnation for wake in result.wakes if wake.at > in_an_hour]


def _woken(result: Result) -> list[tuple[int, int]]:
    return [(wake.incarnation, wake.seq) for wake in result.wakes]
