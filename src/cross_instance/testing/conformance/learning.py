"""Law 8 where limits are hidden: what overloads, silence, headers and settings make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import (
    MINUTE,
    SECOND,
    AccountSpec,
    Configure,
    Costs,
    Keep,
    Kind,
    Learning,
    Outcome,
    Signals,
    Source,
    Told,
    Unlearn,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.scene import ACCOUNT, Scene, requests, require, slots, tokens

if TYPE_CHECKING:
    from cross_instance.rules.operations import LearnedState, LimitSpec
    from cross_instance.testing.conformance.scene import Actor

LEARNING = Learning()


def learner(scene: Scene, *limits: LimitSpec, learning: Learning | None = LEARNING) -> Actor:
    """An instance whose account learns its limits."""
    actor = scene.instance("a", *limits)
    say(actor, *limits, learning=learning)
    return actor


def say(actor: Actor, *limits: LimitSpec, learning: Learning | None = LEARNING) -> None:
    """Publish limits, and how to learn them."""
    actor.scene.run(Configure(actor.incarnation, ACCOUNT, AccountSpec(limits, learning=learning)))


def learned(scene: Scene) -> LearnedState:
    """What is learned of the account."""
    found = scene.node().learned
    if found is None:
        raise AssertionError("nothing is learned")
    return found


def preset(amount: int, burst: int = 100) -> LimitSpec:
    """Requests per minute that nobody configured."""
    return requests(amount, burst, MINUTE, source=Source.PRESET)


def busy(scene: Scene, actor: Actor, seconds: int, rate: int, every: int = SECOND // 10) -> int:
    """Use up to `rate` requests a minute for a while, each answered at once; how many were granted."""
    count = due = 0
    for _ in range(seconds * SECOND // every):
        scene.pass_time(every)
        due += rate * every
        while due >= MINUTE and (request := actor.ask(timeout=0)).granted:
            request.settle()
            count, due = count + 1, due - MINUTE
        due = min(due, MINUTE)
    return count


def overrun_twice(scene: Scene, actor: Actor) -> None:
    """Two overloads, each met by the eighth call at once."""
    for _ in range(2):
        held = [actor.hold() for _ in range(3)]
        scene.pass_time(6 * SECOND)
        held += [actor.hold() for _ in range(5)]
        held.pop().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
        for request in held:
            request.settle()
        scene.pass_time(SECOND)


@law(Need.LEARNING)
def nothing_is_learned_where_nobody_wants_it(scene: Scene) -> None:
    """Without the word of every live instance, overloads change no limit."""
    actor, other = learner(scene, preset(60)), scene.instance("b", preset(60))
    require(scene.node().learned is None, "one of two does not want it")
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    require(scene.limit(Kind.REQUESTS).source is Source.PRESET, "the preset stands")
    other.leave()
    require(scene.node().learned is not None, "the one that is left does")


@law(Need.CLOCK, Need.LEARNING)
def a_preset_is_only_a_start(scene: Scene) -> None:
    """A rate that is used and meets no overload doubles; one that is not used stays."""
    actor = learner(scene, preset(120))
    busy(scene, actor, 12, 1_000)
    state, limit = learned(scene), scene.limit(Kind.REQUESTS)
    require(state.rate >= 240_000, f"it has doubled: {state}")
    require(limit.source is Source.LEARNED, f"and is in force: {limit}")
    busy(scene, actor, 60, 30)
    require(learned(scene).rate == state.rate, "unused, it stays")


@law(Need.CLOCK, Need.LEARNING)
def a_configured_limit_is_a_ceiling(scene: Scene) -> None:
    """What was configured holds until the first overload, and is never passed after it."""
    actor = learner(scene, requests(240, 10, MINUTE))
    busy(scene, actor, 20, 1_000)
    require(scene.node().learned is None, "nothing is to be learned yet")
    scene.pass_time(SECOND)
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=SECOND))
    require(learned(scene).rate < 240_000, "less is allowed")
    require(scene.limit(Kind.REQUESTS).source is Source.LEARNED, "by what was learned")
    busy(scene, actor, 120, 1_000)
    limit = scene.limit(Kind.REQUESTS)
    require((limit.source, limit.amount) == (Source.CONFIGURED, 240), f"it is reached again: {limit}")


@law(Need.CLOCK, Need.LEARNING)
def a_configured_burst_is_a_ceiling_too(scene: Scene) -> None:
    """What is learned lets in no more at once than was configured, of requests and of tokens."""
    actor = learner(scene, requests(600, 1, MINUTE), tokens(60_000, 100, MINUTE))
    actor.hold().settle(Outcome.REJECTED, signals=Signals(kind=Kind.REQUESTS, retry_after=0))
    busy(scene, actor, 20, 1_000)
    scene.pass_time(2 * SECOND)
    actor.hold(costs=Costs(tokens=50)).settle(Outcome.REJECTED, signals=Signals(kind=Kind.TOKENS, retry_after=0))
    for kind, burst in ((Kind.REQUESTS, 1), (Kind.TOKENS, 100)):
        limit = scene.limit(kind)
        require(limit.source is Source.LEARNED, f"it is learned: {limit}")
        require(limit.burst <= burst, f"no more than {burst} at once: {limit}")


@law(Need.LEARNING)
def one_cut_of_the_learned_rate_per_overload(scene: Scene) -> None:
    """The first rejection of an epoch cuts the rate, its echoes are counted and change nothing."""
    actor = learner(scene, preset(6_000, 6_000))
    held = [actor.hold() for _ in range(6)]
    held[0].settle(Outcome.REJECTED, signals=Signals(retry_after=SECOND))
    first = learned(scene)
    require(first.rate < 6_000_000, f"the first cuts: {first}")
    for echo in held[1:5]:
        echo.settle(Outcome.REJECTED, signals=Signals(retry_after=SECOND))
    last = learned(scene)
    require((last.rate, last.rejected) == (first.rate, 5), f"the echoes do not, and are counted: {last}")
    held[5].settle(Outcome.REJECTED, signals=Signals(exhausted="no credit"))
    require(learned(scene).rejected == 5, "exhausted quota teaches nothing")


@law(Need.CLOCK, Need.LEARNING)
def between_two_overloads_lies_the_limit(scene: Scene) -> None:
    """What was accepted between two overloads, by the time between, is what the limit is taken to be."""
    actor = learner(scene, preset(600, 600))
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    count = busy(scene, actor, 30, 1_000)
    scene.pass_time(SECOND)
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    state = learned(scene)
    share = state.estimate * 31 // (60 * count)
    require(950 <= share <= 1_050, f"{count} were accepted in 31 s: {state}")
    require((state.measured, state.span) == (count, 31 * SECOND), f"the evidence is told: {state}")


@law(Need.CLOCK, Need.LEARNING)
def one_request_goes_first_after_a_pause(scene: Scene) -> None:
    """The first request after a pause is a trial: the next ones wait a quarter longer than its 429 would take."""
    actor = learner(scene, preset(6_000, 6_000))
    first, echo = actor.hold(), actor.hold()
    scene.pass_time(SECOND // 5)
    first.settle(Outcome.REJECTED, signals=Signals(retry_after=SECOND))
    echo.settle(Outcome.REJECTED, signals=Signals(retry_after=SECOND))
    scene.pass_time(SECOND)
    require(actor.ask(timeout=0).granted, "the trial")
    scene.pass_time(SECOND // 4 - 1)
    require(not actor.ask(timeout=0).granted, "the others wait until its 429 would have been heard")
    scene.pass_time(1)
    require(actor.ask(timeout=0).granted and actor.ask(timeout=0).granted, "and then go as before")


@law(Need.CLOCK, Need.LEARNING)
def a_climb_that_confirms_the_limit_loses_nothing_by_its_pause(scene: Scene) -> None:
    """The provider went on meanwhile: after the trial as many may go at once as its last second gave."""
    actor = learner(scene, preset(240, 4), learning=Learning(highest=240_000))
    state = learned(scene)
    for seconds in (5, 40, 40, 40):
        busy(scene, actor, seconds, 300, SECOND // 4)
        scene.pass_time(SECOND // 2)
        state = learned(scene)
        actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=SECOND))
    require(state.phase == "climb", f"an estimate was to be confirmed: {state}")
    state = learned(scene)
    require(state.phase == "cruise", f"it is confirmed: {state}")
    scene.pass_time(SECOND)
    count = 0
    while (request := actor.ask(timeout=0)).granted:
        request.settle()
        count += 1
    require(count >= state.rate // 60_000 - 1, f"{count} of a second's {state.rate // 60_000}")


@law(Need.CLOCK, Need.LEARNING)
def successes_put_off_no_step(scene: Scene) -> None:
    """While ever more is in flight, each success with more of it than before is noted; the rate still grows in time."""
    actor = learner(scene, preset(6_000, 6_000))
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    before, latest = learned(scene).rate, actor.hold()
    for tenth in range(80):
        scene.pass_time(SECOND // 10)
        while (request := actor.ask(timeout=0)).granted:
            latest = request
        if tenth % 5 == 4:
            latest.settle()
    require(learned(scene).rate > before, f"a step of five seconds has been used: {learned(scene)}")


@law(Need.LEARNING)
def a_told_limit_is_believed_while_the_counts_agree(scene: Scene) -> None:
    """A stated limit is in force as it is; one that more was accepted under than it allows is doubted."""
    actor = learner(scene, preset(6_000, 6_000))
    told = Told(Kind.REQUESTS, 500)
    actor.hold().settle(signals=Signals(told=(told,)))
    limit = scene.limit(Kind.REQUESTS)
    require((limit.source, limit.amount) == (Source.TOLD, 500), f"it is believed: {limit}")
    other = learner_elsewhere(scene)
    for _ in range(90):
        other.hold(account="elsewhere").settle()
    other.hold(account="elsewhere").settle(signals=Signals(told=(Told(Kind.REQUESTS, 20),)))
    node = scene.node("elsewhere")
    require(node.learned is not None and node.learned.doubted, f"90 were accepted at once: {node.learned}")
    require(node.limits[0].source is not Source.TOLD, f"so it is not in force: {node.limits}")


def learner_elsewhere(scene: Scene) -> Actor:
    """An instance with another account."""
    actor = scene.instance("o", preset(6_000, 6_000), account="elsewhere")
    spec = AccountSpec((preset(6_000, 6_000),), learning=LEARNING)
    scene.run(Configure(actor.incarnation, "elsewhere", spec))
    return actor


@law(Need.LEARNING)
def a_named_kind_answers_for_itself(scene: Scene) -> None:
    """A rejection for concurrency or tokens leaves the rate of requests alone."""
    actor = learner(scene, preset(6_000, 6_000))
    held = [actor.hold(tokens=100) for _ in range(12)]
    held[11].settle(Outcome.REJECTED, signals=Signals(kind=Kind.CONCURRENCY, retry_after=0))
    state = learned(scene)
    require((state.cap, state.rate) == (11, 6_000_000), f"11 were in flight besides: {state}")
    require(scene.limit(Kind.CONCURRENCY).amount == 11, "and no more may be")
    held[0].settle(Outcome.REJECTED, signals=Signals(kind=Kind.TOKENS, retry_after=0))
    state = learned(scene)
    require(state.token_kind is Kind.TOKENS and state.tokens, f"tokens have a rate of their own: {state}")
    require(state.rate == 6_000_000, "the requests' stays")
    require(scene.limit(Kind.TOKENS).source is Source.LEARNED, "and it is in force")


@law(Need.LEARNING)
def a_configured_concurrency_is_not_passed(scene: Scene) -> None:
    """Slots that are learned lie below what is configured."""
    actor = learner(scene, preset(6_000, 6_000), slots(4))
    held = [actor.hold() for _ in range(4)]
    held[3].settle(Outcome.REJECTED, signals=Signals(kind=Kind.CONCURRENCY, retry_after=0))
    limit = scene.limit(Kind.CONCURRENCY)
    require((limit.amount, limit.source) == (3, Source.LEARNED), f"{limit}")
    say(actor, preset(6_000, 6_000), slots(2))
    limit = scene.limit(Kind.CONCURRENCY)
    require((limit.amount, limit.source) == (2, Source.CONFIGURED), f"{limit}")


@law(Need.CLOCK, Need.LEARNING)
def slots_that_are_tried_in_vain_leave_what_was_guessed(scene: Scene) -> None:
    """Two overloads at eight calls at once are tried; when the third comes at three, the guess is as it had grown."""
    actor = learner(scene, preset(6_000, 6_000), slots(4, source=Source.GUESS))
    overrun_twice(scene, actor)
    limit = scene.limit(Kind.CONCURRENCY)
    require((limit.amount, limit.source) == (7, Source.LEARNED), f"seven were in flight besides: {limit}")
    for _ in range(3):
        actor.hold().settle()
    held = [actor.hold() for _ in range(3)]
    held[2].settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    require(learned(scene).samples == (2,), f"that was none: {learned(scene)}")
    require(scene.limit(Kind.CONCURRENCY).amount >= 7, f"so more may be tried: {scene.limit(Kind.CONCURRENCY)}")


@law(Need.CLOCK, Need.LEARNING)
def what_slots_that_were_none_kept_back_does_not_go_at_once(scene: Scene) -> None:
    """While slots are tried the bucket fills up, for the rate is free; it is emptied when they are none."""
    actor = learner(scene, preset(6_000, 6_000))
    overrun_twice(scene, actor)
    require(scene.limit(Kind.CONCURRENCY).amount == 7, f"seven are tried: {scene.limit(Kind.CONCURRENCY)}")
    held = [actor.hold() for _ in range(6)]
    for _ in range(40):
        held.append(actor.hold())
        if learned(scene).cap == 0:
            break
        scene.pass_time(SECOND)
        while len(held) > learned(scene).cap - 1 > 0:
            held.pop(0).settle()
    require(learned(scene).cap == 0, f"eight went without a 429: {learned(scene)}")
    went = 0
    while went < 20 and actor.ask(timeout=0).granted:
        went += 1
    require(went <= 2, f"then one goes after the other, not {went} at once")


@law(Need.LEARNING)
def timeouts_cut_a_tenth(scene: Scene) -> None:
    """A timeout cuts what may be in flight by a tenth, rounded down, once: a lone call loses nothing."""
    actor = learner(scene, preset(6_000, 6_000))
    actor.hold().settle(Outcome.TIMEOUT)
    require(learned(scene).cap == 0, "one at a time is no overload")
    held = [actor.hold() for _ in range(20)]
    for request in reversed(held):
        request.settle(Outcome.TIMEOUT)
    require(learned(scene).cap == 18, f"{learned(scene)}")


@law(Need.CLOCK, Need.LEARNING)
def the_simple_mode_multiplies(scene: Scene) -> None:
    """In mode `simple` an overload reduces the rate by its factor, and success recovers it step by step."""
    actor = learner(scene, requests(100, 100, MINUTE), learning=Learning(simple=True, lowest=50_000))
    for _ in range(9):
        actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    require(learned(scene).rate == 50_000, f"not below the lowest: {learned(scene)}")
    busy(scene, actor, 30, 1_000)
    require(learned(scene).rate == 100_000, f"the configured limit is reached again: {learned(scene)}")


@law(Need.CLOCK, Need.LEARNING)
def bounds_hold_for_what_is_learned(scene: Scene) -> None:
    """A learned rate stays within the bounds that were set, and follows when they change."""
    actor = learner(scene, preset(60), learning=Learning(lowest=30_000, highest=90_000))
    busy(scene, actor, 30, 1_000)
    require(learned(scene).rate == 90_000, f"{learned(scene)}")
    say(actor, preset(60), learning=Learning(highest=70_000))
    require(learned(scene).rate == 70_000, f"{learned(scene)}")


@law(Need.LEARNING)
def what_was_learned_can_be_forgotten(scene: Scene) -> None:
    """Of one provider, account or model, or of all: then it begins anew."""
    actor = learner(scene, preset(6_000, 6_000))
    actor.hold().settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    require(learned(scene).rejected == 1, "something is learned")
    require(scene.run(Unlearn(provider="another")).nodes == (), "not of this provider")
    require(scene.run(Unlearn(account="another")).nodes == (), "not of this account")
    require(scene.run(Unlearn(account=ACCOUNT, model="m")).nodes == (ACCOUNT,), "of the models without a group")
    state = learned(scene)
    require((state.rejected, state.rate) == (0, 6_000_000), f"it begins anew: {state}")


@law(Need.LEARNING)
def what_was_learned_is_kept_once(scene: Scene) -> None:
    """A heartbeat says whether there is something to keep; kept, there is not."""
    actor = learner(scene, preset(6_000, 6_000))
    require(not getattr(actor.beat(), "unkept", True), "nothing yet")
    actor.hold(costs=Costs()).settle(Outcome.REJECTED, signals=Signals(retry_after=0))
    require(getattr(actor.beat(), "unkept", False), "now there is")
    require(scene.run(Keep(actor.incarnation)).nodes == (ACCOUNT,), "it is written")  # type: ignore[union-attr]
    require(not getattr(actor.beat(), "unkept", True), "and there is no more")
