"""Laws 3, 4 and 5: who is next, that nothing stays idle, and that whoever is next is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import MINUTE, SECOND, Granted, Kind, Priority, Waiting
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import Scene, requests, require, slots, tokens

if TYPE_CHECKING:
    from cross_instance.testing.conformance.scene import Request

OFFER = 250_000
"""An offer that is not taken passes on after this time, in µs."""


def serve(holder: Request, waiters: list[Request], turns: int) -> list[Request]:
    """Pass one slot on so many times; the waiters in the order in which they got it."""
    served = []
    for _ in range(turns):
        holder.settle()
        offered = [waiter for waiter in waiters if waiter.offered]
        require(len(offered) == 1, f"one slot freed, and {len(offered)} waiters were offered it")
        holder = offered[0].take()
        served.append(holder)
    return served


def names(scene: Scene, served: list[Request]) -> str:
    """The ids of the instances that were served, in order."""
    ids = {instance.incarnation: instance.instance_id for instance in scene.world().instances}
    return "".join(ids[request.name[0]] for request in served)


@law()
def first_come_first_served(scene: Scene) -> None:
    """Within one instance and class, the earlier one is served first."""
    actor = scene.instance("a", slots(1))
    holder = actor.hold()
    waiters = [actor.wait() for _ in range(6)]
    require(serve(holder, waiters, 6) == waiters, "six waiters were not served in the order in which they came")


@law()
def classes_are_strict(scene: Scene) -> None:
    """A higher class goes first, whoever came before, and between instances too."""
    one, other = scene.instance("a", slots(1)), scene.instance("b", slots(1))
    holder = one.hold()
    waiters = [actor.wait(priority=priority) for priority in reversed(Priority) for actor in (one, other)]
    served = [int(request.op.priority) for request in serve(holder, waiters, 10)]
    require(served == sorted(served), f"classes were served in the order {served}")


@law(Need.CLOCK)
def ageing_raises_a_waiter(scene: Scene) -> None:
    """Where ageing is set, a waiter counts as one class higher for each such time it has waited."""
    old, young = scene.instance("a", slots(1), ageing=SECOND), scene.instance("b", slots(1), ageing=SECOND)
    holder = old.hold()
    low = old.wait(priority=Priority.LOW)
    scene.pass_time(2 * SECOND)
    normal = young.wait(priority=Priority.NORMAL)
    require(serve(holder, [low, normal], 1) == [low], "after two seconds `low` counts as `high`")


@law()
def weights_share_in_proportion(scene: Scene) -> None:
    """Inside a class instances are served in proportion to their weights, whoever has more waiting."""
    heavy, light = scene.instance("h", slots(1), weight=3), scene.instance("l", slots(1))
    holder = light.hold()
    waiters = [light.wait() for _ in range(30)] + [heavy.wait() for _ in range(12)]
    served = names(scene, serve(holder, waiters, 16))
    require(11 <= served.count("h") <= 13, f"weights 3 and 1 served {served}")
    require("lll" not in served, f"and in turns, not {served}")


@law()
def large_requests_pay_for_their_size(scene: Scene) -> None:
    """Fairness counts the largest fraction of any limit: who takes five times as much is served a fifth as often."""
    limits = (slots(10), tokens(100_000, burst=10_000_000))
    large, small = scene.instance("l", *limits), scene.instance("s", *limits)
    holders = [small.hold() for _ in range(10)]
    waiters = [large.wait(tokens=50_000) for _ in range(10)] + [small.wait(tokens=1) for _ in range(20)]
    served = names(scene, serve(holders[0], waiters, 12))
    require(1 <= served.count("l") <= 3, f"a half of the tokens weighs like five slots of ten; served {served}")


@law()
def a_newcomer_gets_no_credit_for_its_absence(scene: Scene) -> None:
    """An instance that was idle takes its turn from now on; it does not make up for what it did not ask."""
    busy, idle = scene.instance("b", slots(1)), scene.instance("i", slots(1))
    holder = busy.hold()
    waiters = [busy.wait() for _ in range(20)]
    served = serve(holder, waiters, 10)
    waiters += [idle.wait() for _ in range(10)]
    turns = names(scene, serve(served[-1], waiters, 8))
    require(3 <= turns.count("i") <= 5, f"the newcomer and the old one take turns, not {turns}")


@law()
def a_reserve_goes_first(scene: Scene) -> None:
    """A waiter within its instance's reserve is served before every class; beyond it, it is one of many."""
    sure, other = scene.instance("s", slots(1), reserve=6), scene.instance("o", slots(1))
    holder = other.hold()
    urgent = [other.wait(priority=Priority.CRITICAL) for _ in range(3)]
    reserved = [sure.wait(priority=Priority.LOW) for _ in range(2)]
    served = names(scene, serve(holder, urgent + reserved, 3))
    require(served == "soo", f"one of a reserve of 6/min is there at once, then classes decide; served {served}")


@law()
def an_unused_reserve_is_lent(scene: Scene) -> None:
    """What its owner does not ask for, others use whole."""
    scene.instance("s", requests(10), reserve=8)
    other = scene.instance("o", requests(10))
    require(sum(other.ask(timeout=0).granted for _ in range(10)) == 9, "all of the limit is lent")


@law()
def the_first_holds_the_claim(scene: Scene) -> None:
    """A large request at the head is not starved: nobody barges past it, though smaller ones would fit."""
    actor, other = scene.instance("a", tokens(100)), scene.instance("b", tokens(100))
    holder = actor.hold(tokens=60)
    large, small = actor.wait(tokens=80), other.wait(tokens=10)
    require(not small.offered, "the small one barged past the large one")
    holder.cancel()
    large.take()
    small.take()


@law()
def a_blocked_group_blocks_nobody_else(scene: Scene) -> None:
    """A group at its own limit neither holds up its account nor the cluster."""
    actor = scene.instance("a", slots(4), groups={"big": (slots(1),)})
    actor.publish(slots(10), account="")
    actor.publish(slots(1), account="full")
    actor.hold(group="big")
    actor.wait(group="big", priority=Priority.CRITICAL)
    actor.hold(account="full")
    actor.wait(account="full", priority=Priority.CRITICAL)
    for _ in range(3):
        actor.hold(priority=Priority.BACKGROUND)


@law()
def who_gives_up_lets_the_next_in(scene: Scene) -> None:
    """A head that cancels or leaves hands its claim to those behind it, in the same operation."""
    actor, other = scene.instance("a", tokens(100)), scene.instance("b", tokens(100))
    other.hold(tokens=60)
    large, small = actor.wait(tokens=80), other.wait(tokens=10)
    large.cancel()
    small.take()
    actor.wait(tokens=80)
    last = other.wait(tokens=10)
    actor.leave()
    last.take()


@law(Need.CLOCK)
def the_lapsed_are_dropped(scene: Scene) -> None:
    """A waiter past its deadline is never granted, and hides nobody behind or beside it."""
    actor, other = (scene.instance(name, slots(1), groups={"x": (), "y": ()}) for name in "ab")
    holder = actor.hold()
    lapsed, beside = actor.wait(group="x", timeout=SECOND), other.wait(group="y")
    scene.pass_time(2 * SECOND)
    holder.settle()
    beside.take()
    require(not lapsed.offered, "what has lapsed is not offered anything")
    require(scene.node().waiting == 0, "it is gone from the queue")


@law(Need.CLOCK)
def asking_after_the_deadline_is_refused(scene: Scene) -> None:
    """A waiter that asks again after its deadline is refused."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    waiter = actor.wait(timeout=SECOND)
    scene.pass_time(SECOND)
    require(waiter.again().refused == "timeout", f"its time is over: {waiter.answer}")


@law(Need.CLOCK)
def who_does_not_wait_claims_nothing(scene: Scene) -> None:
    """A request that is refused at once takes neither the place nor the timer of those who wait."""
    actor, other = (scene.instance(name, tokens(60, 60, MINUTE)) for name in "ab")
    actor.hold(tokens=59)
    small = other.wait(tokens=1)
    require(actor.ask(tokens=50, priority=Priority.CRITICAL, timeout=0).refused == "timeout", "50 are not there")
    scene.pass_time(SECOND)
    require(actor.ask(tokens=50, priority=Priority.CRITICAL, timeout=0).refused == "timeout", "nor a second later")
    require(small.again().granted, "but what the other one waited for is there")


@law()
def who_frees_grants_and_wakes(scene: Scene) -> None:
    """Settle grants the next in order, in its own operation, and its wakes name exactly those granted."""
    actor = scene.instance("a", slots(2))
    holders = [actor.hold(), actor.hold()]
    waiters = [actor.wait() for _ in range(3)]
    for holder, waiter in zip(holders, waiters, strict=False):
        result = holder.settle()
        woken = {(wake.incarnation, wake.seq) for wake in result.wakes if wake.at <= result.at.mono}
        require(woken == {waiter.name}, f"{waiter.name} is next, and {woken} were woken")
    require(scene.node().held == 2, "an offer is held as from the moment it is made")


@law(Need.CLOCK)
def an_offer_is_charged_when_it_is_made(scene: Scene) -> None:
    """Who takes an offer is told how long ago it was charged: his request goes out that much later."""
    actor = scene.instance("a", slots(1))
    holder = actor.hold()
    first, second = actor.wait(), actor.wait()
    holder.settle()
    scene.pass_time(OFFER - 1)
    require(first.again().expect(Granted).age == OFFER - 1, "it was offered 250 ms ago")
    require(first.again().expect(Granted).age == 0, "what is held already is not charged again")
    first.settle()
    require(second.again().expect(Granted).age == 0, "taken at once")
    require(second.settle().known, "it was held")
    require(actor.ask().expect(Granted).age == 0, "granted at once")


@law(Need.CLOCK)
def an_offer_passes_on(scene: Scene) -> None:
    """An offer not taken within 250 ms passes on; its instance is passed over until it is heard of."""
    actor, stopped, other = (scene.instance(name, slots(1)) for name in "aso")
    holder = actor.hold()
    silent, silent_too, patient = stopped.wait(), stopped.wait(), other.wait()
    holder.settle()
    require(silent.offered, "the first in order gets the offer")
    scene.pass_time(OFFER - 1)
    require(patient.again().waiting, "the offer stands for 250 ms")
    scene.pass_time(1)
    require(patient.again().granted, "then it passes on to the next")
    next_in_line = other.wait()
    patient.settle()
    require(next_in_line.offered and not silent_too.offered, "a silent instance delays the others once")
    stopped.beat()
    next_in_line.take().settle()
    silent.take()


@law(Need.CLOCK)
def a_late_taker_may_still_be_first(scene: Scene) -> None:
    """An offer that nobody else wanted is still there after its time."""
    actor = scene.instance("a", slots(1))
    holder = actor.hold()
    waiter = actor.wait()
    holder.settle()
    scene.pass_time(4 * OFFER)
    require(waiter.again().expect(Granted).waited == 4 * OFFER, "it waited for a second")


@law(Need.CLOCK)
def the_head_arms_a_timer(scene: Scene) -> None:
    """Where time must pass, the first waiter looks again at the exact instant at which it is due."""
    actor, other = (scene.instance(name, tokens(60, 60, MINUTE)) for name in "ab")
    actor.hold(tokens=59)
    start = scene.world().at.mono
    first = actor.wait(tokens=1)
    due = start + SECOND
    require(first.expect(Waiting).check_at == due, f"it is due at {due}: {first.answer}")
    urgent = other.wait(tokens=1, priority=Priority.HIGH)
    require(urgent.expect(Waiting).check_at == due, "who becomes the first takes the timer over")


@law(Need.CLOCK)
def a_departing_head_hands_its_timer_on(scene: Scene) -> None:
    """When the head of a refill goes, the next one is told when to look."""
    actor, other = (scene.instance(name, tokens(60, 60, MINUTE)) for name in "ab")
    actor.hold(tokens=59)
    start = scene.world().at.mono
    head, following = actor.wait(tokens=1), other.wait(tokens=5)
    head.cancel()
    require(following.timer == start + 5 * SECOND, f"five tokens are due in 5 s, and its timer is {following.timer}")


@law()
def a_long_queue_keeps_its_order(scene: Scene) -> None:
    """Hundreds of waiters, most of whom give up, leave the order and the counts of the others as they were."""
    actor, other = scene.instance("a", slots(1)), scene.instance("b", slots(1))
    holder = actor.hold()
    waiters = [actor.wait() for _ in range(300)] + [other.wait() for _ in range(3)]
    for waiter in waiters[:295]:
        waiter.cancel()
    require(scene.node().waiting == 8, "eight are left")
    served = names(scene, serve(holder, waiters[295:], 8))
    require(sorted(served) == sorted("aaaaabbb"), f"all eight are served: {served}")
    require(scene.limit(Kind.CONCURRENCY).available == 0, "the last one holds the slot")
