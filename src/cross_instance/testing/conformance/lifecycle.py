"""Law 6: who lives, who is dead, who is only silent, and what becomes of what they held."""

from __future__ import annotations

import msgspec

from cross_instance.rules.operations import (
    SECOND,
    Beaten,
    Duplicate,
    Entry,
    Fenced,
    Joined,
    Priority,
    Removing,
    Snapshot,
    Stale,
    Sweep,
    Workload,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Actor, Scene, requests, require, slots

GRACE = 30 * SECOND
"""How long the slots of a silent instance stay counted."""

TIMEOUT = 60 * SECOND
"""After how long without a beat an instance counts as silent."""

STEP = 500
"""How many permits and waiters one operation ends at most when it removes instances."""


@law()
def incarnations_rise(scene: Scene) -> None:
    """Each joining gets a larger incarnation than any before, also under an id that was used before."""
    numbers = []
    for _ in range(3):
        actor = Actor(scene, "again")
        numbers.append(actor.incarnation)
        actor.leave()
    require(numbers == sorted(set(numbers)), f"incarnations rise, and were {numbers}")


@law()
def the_dead_are_gone_at_once(scene: Scene) -> None:
    """What an instance known to be dead held, was offered or waited for is free in the same operation."""
    dead, other = scene.instance("d", slots(2)), scene.instance("o", slots(2))
    dead.hold()
    giver = other.hold()
    offered = dead.wait()
    giver.settle()
    require(offered.offered, "the dead one has an offer")
    waiters = [other.wait() for _ in range(2)]
    swept = scene.run(Sweep(dead=(dead.incarnation, 987_654)))
    require(swept.removed == ("d",), f"it is removed, and no one else: {swept}")
    for waiter in waiters:
        waiter.take()
    require(scene.node().ghosts == 0, "its sockets are gone: there are no ghosts")


@law(Need.CLOCK)
def the_silent_leave_ghosts(scene: Scene) -> None:
    """A silent instance is fenced; its slots stay counted for a grace, since its calls may still run."""
    silent, other = scene.instance("s", slots(1)), scene.instance("o", slots(1))
    held = silent.hold()
    waiter = other.wait()
    scene.pass_time(TIMEOUT - 1)
    other.beat()
    require(scene.run(Sweep()).removed == (), "nobody is silent before the timeout")
    scene.pass_time(1)
    require(scene.run(Sweep()).removed == ("s",), "then it is removed")
    require(scene.node().ghosts == 1 and waiter.again().waiting, "its slot is a ghost's")
    require(not held.settle().known, "the fenced one cannot settle")
    require(isinstance(silent.beat(), Fenced), "nor beat")
    require(isinstance(held.again().answer, Fenced), "nor look at its permit")
    require(isinstance(silent.ask().answer, Fenced), "nor ask anew")
    scene.pass_time(GRACE)
    require(waiter.again().granted, "after the grace the slot is free")


@law(Need.CLOCK)
def who_has_just_woken_takes_no_silence_for_death(scene: Scene) -> None:
    """Machines may sleep together while the store's clock goes on: beats missed while the reaper was awake count."""
    silent, dead = scene.instance("s", slots(2)), scene.instance("d", slots(2))
    held = silent.hold()
    scene.pass_time(8 * 3_600 * SECOND)
    for awake in (0, TIMEOUT - 1):
        require(scene.run(Sweep(awake=awake)).removed == (), f"nobody is silent to one awake for {awake} µs")
    require(scene.run(Sweep((dead.incarnation,), awake=0)).removed == ("d",), "whom the kernel knows dead is removed")
    require(isinstance(silent.beat(), Beaten), "the other one has slept, too")
    require(held.settle().known, "and has lost nothing")
    scene.pass_time(TIMEOUT)
    require(scene.run(Sweep(awake=TIMEOUT)).removed == ("s",), "who stays silent is removed a timeout later")


@law(Need.CLOCK)
def who_may_be_silent_for_long_covers_nobody(scene: Scene) -> None:
    """To one who has just woken, the silence of one with a long timeout says nothing: others' silence does."""
    actor = scene.instance("a", slots(1))
    scene.run(msgspec.structs.replace(actor.identity, instance_id="long", nonce="n", timeout=10 * TIMEOUT))
    scene.pass_time(10 * TIMEOUT - 2)
    actor.beat()
    scene.run(msgspec.structs.replace(actor.identity, instance_id="short", nonce="m", timeout=5))
    scene.pass_time(5)
    swept = scene.run(Sweep(awake=TIMEOUT))
    require(swept.removed == ("short",), f"only the other was silent for too long: {swept}")


@law(Need.CLOCK)
def a_beat_keeps_alive(scene: Scene) -> None:
    """Each beat starts the timeout anew, and an instance may set its own."""
    actor = scene.instance("a", slots(1))
    short = scene.run(msgspec.structs.replace(actor.identity, instance_id="short", nonce="n", timeout=SECOND))
    for _ in range(3):
        scene.pass_time(TIMEOUT - 1)
        require(isinstance(actor.beat(), Beaten), "it beats in time")
    swept = scene.run(Sweep())
    require(isinstance(short, Joined) and swept.removed == ("short",), f"only the other was silent: {swept}")


@law(Need.CLOCK)
def late_but_not_yet_removed(scene: Scene) -> None:
    """A beat that comes late, but before anyone removed the instance, saves it."""
    actor = scene.instance("a", slots(1))
    scene.pass_time(2 * TIMEOUT)
    require(isinstance(actor.beat(), Beaten), "it lives")
    require(scene.run(Sweep()).removed == (), "and nobody removes it now")


@law()
def one_owner_of_an_id(scene: Scene) -> None:
    """An id in use elsewhere is refused; the holder of the kernel's lock replaces its own dead predecessor."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    elsewhere = msgspec.structs.replace(actor.identity, nonce="other", pid=99, machine="there", host="there.example")
    answer = scene.run(elsewhere)
    require(isinstance(answer, Duplicate) and answer.pid == actor.identity.pid, f"the id is taken: {answer}")
    unlocked = msgspec.structs.replace(actor.identity, nonce="other", holds_lock=False)
    require(isinstance(scene.run(unlocked), Duplicate), "without the lock the predecessor may live")
    successor = scene.run(msgspec.structs.replace(actor.identity, nonce="other", pid=100))
    require(isinstance(successor, Joined), f"with the lock it is certainly dead: {successor}")
    require(isinstance(actor.beat(), Fenced), "the predecessor is fenced")
    require(scene.node().held == 0, "and what it held is free")


@law(Need.CLOCK)
def a_silent_id_can_be_taken_over(scene: Scene) -> None:
    """Beyond its timeout an id can be had from another machine; what it held becomes ghosts."""
    actor, other = scene.instance("a", slots(1)), scene.instance("o", slots(1))
    actor.hold()
    scene.pass_time(TIMEOUT)
    other.beat()
    answer = scene.run(msgspec.structs.replace(actor.identity, nonce="other", machine="there"))
    require(isinstance(answer, Joined) and answer.incarnation > actor.incarnation, f"it is free: {answer}")
    require(scene.node().ghosts == 1, "the slot may still be in use there")


@law()
def leaving_gives_back(scene: Scene) -> None:
    """Who leaves gives its slots back and takes its waiters along; what was charged stays charged."""
    actor, other = scene.instance("a", slots(1), requests(10)), scene.instance("o", slots(1), requests(10))
    held, waiter = actor.hold(), actor.wait()
    behind = other.wait()
    result = actor.leave()
    require(result.known, "it was there")
    behind.take()
    require(not waiter.offered and not held.settle().known, "its permits are void")
    require([one.available for one in scene.node().limits] == [7, 0], "two of nine requests were charged")


@law()
def many_waiters_leave_in_steps(scene: Scene) -> None:
    """Who has very many waiters is removed in steps: what it held returns with the first, its waiters get nothing."""
    actor, other = scene.instance("a", slots(2)), scene.instance("o", slots(2))
    actor.hold()
    kept = other.hold()
    waiters = [actor.wait() for _ in range(STEP)]
    behind = other.wait()
    require(actor.leave().more, f"{STEP + 1} are more than one operation ends")
    behind.take()
    kept.settle()
    require(not waiters[-1].offered and scene.node().held == 1, "a waiter of the one that leaves got the free slot")
    require(other.ask().granted, "it is the other's")
    left = actor.leave()
    require(left.known and not left.more, f"the second step is the last: {left}")
    require(not actor.leave().known, "now it is gone")
    require((scene.node().waiting, len(scene.world().instances)) == (0, 1), "with all its waiters")


@law()
def many_dead_are_removed_in_steps(scene: Scene) -> None:
    """A sweep ends no more permits and waiters than a step's; repeated, it removes all who are dead."""
    dead = [scene.instance(name, slots(1)) for name in ("d1", "d2", "d3")]
    for actor in dead:
        for _ in range(STEP // 2):
            actor.ask()
    op = Sweep(tuple(actor.incarnation for actor in dead))
    first, second, third = (scene.run(op) for _ in range(3))
    require((first.removed, first.more) == (("d1", "d2"), True), f"two are a whole step: {first}")
    require((second.removed, second.more) == (("d3",), False), f"one was left: {second}")
    require((third.removed, third.more) == ((), False), f"nothing to do: {third}")
    require((scene.node().waiting, scene.node().held) == (0, 0), "nothing is left of them")


@law()
def many_waiters_are_replaced_in_steps(scene: Scene) -> None:
    """Who joins under the id of a dead instance with very many waiters repeats it until all of them are gone."""
    dead, other = scene.instance("d", slots(1)), scene.instance("o", slots(1))
    dead.hold()
    for _ in range(STEP):
        dead.ask()
    behind = other.wait()
    again = msgspec.structs.replace(dead.identity, nonce="other", pid=100)
    answer = scene.run(again)
    require(isinstance(answer, Removing), f"{STEP + 1} are more than one operation ends: {answer}")
    behind.take()
    require(len(scene.world().instances) == 2, "nobody has joined yet")
    answer = scene.run(again)
    require(isinstance(answer, Joined) and answer.incarnation > dead.incarnation, f"the second is the last: {answer}")
    require((scene.node().waiting, scene.node().held) == (0, 1), "nothing is left of the dead one")
    require(isinstance(dead.beat(), Fenced), "and it is fenced")


@law()
def a_new_incarnation_publishes_anew(scene: Scene) -> None:
    """Who joined anew is told to publish its limits before it may ask."""
    scene.instance("a", slots(1)).leave()
    again = Actor(scene, "a")
    answer = again.ask().expect(Stale)
    require(answer.revision == 0, f"it has not published anything: {answer}")
    again.publish(slots(1))
    again.hold()


@law()
def the_living_are_shown(scene: Scene) -> None:
    """The snapshot shows each instance with what it said of itself, what it holds and what it waits for."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    actor.wait()
    entry = Entry("t-1", "search", Priority.HIGH, 1_000, None, 3)
    workload = Workload(7, 2, 1_500, 12, (("openai", "gpt-4o", 5),), (entry,))
    actor.beat(workload)
    actor.beat()
    shown = scene.world().instances
    require(len(shown) == 1 and shown[0].workload == workload, f"its workload is shown: {shown}")
    require((shown[0].held, shown[0].waiting) == (1, 1), "one permit held, one waited for")
    require((shown[0].host, shown[0].pid) == ("here.example", 4_711), "and who it is")


@law(Need.CLOCK)
def a_look_need_not_count(scene: Scene) -> None:
    """A snapshot without counts shows all but what each instance holds and waits for, and the ghosts of each node."""
    silent, actor = scene.instance("s", slots(3)), scene.instance("a", slots(3))
    silent.hold()
    scene.pass_time(TIMEOUT)
    actor.beat(Workload(7))
    scene.run(Sweep())
    actor.hold()
    actor.ask()
    actor.wait()
    counted, quick = scene.world(), scene.run(Snapshot(counts=False))
    require([(one.held, one.waiting) for one in counted.instances] == [(2, 1)], f"one is left: {counted.instances}")
    instances = tuple(msgspec.structs.replace(one, held=0, waiting=0) for one in counted.instances)
    require(quick.instances == instances, f"only its counts are missing: {quick.instances}")
    require([node.ghosts for node in counted.nodes if node.node == ACCOUNT] == [1], "the silent one left a ghost")
    nodes = tuple(msgspec.structs.replace(node, ghosts=0) for node in counted.nodes)
    require(quick.nodes == nodes, f"what a node holds and who waits at it is known without counting: {quick.nodes}")
