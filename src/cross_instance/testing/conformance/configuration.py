"""Limits as several instances publish them: the strictest holds, everybody is told, and names may be anything."""

from __future__ import annotations

from cross_instance.rules.operations import (
    CLUSTER,
    MINUTE,
    AccountSpec,
    Acquire,
    Configure,
    Join,
    Kind,
    Lock,
    Outcome,
    Refused,
    Signals,
    Source,
    Stale,
    Told,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Actor, Scene, requests, require, slots, tokens

ODD_NAMES = (
    "Größe/模型:🚦",
    "a b\tc\nd",
    "%s {x} $1 [*] (?) \\ ' \"",
    "..",
    "é" * 100,
    "x" * 200,
    ":",
    "KEYS[1]",
)
"""Accepted wherever a name is: up to 200 bytes of UTF-8 without a zero byte."""

BAD_NAMES = ("", "x" * 201, "é" * 101, "zero\0byte")


@law()
def the_strictest_configuration_holds(scene: Scene) -> None:
    """Of several live configurations the strictest is in force, and a notice names them both."""
    first = scene.instance("a", requests(60, 10, MINUTE), slots(5), origin="/a/config.json")
    published = Actor(scene, "b").publish(requests(30, 20, MINUTE), slots(9), origin="/b/config.json")
    figures = [(limit.amount, limit.burst) for limit in scene.node().limits]
    require(figures == [(30, 10), (5, 5)], f"30/min, burst 10 and 5 slots are the strictest, not {figures}")
    for notices in (published.notices, scene.node().notices):
        conflicts = [notice for notice in notices if notice.topic == "limits-conflict"]
        require(len(conflicts) == 2, f"both kinds are in conflict: {notices}")
        both = all("/a/config.json" in notice.text and "/b/config.json" in notice.text for notice in conflicts)
        require(both, f"the notices name both files: {conflicts}")
    first.leave()
    figures = [(limit.amount, limit.burst) for limit in scene.node().limits]
    require(figures == [(30, 20), (9, 9)], f"when the strictest leaves, the other holds: {figures}")
    require(scene.node().notices == (), "and nothing is in conflict")


@law()
def what_overloads_have_shown_holds_for_all(scene: Scene) -> None:
    """Slots that one instance learned hold for all where they are fewer, in groups too, as long as it lives."""
    measured = slots(3, Source.LEARNED)
    scene.instance("a", slots(5), groups={"big": ()})
    hit = Actor(scene, "b")
    published = hit.publish(slots(5), measured, groups={"big": (measured,)})
    for node in (ACCOUNT, f"{ACCOUNT}#big"):
        found = [(limit.amount, limit.source) for limit in scene.node(node).limits]
        require(found == [(3, Source.LEARNED)], f"the learned slots hold at {node}, not {found}")
    require(published.notices == () and scene.node().notices == (), "nothing is in conflict")
    Actor(scene, "c").publish(slots(2))
    require(scene.node().limits[0].amount == 2, "fewer configured ones hold")
    hit.leave()
    require(scene.node(f"{ACCOUNT}#big").limits == (), "what was learned goes with who learned it")


@law()
def conflicts_in_groups_are_told(scene: Scene) -> None:
    """A model group configured differently by two instances is a conflict too."""
    Actor(scene, "a").publish(groups={"big": (slots(5),)}, origin="/a")
    published = Actor(scene, "b").publish(groups={"big": (slots(6),)}, origin="/b")
    topics = [notice.topic for notice in published.notices]
    require(topics == ["limits-conflict"], f"the group's conflict is told: {published}")
    require(scene.limit(Kind.CONCURRENCY, f"{ACCOUNT}#big").amount == 5, "the strictest holds")


@law()
def configured_is_a_ceiling(scene: Scene) -> None:
    """What a user configured is stronger than any preset or guess, strict as those may be."""
    scene.instance("a", requests(30, 5, MINUTE, source=Source.GUESS))
    scene.instance("b", requests(500, 50, MINUTE))
    limit = scene.limit(Kind.REQUESTS)
    require((limit.amount, limit.source) == (500, Source.CONFIGURED), f"the configured one holds: {limit}")


@law()
def nobody_refills_by_publishing(scene: Scene) -> None:
    """A limit that is changed, withdrawn or published again keeps its level."""
    actor, other = scene.instance("a", tokens(100), slots(9)), scene.instance("b", slots(9))
    actor.hold(tokens=90)
    actor.publish(tokens(200), slots(9))
    require(scene.available(Kind.TOKENS) == 9, "a larger limit starts from what is left")
    actor.publish(slots(9))
    actor.publish(tokens(100), slots(9))
    require(scene.available(Kind.TOKENS) <= 9, "withdrawn and published again, it is as it was")
    actor.leave()
    back = scene.instance("a", tokens(100), slots(9))
    require(scene.available(Kind.TOKENS) <= 9, "nor does leaving and joining fill it")
    require(back.ask(tokens=50, timeout=0).refused == "timeout", "there is no second helping")
    other.beat()


@law()
def raised_limits_let_waiters_in(scene: Scene) -> None:
    """When limits rise, whoever fits now is granted in that operation."""
    actor = scene.instance("a", slots(1))
    actor.hold()
    waiters = [actor.wait() for _ in range(3)]
    actor.publish(slots(3))
    require([waiter.offered for waiter in waiters] == [True, True, False], "two more fit into three slots")


@law()
def lowered_limits_take_nothing_back(scene: Scene) -> None:
    """When limits fall, what is held stays held, and nobody is granted until it fits again."""
    actor = scene.instance("a", slots(3))
    held = [actor.hold() for _ in range(3)]
    actor.publish(slots(1))
    waiter = actor.wait()
    for request in held[:2]:
        request.settle()
    require(not waiter.offered, "one is still held, of one")
    held[2].settle()
    waiter.take()


@law()
def lowered_limits_refuse_waiters_that_exceed_them(scene: Scene) -> None:
    """A waiter that exceeds a limit lowered meanwhile is refused with the figures when it asks, and never granted."""
    actor = scene.instance("a", tokens(100), slots(1))
    holder = actor.hold(tokens=1)
    small, large, larger = actor.wait(tokens=5), actor.wait(tokens=80), actor.wait(tokens=90)
    actor.publish(tokens(50), slots(1))
    answer = larger.again().expect(Refused)
    require((answer.reason, answer.needed) == ("too_large", 90), f"90 of 50 is too large: {answer}")
    require(answer.limit is not None and answer.limit.burst == 50, f"the refusal names the limit: {answer}")
    holder.settle()
    small.take()
    require(large.offered and scene.node().held == 1, "when its turn comes it is woken, and takes nothing")
    require(large.again().refused == "too_large", f"to be refused: {large.answer}")
    require(scene.node().waiting == 0, "nobody waits any more")


@law()
def told_limits_refuse_waiters_that_exceed_them(scene: Scene) -> None:
    """The same where the provider tells a limit that is smaller than the preset was; nobody behind is held up."""
    actor = scene.instance("a", tokens(100, source=Source.PRESET), slots(1))
    holder = actor.hold(tokens=1)
    large, small = actor.wait(tokens=80), actor.wait(tokens=5)
    holder.settle(signals=Signals(told=(Told(Kind.TOKENS, 40),)))
    small.take()
    require(large.again().refused == "too_large", f"80 of 40 is too large: {large.answer}")


@law()
def an_old_revision_is_stale(scene: Scene) -> None:
    """Who resolved its model against older patterns is told the new ones; who published nothing, to publish."""
    actor = scene.instance("a", slots(9), groups={"big": ()})
    old = scene.revisions[ACCOUNT]
    Actor(scene, "b").publish(groups={"small-*": ()})
    answer = scene.run(Acquire(actor.incarnation, 77, ACCOUNT, group="big", revision=old))
    require(isinstance(answer, Stale) and answer.patterns == ("big", "small-*"), f"the patterns moved on: {answer}")
    require(isinstance(answer, Stale) and answer.revision == scene.revisions[ACCOUNT], "it names the new revision")
    scene.revisions["never"] = 0
    require(actor.ask(account="never").expect(Stale).revision == 0, "nothing was published for this one")
    require(scene.node().held == 0, "nothing was granted")


@law()
def withdrawing_leaves_the_others(scene: Scene) -> None:
    """Who publishes no limits any more is held to those of the others."""
    actor = scene.instance("a", slots(1))
    scene.instance("b", slots(2))
    actor.publish()
    require(scene.limit(Kind.CONCURRENCY).amount == 2, "the other's limit is in force")
    require([actor.ask(timeout=0).granted for _ in range(3)] == [True, True, False], "and it holds for both")


@law()
def the_cluster_is_limited_while_somebody_says_so(scene: Scene) -> None:
    """When the last instance that limits the cluster leaves, or withdraws it, there is no such limit any more."""
    first, second = scene.instance("a", requests(50)), scene.instance("b", requests(50))
    first.publish(slots(1), account=CLUSTER)
    held = second.hold()
    waiter = second.wait()
    require(scene.node(CLUSTER).held == 1, "it is counted across accounts")
    first.leave()
    waiter.take()
    require([node.node for node in scene.world().nodes if node.node == CLUSTER] == [], "there is no cluster node")
    second.publish(slots(1), account=CLUSTER)
    require(scene.node(CLUSTER).held == 2, "limited again, it counts what is held")
    again = second.wait()
    second.publish(account=CLUSTER)
    again.take()
    for request in (held, waiter, again):
        request.settle()
    require(scene.node().held == 0, "and every permit counted where it did")


@law()
def a_new_cluster_limit_counts_what_is_queued(scene: Scene) -> None:
    """Published while calls run and wait in several accounts, it holds for all of them, and each is counted once."""
    actor, other = scene.instance("a", slots(2)), scene.instance("b", slots(1), account="other")
    held = [actor.hold(), actor.hold(), other.hold(account="other")]
    waiters = [actor.wait(), other.wait(account="other")]
    actor.publish(slots(2), account=CLUSTER)
    cluster = scene.node(CLUSTER)
    require((cluster.held, cluster.waiting) == (3, 2), f"three are held, two wait: {cluster}")
    held[2].settle()
    require(not any(waiter.offered for waiter in waiters), "two of two are still held")
    held[0].settle()
    held[1].settle()
    for waiter in waiters:
        waiter.take().settle()
    cluster = scene.node(CLUSTER)
    require((cluster.held, cluster.waiting) == (0, 0), f"and nothing is left of them: {cluster}")


@law()
def a_new_cluster_limit_gets_nothing_back_that_it_did_not_give(scene: Scene) -> None:
    """What was charged before there was a cluster limit, or to an earlier one, is not returned to it."""
    actor = scene.instance("a", slots(9))
    before = actor.hold()
    actor.publish(requests(10), account=CLUSTER)
    earlier = actor.hold()
    actor.publish(account=CLUSTER)
    actor.publish(requests(10), account=CLUSTER)
    own = actor.hold()
    left = scene.available(Kind.REQUESTS, CLUSTER)
    for request in (before, earlier):
        request.settle(Outcome.IGNORED)
    require(scene.available(Kind.REQUESTS, CLUSTER) == left, f"{left} were left, and nothing of it was returned")
    own.settle(Outcome.IGNORED)
    require(scene.available(Kind.REQUESTS, CLUSTER) == left + 1, "its own is")
    require(scene.node(CLUSTER).held == 0, "and all that were held are counted out")


@law(Need.CLOCK)
def a_beat_tells_of_reserves_that_no_longer_fit(scene: Scene) -> None:
    """Where a told limit fades at a beat and the reserves exceed what is left, the beat's answer says so."""
    actor = scene.instance("a", requests(60, 10, MINUTE, source=Source.PRESET), slots(9))
    actor.hold(model="big").settle(signals=Signals(told=(Told(Kind.REQUESTS, 600),)))
    published = actor.publish(requests(60, 10, MINUTE, source=Source.PRESET), slots(9), reserve=100)
    require(published.notices == (), f"100 of 600 can be reserved: {published}")
    scene.pass_time(60 * MINUTE)
    topics = [notice.topic for notice in actor.beat().notices]
    require(topics == ["reserve-scaled"], f"100 of 60 cannot: {topics}")
    require(actor.beat().notices == (), "it is said once")


@law()
def too_large_reserves_are_scaled(scene: Scene) -> None:
    """Reserves that add up to more than the limit are scaled down in proportion, with a notice."""
    first = scene.instance("a", requests(60, 10, MINUTE), reserve=60)
    second = Actor(scene, "b")
    published = second.publish(requests(60, 10, MINUTE), reserve=30)
    require([notice.topic for notice in published.notices] == ["reserve-scaled"], f"it is said: {published}")
    reserves = {flow.incarnation: flow.reserve for flow in scene.node().flows}
    require(reserves == {first.incarnation: 40, second.incarnation: 20}, f"60 are shared two to one: {reserves}")


@law()
def usage_is_shown(scene: Scene) -> None:
    """The snapshot shows what was granted lately, by instance, and counts those who have left."""
    actor, other = scene.instance("a", requests(50), weight=4), scene.instance("b", requests(50))
    for _ in range(3):
        actor.hold().settle()
    other.hold()
    used = {flow.incarnation: flow.used for flow in scene.node().flows}
    require(used == {actor.incarnation: 3, other.incarnation: 1}, f"three and one were granted: {used}")
    require(scene.node().flows[0].weight == 4, "and the weight")
    other.leave()
    require(scene.node().used == 4, "what the gone one used still counts")


@law(Need.CLOCK)
def usage_ends_after_a_minute(scene: Scene) -> None:
    """Current usage covers the last sixty seconds."""
    actor = scene.instance("a", requests(50))
    actor.hold()
    scene.pass_time(50_000_000)
    require(scene.node().used == 1, "it is still recent")
    scene.pass_time(15_000_000)
    require(scene.node().used == 0, "now it is not")


@law()
def names_may_be_anything(scene: Scene) -> None:
    """Odd and long names of instances, accounts, patterns and resources are kept apart and shown as they are."""
    for name in ODD_NAMES:
        actor = scene.instance(name, slots(1), account=name, groups={name: (slots(1),)})
        actor.hold(account=name, group=name, model=name)
        actor.lock(name, name)
    world = scene.world()
    require([instance.instance_id for instance in world.instances] == list(ODD_NAMES), "instances keep their names")
    nodes = {node.node: node.held for node in world.nodes}
    require(all(nodes[name] == nodes[f"{name}#{name}"] == 1 for name in ODD_NAMES), f"each has its own: {nodes}")
    require({lock.resource for lock in world.locks} == set(ODD_NAMES), "locks keep their names")


@law()
def bad_names_are_refused(scene: Scene) -> None:
    """A name that is empty, too long or has a zero byte is refused, and leaves nothing behind."""
    actor = scene.instance("a", slots(1))
    before = scene.world().nodes
    for name in BAD_NAMES:
        refused = [
            Join(name, "nonce", 1, "here", "here"),
            Configure(actor.incarnation, ACCOUNT, AccountSpec(groups=((name, ()),))),
            Lock(actor.incarnation, name, "token", 1_000_000),
        ]
        if name:  # the account without a name is the cluster
            refused.append(Configure(actor.incarnation, name, AccountSpec()))
        for op in refused:
            require(scene.refuses(op), f"{op} must be refused")
    require(scene.refuses(Configure(actor.incarnation, "a#b", AccountSpec())), "'#' separates groups from accounts")
    require(scene.world().nodes == before, "what was refused left something behind")


@law()
def bad_figures_are_refused(scene: Scene) -> None:
    """Weights, reserves and times below what makes sense are refused, and poison nothing."""
    actor = scene.instance("a", slots(1))
    for weight, reserve in ((0, 0), (-1, 0), (1, -1)):
        op = Configure(actor.incarnation, ACCOUNT, AccountSpec((slots(1),)), weight, reserve)
        require(scene.refuses(op), f"weight {weight}, reserve {reserve} must be refused")
    hidden = AccountSpec((slots(1), requests(5, 1 << 52)))
    require(scene.refuses(Configure(actor.incarnation, ACCOUNT, hidden)), "an inexact limit must be refused")
    require(scene.refuses(Configure(Actor(scene, "b").incarnation, ACCOUNT, hidden)), "also where another is stricter")
    actor.leave()
