"""Laws 7 and 8: how a permit ends, what it cost in the end, and what a response changes for everyone."""

from __future__ import annotations

from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    SECOND,
    Costs,
    Kind,
    Outcome,
    Signals,
    Source,
    Told,
    Waiting,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Scene, requests, require, slots, tokens

HOUR = 60 * MINUTE


@law()
def usage_corrects_tokens(scene: Scene) -> None:
    """Real usage corrects what was charged: less is given back, more is owed, unknown stays."""
    actor = scene.instance("a", tokens(1_000), slots(1))
    for used, left in ((40, 959), (200, 759), (100, 659), (None, 559), (900, -341)):
        actor.hold(tokens=100).settle(usage=None if used is None else Costs(tokens=used))
        require(scene.available(Kind.TOKENS) == left, f"used {used}: {left} should be left")
    actor.wait(tokens=1)


@law()
def the_provider_s_rule_decides(scene: Scene) -> None:
    """A limit that the provider does not correct, or does not refund, stays as charged."""
    spent = {
        (True, True): {Outcome.SUCCESS: 10, Outcome.REJECTED: 0, Outcome.ERROR: 10, Outcome.IGNORED: 0},
        (True, False): {Outcome.SUCCESS: 10, Outcome.REJECTED: 10, Outcome.TIMEOUT: 10, Outcome.IGNORED: 0},
        (False, True): {Outcome.SUCCESS: 50, Outcome.REJECTED: 0, Outcome.OVERLOADED: 50, Outcome.IGNORED: 0},
        (False, False): {Outcome.SUCCESS: 50, Outcome.REJECTED: 50, Outcome.ERROR: 50, Outcome.IGNORED: 0},
    }
    for (correct, refund), outcomes in spent.items():
        for outcome, cost in outcomes.items():
            account = f"{correct}-{refund}-{outcome.value}"
            limit = tokens(1_000, correct=correct, refund=refund)
            actor = scene.instance(account, limit, account=account)
            actor.hold(account=account, tokens=50).settle(
                outcome, usage=Costs(tokens=10), signals=Signals(kind=Kind.REQUESTS, retry_after=0)
            )
            left = scene.available(Kind.TOKENS, account)
            require(left == 999 - cost, f"{account}: {cost} of 50 should stay charged, and {left} of 999 are left")


@law()
def every_outcome_frees_the_slot(scene: Scene) -> None:
    """However a permit ends, its slot is free, and an ignored one has cost nothing."""
    for outcome in Outcome:
        account = outcome.value
        actor = scene.instance(account, slots(1), requests(10), account=account)
        require(actor.hold(account=account).settle(outcome).known, "it was held")
        require(scene.node(account).held == 0, f"{account} kept the slot")
    require(scene.available(Kind.REQUESTS, "ignored") == 9, "what was never sent costs nothing")
    require(scene.node("ignored").used == 0, "and counts as nothing")


@law()
def a_permit_ends_once(scene: Scene) -> None:
    """A second settlement, an unknown permit and a waiter have nothing to settle, and change nothing."""
    actor = scene.instance("a", tokens(1_000), slots(1))
    request = actor.hold(tokens=100)
    waiter = actor.wait(tokens=100)
    require(not waiter.settle(usage=Costs(tokens=5)).known, "a waiter holds nothing")
    require(request.settle(usage=Costs(tokens=50)).known, "the first settlement counts")
    require(not request.settle(usage=Costs(tokens=900)).known, "the second does not")
    require(request.cancel().was == "unknown", "nor does giving it back afterwards")
    require(scene.available(Kind.TOKENS) == 999 - 50 - 100, "50 were used and 100 are offered")
    require(waiter.take().settle(Outcome.IGNORED).known, "the waiter got the slot and gave it back")
    require(scene.available(Kind.TOKENS) == 999 - 50, "unused")


@law()
def an_offer_can_be_settled(scene: Scene) -> None:
    """A permit that was offered is held, whether or not its waiter asked again."""
    actor = scene.instance("a", slots(1))
    holder, waiter = actor.hold(), actor.wait()
    holder.settle()
    require(waiter.settle().known, "the offer was a permit")
    require(scene.node().held == 0, "and has ended")


@law(Need.CLOCK)
def a_retry_after_pauses_everyone(scene: Scene) -> None:
    """A Retry-After holds for the whole account, the longest of several, and for nobody else."""
    actor, other = scene.instance("a", requests(600, 100)), scene.instance("o", requests(600, 100))
    other.publish(requests(600, 100), account="elsewhere")
    held = [actor.hold() for _ in range(3)]
    for request, seconds in zip(held, (5, 20, 3), strict=True):
        request.settle(Outcome.OVERLOADED, signals=Signals(retry_after=seconds * SECOND))
    pause = scene.node().paused_until - scene.world().at.mono
    require(pause == 20 * SECOND, f"the longest holds, and it was {pause} µs")
    other.hold(account="elsewhere")
    require(other.ask(timeout=19 * SECOND).refused == "timeout", "a timeout within the pause cannot succeed")
    waiter = other.wait()
    require(waiter.expect(Waiting).not_before == scene.node().paused_until, "it waits for the end of the pause")
    scene.pass_time(20 * SECOND)
    require(waiter.again().granted, "then it goes on")


@law(Need.CLOCK)
def one_cut_per_overload(scene: Scene) -> None:
    """The first rejection of an epoch moves it and drains the bucket; its echoes change nothing."""
    actor = scene.instance("a", requests(600, 100, MINUTE))
    held = [actor.hold() for _ in range(6)]
    rejected = Signals(kind=Kind.REQUESTS)
    held[0].settle(Outcome.REJECTED, signals=rejected, draw=1 << 31)
    first = scene.node()
    require(first.epochs == (1, 0, 0), f"the epoch of requests moved: {first.epochs}")
    require(scene.available(Kind.REQUESTS) == 1, "the provider's bucket is empty: one trial may go first")
    for echo in held[1:5]:
        echo.settle(Outcome.REJECTED, signals=rejected, draw=1 << 31)
    require(scene.node().epochs == first.epochs, "echoes moved the epoch")
    require(scene.node().paused_until == first.paused_until, "echoes made the pause longer")
    held[5].settle(Outcome.REJECTED, signals=Signals(kind=Kind.TOKENS))
    require(scene.node().epochs == (1, 1, 0), "another kind has its own epoch")


@law(Need.CLOCK)
def pauses_without_a_word_grow(scene: Scene) -> None:
    """Without a Retry-After the pause doubles with each rejection in a row, up to 32 s, and starts anew after."""
    actor = scene.instance("a", requests(60_000, 1_000, MINUTE))
    pauses = []
    for turn in range(8):
        if turn == 6:
            for _ in range(3):
                actor.hold().settle()
        actor.hold().settle(Outcome.REJECTED, signals=Signals(kind=Kind.REQUESTS), draw=1 << 31)
        pauses.append((scene.node().paused_until - scene.world().at.mono) // SECOND)
        scene.pass_time(40 * SECOND)
    require(pauses == [1, 2, 4, 8, 16, 32, 1, 2], f"the pauses were {pauses} s")


@law(Need.CLOCK)
def what_was_sent_before_an_overload_does_not_end_it(scene: Scene) -> None:
    """Requests granted before an overload say nothing of the time after it, however late their responses come."""
    actor = scene.instance("a", requests(60_000, 1_000, MINUTE))
    slow = [actor.hold() for _ in range(5)]
    pauses = []
    for _ in range(2):
        actor.hold().settle(Outcome.REJECTED, signals=Signals(kind=Kind.REQUESTS), draw=1 << 31)
        pauses.append((scene.node().paused_until - scene.world().at.mono) // SECOND)
        scene.pass_time(40 * SECOND)
        for permit in slow:
            permit.settle()
    require(pauses == [1, 2], f"the pauses were {pauses} s")


@law()
def jitter_stays_within_a_fifth(scene: Scene) -> None:
    """The draw spreads a pause by no more than 20 % either way."""
    for draw, low, high in ((0, 800_000, 800_000), ((1 << 32) - 1, 1_199_000, 1_200_000)):
        account = f"draw-{draw}"
        actor = scene.instance(account, requests(10), account=account)
        settled = actor.hold(account=account).settle(Outcome.REJECTED, signals=Signals(kind=Kind.REQUESTS), draw=draw)
        pause = settled.paused_until - settled.at.mono
        require(low <= pause <= high, f"draw {draw} of 1 s gave {pause} µs")


@law()
def exhausted_quota_teaches_nothing(scene: Scene) -> None:
    """Where waiting does not help, nothing is paused, drained or moved."""
    actor = scene.instance("a", requests(10))
    before = scene.node()
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=60 * SECOND, exhausted="insufficient_quota"))
    after = scene.node()
    require((after.epochs, after.paused_until) == (before.epochs, 0), f"{after} is changed")
    require(after.limits == before.limits, "the rejected request was refunded")


@law()
def told_limits_replace_guesses(scene: Scene) -> None:
    """A limit that the provider states replaces a preset or a guess, never what the user configured."""
    told = Signals(told=(Told(Kind.REQUESTS, 1_200, remaining=7, period=DAY), Told(Kind.TOKENS, 50_000, period=DAY)))
    for source, expected in ((Source.GUESS, 1_200), (Source.PRESET, 1_200), (Source.CONFIGURED, 60)):
        account = f"source-{source.value}"
        actor = scene.instance(account, requests(60, 10, source=source), account=account)
        actor.hold(account=account).settle(signals=told)
        limit = scene.limit(Kind.REQUESTS, account)
        require(limit.amount == expected, f"{source.value}: {expected} should hold, not {limit}")
        require(limit.available <= 9, "a raised limit gives nobody a full bucket")
        new = scene.limit(Kind.TOKENS, account)
        require((new.amount, new.source) == (50_000, Source.TOLD), f"an unknown kind is learned: {new}")


@law()
def the_strictest_told_limit_holds(scene: Scene) -> None:
    """Several models that share a node may tell different limits; the strictest of them holds."""
    actor = scene.instance("a", requests(600_000, source=Source.GUESS))
    for model, amount in (("large", 500), ("small", 2_000), ("large", 400)):
        actor.hold(model=model).settle(signals=Signals(told=(Told(Kind.REQUESTS, amount),)))
    require(scene.limit(Kind.REQUESTS).amount == 400, "the latest of the strictest model holds")


@law(Need.CLOCK)
def told_limits_fade(scene: Scene) -> None:
    """A told limit holds for an hour after it was told last; then what was in force before it is again."""
    preset = requests(600, period=MINUTE, source=Source.PRESET)
    actor = scene.instance("a", preset, groups={"big": ()})
    told = Signals(told=(Told(Kind.REQUESTS, 60_000),))
    actor.hold(model="small").settle(signals=told)
    actor.hold(group="big", model="big-1").settle(signals=told)
    scene.pass_time(HOUR - SECOND)
    actor.beat()
    require(scene.limit(Kind.REQUESTS).source is Source.TOLD, "it is still believed")
    actor.hold(model="small").settle(signals=told)
    scene.pass_time(SECOND)
    actor.beat()
    require(scene.node(f"{ACCOUNT}#big").limits == (), "the group's was told once only, an hour ago")
    require(scene.limit(Kind.REQUESTS).source is Source.TOLD, "the other was confirmed")
    scene.pass_time(HOUR)
    actor.publish(preset, groups={"big": ()})
    limit = scene.limit(Kind.REQUESTS)
    require((limit.amount, limit.source) == (600, Source.PRESET), f"now the preset is all that is known: {limit}")


@law(Need.CLOCK)
def a_model_that_is_silent_has_no_say(scene: Scene) -> None:
    """The strictest of several models stops holding back the others when it has not told its limit for an hour."""
    actor = scene.instance("a", requests(600_000, source=Source.GUESS))
    for model, amount in (("large", 500), ("small", 2_000)):
        actor.hold(model=model).settle(signals=Signals(told=(Told(Kind.REQUESTS, amount),)))
    for _ in range(2):
        scene.pass_time(HOUR // 2)
        actor.hold(model="small").settle(signals=Signals(told=(Told(Kind.REQUESTS, 2_000),)))
        actor.beat()
    require(scene.limit(Kind.REQUESTS).amount == 2_000, "only the one that is used counts")


@law()
def a_group_learns_for_itself(scene: Scene) -> None:
    """What is told for a model of a group holds for that group."""
    actor = scene.instance("a", requests(60), groups={"big": (requests(30, source=Source.PRESET),)})
    actor.hold(group="big", model="big-1").settle(signals=Signals(told=(Told(Kind.REQUESTS, 20),)))
    require(scene.limit(Kind.REQUESTS, f"{ACCOUNT}#big").amount == 20, "the group has the told limit")
    require(scene.limit(Kind.REQUESTS).amount == 60, "the account keeps its own")


@law()
def absurd_figures_are_not_believed(scene: Scene) -> None:
    """A told limit below one, or beyond exact integers, changes nothing."""
    actor = scene.instance("a", requests(60, source=Source.GUESS))
    told = (Told(Kind.TOKENS, 0), Told(Kind.TOKENS, 1 << 52), Told(Kind.INPUT_TOKENS, 5, period=0))
    actor.hold().settle(signals=Signals(told=told))
    require([limit.kind for limit in scene.node().limits] == [Kind.REQUESTS], "nothing was learned")
