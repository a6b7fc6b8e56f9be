"""Laws 1, 2 and 7 at the gate: what is granted, what is refused, and what it takes from whom."""

from __future__ import annotations

import msgspec

from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Configure,
    Costs,
    Granted,
    Kind,
    Refused,
    Source,
    Waiting,
)
from cross_instance.testing.clock import START_OF_2026
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Scene, limit, requests, require, slots, tokens

BUCKETS = tuple(kind for kind in Kind if kind is not Kind.CONCURRENCY)


@law()
def all_or_nothing(scene: Scene) -> None:
    """A grant takes from every limit on its path, or from none."""
    actor = scene.instance("a", requests(10), tokens(100), slots(1))
    actor.hold(tokens=5)
    after_one = [limit.available for limit in scene.node().limits]
    require(after_one == [8, 94, 0], f"one grant takes one request, 5 tokens and the slot, and left {after_one}")
    waiter = actor.wait(tokens=5)
    waiter.cancel()
    left = [limit.available for limit in scene.node().limits]
    require(left == after_one, f"a waiter takes nothing, and left {left}")


@law()
def a_grant_spans_the_tree(scene: Scene) -> None:
    """What the cluster, the account or the group cannot give is taken from none of them."""
    actor = scene.instance("a", slots(3), groups={"big": (slots(2),)})
    actor.publish(slots(1), account="")
    holder = actor.hold(group="big")
    actor.wait(group="big")
    held = [scene.node(name).held for name in ("", ACCOUNT, f"{ACCOUNT}#big")]
    require(held == [1, 1, 1], f"cluster, account and group each hold one, not {held}")
    holder.settle()


@law()
def each_kind_admits_its_burst_and_no_more(scene: Scene) -> None:
    """A full bucket of each kind gives its burst less the guard, at once, and nothing beyond."""
    for kind in BUCKETS:
        account = f"kind:{kind.value}"
        actor = scene.instance(kind.value, limit(kind, 10), account=account)
        granted = sum(actor.ask(account=account, timeout=0, costs=Costs(1, 1, 1, 1)).granted for _ in range(12))
        require(granted == 9, f"{kind.value}: 9 of a burst of 10 with a guard of 1 are granted, not {granted}")


@law()
def slots_are_never_exceeded(scene: Scene) -> None:
    """Never more at once than a concurrency limit has slots."""
    actor = scene.instance("a", slots(3))
    asked = [actor.ask() for _ in range(5)]
    require([one.granted for one in asked] == [True] * 3 + [False] * 2, "3 of 5 fit into 3 slots")
    asked[0].settle()
    require(scene.node().held == 3, "the next took the freed slot in the same operation")
    asked[3].take()


@law(Need.CLOCK)
def a_bucket_gives_its_rate(scene: Scene) -> None:
    """Over any time T a saturated bucket gives `rate * T`, and never more than `burst + rate * T`."""
    actor = scene.instance("a", requests(60, 5, MINUTE))
    grants = []
    for step in range(1_200):
        grants.extend([step] * actor.ask(timeout=0).granted)
        scene.pass_time(SECOND // 10)
    require(len(grants) == 4 + 119, f"4 at once and one each second for 119.9 s, not {len(grants)}")
    within = max(sum(start <= step < start + 100 for step in grants) for start in grants)
    require(within <= 5 + 10, f"{within} in 10 s is more than the burst and ten seconds' worth")


@law(Need.CLOCK)
def a_refill_is_exact(scene: Scene) -> None:
    """A waiter is granted at the very microsecond in which its tokens are there, and never drifts from it."""
    actor = scene.instance("a", tokens(7, 7, MINUTE))
    actor.hold(tokens=6)
    start = scene.world().at.mono
    for count in range(1, 15):
        waiter = actor.wait(tokens=1)
        due = start + -(-count * MINUTE // 7)
        require(waiter.expect(Waiting).not_before == due, f"token {count} is due at {due}: {waiter.answer}")
        scene.pass_time(due - 1 - scene.world().at.mono)
        require(waiter.again().waiting, "a microsecond early is too early")
        scene.pass_time(1)
        require(waiter.again().granted, "at the exact instant it is granted")


@law(Need.CLOCK)
def hours_idle_add_nothing(scene: Scene) -> None:
    """A bucket that idles for days is full, and not fuller."""
    actor = scene.instance("a", tokens(90_000, 500, MINUTE), requests(600, 20, MINUTE))
    for idle in (25 * 60 * MINUTE, 40 * DAY, 1):
        scene.pass_time(idle)
        left = [limit.available for limit in scene.node().limits]
        require(left == [19, 499], f"full buckets hold 19 and 499, not {left}")
        for _ in range(19):
            actor.hold(tokens=26)
        require(actor.ask(timeout=0).refused == "timeout", "the burst is spent")
        scene.pass_time(MINUTE)


@law()
def the_guard_follows_the_delay(scene: Scene) -> None:
    """What the delay from grant to send may bunch together stays unspent; it grows at once and shrinks slowly."""
    actor = scene.instance("a", requests(600, 200, MINUTE))
    guards = []
    for delay in (0, SECOND // 2, 0, 60 * SECOND):
        actor.hold().settle(delay=delay)
        guards.append(scene.limit(Kind.REQUESTS).guard)
    require(guards == [1, 5, 5, 10], f"guards of 600/min follow the spread, up to a second's worth, not {guards}")
    for _ in range(64):
        actor.hold().settle()
    guard = scene.limit(Kind.REQUESTS).guard
    require(guard == 4, f"what was longer than a second is forgotten like a second, not {guard} after 64 at once")


@law(Need.CLOCK)
def a_fixed_window_fills_at_its_boundary(scene: Scene) -> None:
    """An anchored limit is counted by the wall clock's windows, whole, and refilled at the boundary."""
    scene.pass_time(DAY - 10 * SECOND)
    actor = scene.instance("a", limit(Kind.REQUESTS_DAY, 3, 3, DAY, anchor=START_OF_2026 - 30 * DAY))
    for _ in range(3):
        actor.hold()
    fourth = actor.wait()
    wait = fourth.expect(Waiting).not_before - fourth.answer.at.mono
    require(wait == 10 * SECOND, f"the next window opens in 10 s, not in {wait} µs")
    scene.pass_time(wait)
    require(fourth.again().granted, "the new window is there")
    require(scene.available(Kind.REQUESTS_DAY) == 2, "and it has two left")


@law(Need.CLOCK)
def a_fixed_window_closes_early(scene: Scene) -> None:
    """What is granted last may be counted in the next window: none in the measured delay before the boundary."""
    actor = scene.instance("a", limit(Kind.REQUESTS_DAY, 9, 9, DAY, anchor=START_OF_2026))
    actor.hold().settle(delay=SECOND // 4)
    scene.pass_time(DAY - SECOND // 4 - 1)
    actor.hold()
    scene.pass_time(1)
    late = actor.wait().expect(Waiting)
    require(late.not_before - late.at.mono == SECOND // 4, f"the last quarter of a second is left out: {late}")
    require(actor.ask(timeout=0).refused == "timeout", "for everybody")
    scene.pass_time(SECOND // 4)
    require(sum(actor.ask(timeout=0).granted for _ in range(9)) == 8, "the waiter was first, then eight of nine")


@law()
def too_large_is_refused(scene: Scene) -> None:
    """A request beyond a configured limit's burst is refused with the figures, contended or not."""
    actor = scene.instance("a", tokens(100), slots(1))
    for contended in (False, True):
        answer = actor.ask(tokens=101).expect(Refused)
        require((answer.reason, answer.needed) == ("too_large", 101), f"101 of 100 is too large: {answer}")
        require(answer.limit is not None and answer.limit.burst == 100, "the refusal names the limit")
        if not contended:
            actor.hold(tokens=1)


@law()
def a_guessed_limit_lets_a_large_request_pass(scene: Scene) -> None:
    """Against a guess a large request takes the whole bucket and owes the rest."""
    for source in (Source.GUESS, Source.PRESET):
        account = f"source:{source.value}"
        actor = scene.instance(source.value, tokens(100, source=source), account=account)
        actor.hold(account=account, tokens=250)
        require(scene.available(Kind.TOKENS, account) == 99 - 250, "what is owed is owed")
        actor.wait(account=account, tokens=1)


@law(Need.CLOCK)
def a_wait_that_cannot_succeed_is_refused(scene: Scene) -> None:
    """A timeout shorter than the wait's lower bound is refused at once, with that bound; a longer one waits."""
    actor = scene.instance("a", tokens(60, 60, MINUTE))
    actor.hold(tokens=59).settle()
    answer = actor.ask(tokens=10, timeout=10 * SECOND - 1).expect(Refused)
    require((answer.reason, answer.retry_after) == ("timeout", 10 * SECOND), f"10 tokens take 10 s: {answer}")
    require(answer.limit is not None and answer.limit.kind is Kind.TOKENS, "the refusal names the limit")
    actor.wait(tokens=10, timeout=10 * SECOND)


@law(Need.CLOCK)
def what_may_come_back_is_waited_for(scene: Scene) -> None:
    """While a permit in flight may return tokens, nobody is refused at once for want of them; requests stay taken."""
    actor = scene.instance("a", tokens(60, 60, MINUTE))
    holder = actor.hold(tokens=59)
    waiter = actor.wait(tokens=10, timeout=SECOND)
    require(actor.ask(tokens=10, timeout=0).refused == "timeout", "who does not wait is refused as before")
    holder.settle(usage=Costs(tokens=9))
    waiter.take()
    for account, correct in (("kept", tokens(60, 60, MINUTE, correct=False)), ("requests", requests(60, 2, MINUTE))):
        other = scene.instance(account, correct, account=account)
        other.hold(account=account, tokens=59)
        refused = other.ask(account=account, tokens=10, timeout=SECOND - 1).refused
        require(refused == "timeout", f"{account}: nothing comes back where the provider returns nothing")


@law(Need.CLOCK)
def missing_slots_hide_no_other_bound(scene: Scene) -> None:
    """Who waits for a slot and for requests waits at least for the requests."""
    actor = scene.instance("a", requests(6, 2, MINUTE), slots(1))
    actor.hold()
    require(actor.ask(timeout=SECOND).refused == "timeout", "the next request is not there within 1 s")
    answer = actor.wait().expect(Waiting)
    require(answer.not_before == answer.at.mono + 10 * SECOND, f"a request takes 10 s: {answer}")


@law()
def without_a_timeout_nobody_waits(scene: Scene) -> None:
    """`timeout=0` is answered at once, and leaves nothing in the queue."""
    actor = scene.instance("a", slots(1))
    actor.hold(timeout=0)
    require(actor.ask(timeout=0).refused == "timeout", "the slot is taken")
    require(scene.node().waiting == 0, "nobody waits")


@law()
def every_limit_holds_on_its_own(scene: Scene) -> None:
    """Two providers, two accounts, two models and the cluster: each limit holds, and none for the others."""
    actor = scene.instance("a", slots(9), account="openai:main", groups={"small": (slots(2),), "big": (slots(1),)})
    actor.publish(requests(3), account="openai:other")
    actor.publish(slots(4), account="anthropic:main")
    actor.publish(slots(8), account="")
    wanted = (
        ("openai:main", "small", 2),
        ("openai:main", "big", 1),
        ("openai:other", "", 2),
        ("anthropic:main", "", 3),  # the cluster's eight slots end here
    )
    for account, group, expected in wanted:
        granted = sum(actor.ask(account=account, group=group, timeout=0).granted for _ in range(6))
        require(granted == expected, f"{account} {group}: {expected} should be granted, not {granted}")


@law()
def uncontended_is_one_operation(scene: Scene) -> None:
    """Without contention one operation takes a permit and one returns it; nobody is woken."""
    actor = scene.instance("a", requests(10), slots(2))
    request = actor.hold()
    settled = request.settle()
    require(request.answer.wakes == () and settled.wakes == (), "there is nobody to wake")
    require(request.expect(Granted).waited == 0, "it did not wait")
    require(scene.node().held == 0, "the slot is back")


@law()
def absurd_requests_are_refused(scene: Scene) -> None:
    """Costs, timeouts and fences out of bounds are refused, and charge nobody."""
    actor = scene.instance("a", tokens(100), slots(5))
    fair = Acquire(actor.incarnation, 1, ACCOUNT, revision=scene.revisions[ACCOUNT])
    absurd: list[dict[str, object]] = [{"group": "unheard-of"}]
    for figure in (-1, 1 << 60):
        absurd += [{"timeout": figure}, {"seq": figure}, {"costs": Costs(tokens=figure)}]
        absurd += [{"costs": Costs(output_tokens=figure)}]  # though nobody limits those
    for fields in absurd:
        require(scene.refuses(msgspec.structs.replace(fair, **fields)), f"{fields} must be refused")
    require([limit.available for limit in scene.node().limits] == [99, 5], "nothing was charged")


@law()
def exact_up_to_2_to_the_53(scene: Scene) -> None:
    """Figures are counted exactly as far as a double is exact; beyond, and below one, they change nothing."""
    actor = scene.instance("a")
    amount = 1_000_003  # no common divisor with a day's microseconds, so that units are counted in DAY-ths
    burst = ((1 << 53) - 1 - amount) // DAY - 1
    actor.publish(tokens(amount, burst), account="large")
    actor.hold(account="large", tokens=burst - 2)
    require(scene.available(Kind.TOKENS, "large") == 1, "all but the guard and one were taken, to the unit")
    before = scene.world().nodes
    refused = (tokens(amount, burst + 1), requests(0), requests(5, 0), requests(5, 5, 0), requests(-5), slots(0))
    for spec in refused:
        op = Configure(actor.incarnation, "large", AccountSpec((spec,)))
        require(scene.refuses(op), f"{spec} must be refused")
    require(scene.world().nodes == before, "a refused configuration left something behind")
