"""Every operation may be sent twice: the second copy changes nothing and gets an answer of the same meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cross_instance.rules.operations import (
    DAY,
    SECOND,
    AccountSpec,
    Configure,
    Costs,
    Granted,
    Heartbeat,
    Joined,
    Kind,
    Lock,
    Locked,
    Outcome,
    Result,
    Settle,
    Settled,
    Signals,
    Snapshot,
    Told,
    World,
)
from cross_instance.testing.conformance.law import law
from cross_instance.testing.conformance.scene import ACCOUNT, Actor, Scene, requests, require, slots, tokens

if TYPE_CHECKING:
    from cross_instance.rules.operations import Operation


def state(scene: Scene) -> World:
    """The world without what moves by itself: instants, and levels that refill."""
    world = scene.run(Snapshot())
    instances = tuple(msgspec.structs.replace(instance, beat_at=0, heard_at=0) for instance in world.instances)
    locks = tuple(msgspec.structs.replace(lock, expires_at=0) for lock in world.locks)
    return msgspec.structs.replace(
        world, at=msgspec.structs.replace(world.at, mono=0, wall=0), instances=instances, locks=locks
    )


def twice(scene: Scene, op: Operation[Any]) -> tuple[Result, Result]:
    """Send an operation twice; the second copy must leave everything as it was."""
    first = scene.run(op)
    before = state(scene)
    second = scene.run(op)
    require(state(scene) == before, f"the second copy of {op} changed something")
    return first, second


@law()
def joining_twice(scene: Scene) -> None:
    """The same nonce is the same joining."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    first, second = twice(scene, actor.identity)
    for answer in (first, second):
        require(isinstance(answer, Joined) and answer.incarnation == actor.incarnation, f"it is the same: {answer}")


@law()
def asking_twice(scene: Scene) -> None:
    """The same Acquire is one grant, one place in the queue, one refusal."""
    actor = scene.instance("a", slots(1), tokens(100))
    held = actor.hold(tokens=10)
    first, second = twice(scene, held.op)
    require(isinstance(first, Granted) and isinstance(second, Granted), f"one grant: {first}, {second}")
    waiter = actor.wait(tokens=10)
    twice(scene, waiter.op)
    require(scene.node().waiting == 1, "one place in the queue")
    require((scene.node().held, scene.available(Kind.TOKENS)) == (1, 89), "one permit was charged, once")
    twice(scene, actor.ask(timeout=0).op)
    held.settle()
    twice(scene, waiter.op)
    require(scene.available(Kind.TOKENS) == 79, "the offer was taken once")


@law()
def settling_twice(scene: Scene) -> None:
    """A permit ends once; what its response said counts once."""
    told = Told(Kind.OUTPUT_TOKENS, 500, remaining=9, period=DAY)
    said = Signals(kind=Kind.REQUESTS, retry_after=60 * SECOND, told=(told,))
    for outcome in Outcome:
        account = outcome.value
        actor = scene.instance(account, requests(100), tokens(1_000), account=account)
        request = actor.hold(account=account, tokens=10)
        first, second = twice(scene, Settle(*request.name, outcome, usage=Costs(tokens=20), signals=said))
        known = [isinstance(answer, Settled) and answer.known for answer in (first, second)]
        require(known == [True, False], f"{account} ends a permit once: {first}, {second}")
    require(scene.node("rejected").epochs == (1, 0, 0), "one overload moves the epoch once")


@law()
def cancelling_twice(scene: Scene) -> None:
    """The second cancel of a waiter or a permit finds nothing."""
    actor = scene.instance("a", slots(1), tokens(100))
    held, waiter = actor.hold(tokens=10), actor.wait(tokens=10)
    require([request.cancel().was for request in (waiter, waiter)] == ["waiting", "unknown"], "it waited")
    require([request.cancel().was for request in (held, held)] == ["granted", "unknown"], "it was held")
    require(scene.available(Kind.TOKENS) == 99, "what was never sent was given back once")


@law()
def publishing_twice(scene: Scene) -> None:
    """The same limits published again fill nothing, and need no new revision."""
    actor = scene.instance("a", tokens(100), groups={"big": (slots(1),)}, weight=2, reserve=3)
    actor.hold(tokens=50)
    revision = scene.revisions[ACCOUNT]
    again = actor.publish(tokens(100), groups={"big": (slots(1),)}, weight=2, reserve=3)
    require(again.revision == revision, "the patterns are the same, and so is the revision")
    require(scene.available(Kind.TOKENS) == 49, "nothing was filled")
    twice(scene, Configure(actor.incarnation, ACCOUNT, AccountSpec()))


@law()
def beating_and_leaving_twice(scene: Scene) -> None:
    """Beats may be doubled; the second leaving finds nobody."""
    actor, other = scene.instance("a", slots(1)), Actor(scene, "b")
    twice(scene, Heartbeat(actor.incarnation))
    actor.leave()
    before = state(scene)
    require(not actor.leave().known, "it is gone")
    require(state(scene) == before, "and stays gone")
    other.beat()


@law()
def locking_twice(scene: Scene) -> None:
    """The same token takes one lock, with one fence, and gives it back once."""
    actor = Actor(scene, "a")
    first, second = twice(scene, Lock(actor.incarnation, "r", "token", 60_000_000))
    require(isinstance(first, Locked) and isinstance(second, Locked) and first.lock.fence == second.lock.fence, "one")
    require([actor.unlock("r", "token").known for _ in range(2)] == [True, False], "it is given back once")
