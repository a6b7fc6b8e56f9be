"""Named locks: one holder, a fence for each, and nothing but its own token gives one back."""

from __future__ import annotations

from cross_instance.rules.operations import DAY, SECOND, Fenced, Lock, Sweep
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import Actor, Scene, require


@law()
def one_holder_at_a_time(scene: Scene) -> None:
    """A held lock is shown to its contenders, and goes to none of them."""
    one, other = Actor(scene, "a"), Actor(scene, "b")
    mine = one.lock("r", "t1")
    theirs = other.lock("r", "t2")
    require(mine.mine and not theirs.mine, "the first has it")
    require(theirs.lock == mine.lock, f"the second is told who: {theirs.lock}")
    require(other.lock("another", "t2").mine, "another resource is another lock")


@law()
def only_its_token_gives_it_back(scene: Scene) -> None:
    """A foreign token releases nothing; its own does, and the fence goes on rising."""
    one, other = Actor(scene, "a"), Actor(scene, "b")
    first = one.lock("r", "t1")
    require(not other.unlock("r", "t2").known, "a foreign token releases nothing")
    require(not other.unlock("never", "t1").known, "nor is there anything to release elsewhere")
    require(one.unlock("r", "t1").known, "its own does")
    second = other.lock("r", "t2")
    require(second.mine and second.lock.fence > first.lock.fence, f"{second.lock} has the larger fence")
    require(second.notices == (), "nothing is to be said of a lock that was given back")


@law(Need.CLOCK)
def an_expired_lock_has_one_heir(scene: Scene) -> None:
    """When its time is over a lock goes to one contender; renewing in time keeps it, with its fence."""
    one, heir, third = Actor(scene, "a"), Actor(scene, "b"), Actor(scene, "c")
    first = one.lock("r", "t1", ttl=10 * SECOND)
    scene.pass_time(9 * SECOND)
    renewed = one.lock("r", "t1", ttl=10 * SECOND)
    require(renewed.mine and renewed.lock.fence == first.lock.fence, "renewed, it is the same lock")
    scene.pass_time(9 * SECOND)
    require(not heir.lock("r", "t2").mine, "renewed, it holds")
    scene.pass_time(SECOND)
    inherited = heir.lock("r", "t2")
    require(inherited.mine and not third.lock("r", "t3").mine, "expired, it has one heir")
    topics = [notice.topic for notice in inherited.notices]
    require(topics == ["lock-taken-over"], f"who took it over says so: {topics}")
    require(heir.lock("r", "t2").notices == (), "once")
    require(not one.unlock("r", "t1").known, "and its former holder has nothing to give back")


@law()
def the_dead_hold_no_locks(scene: Scene) -> None:
    """The locks of an instance that is gone are free, and a fenced one gets none."""
    dead, other = Actor(scene, "a"), Actor(scene, "b")
    first = dead.lock("r", "t1")
    scene.run(Sweep(dead=(dead.incarnation,)))
    require(scene.world().locks == (), "nobody holds it")
    require(not dead.unlock("r", "t1").known, "the dead give nothing back")
    require(isinstance(scene.run(Lock(dead.incarnation, "r", "t1", SECOND)), Fenced), "nor take anything")
    second = other.lock("r", "t2")
    require(second.mine and second.lock.fence > first.lock.fence, "the living one has it, with a larger fence")
    require([notice.topic for notice in second.notices] == ["lock-taken-over"], "and says that it was not given back")


@law(Need.CLOCK)
def fences_outlive_the_locks_that_are_forgotten(scene: Scene) -> None:
    """A lock that nobody has held for long is forgotten; its next fence is larger all the same, whatever the clock."""
    one = Actor(scene, "a")
    first = one.lock("r", "t1")
    require(one.unlock("r", "t1").known, "it is given back")
    for _ in range(3):
        scene.pass_time(20 * SECOND)
        require(not scene.run(Sweep()).removed, "nobody is silent")
        one.beat()
    require(scene.clock is not None, "time is ours")
    scene.clock.wall -= DAY  # type: ignore[union-attr]  # as was just said
    second = one.lock("r", "t2")
    require(second.mine and second.lock.fence > first.lock.fence, f"{second.lock} has the larger fence")
