"""The doctor's checks of limits: what is in force otherwise than it seems, and why a provider still refuses.

1. Each is a function of the settings and of what the store holds; it finds only what the store can tell.
2. Overloads are counted since the machine, or the server, was started: what was mended is not forgotten by the count.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from cross_instance.cli.checks import Check
from cross_instance.providers.presets import KNOWN
from cross_instance.rules.learning_values import UNIT
from cross_instance.rules.operations import CLUSTER, MINUTE, SECOND, Kind, Source
from cross_instance.status import LABELS, OTHER_MODELS, group_of, limits_of, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cross_instance.config import Settings
    from cross_instance.rules.operations import LimitSpec, LimitState, NodeState, World
    from cross_instance.status import Place

REFUSED = ("requests", "tokens", "calls at once")
"""What overloads are counted of, in the order of a node's epochs; one of which the provider does not say so counts as
all three."""
REMEDIES = {
    "requests": (frozenset({Kind.REQUESTS, Kind.REQUESTS_DAY}), "requestsPerMinute"),
    "tokens": (frozenset({Kind.TOKENS, Kind.INPUT_TOKENS, Kind.OUTPUT_TOKENS}), "tokensPerMinute"),
    "calls at once": (frozenset({Kind.CONCURRENCY}), "concurrency"),
}
"""The limits that hold each of them back, and the setting to reach for."""
NEAR = 0.75
"""How alike two names of providers are of which one is a misspelling."""


def findings(settings: Settings, world: World) -> Iterator[Check]:
    """Everything about limits."""
    yield from _learning(settings)
    yield from _misspelled(settings, world)
    yield from _guessed(settings, world)
    yield from _absent(settings, world)
    names = {instance.incarnation: instance.instance_id for instance in world.instances}
    for node in world.nodes:
        if node.node != CLUSTER and group_of(node.node) != OTHER_MODELS:  # which has a queue, and no limits
            yield from _otherwise(settings, node)
            yield from _shares(settings, names, node)
            yield from _refusals(settings, world, node)


def _learning(settings: Settings) -> Iterator[Check]:
    if not settings.adaptive.enabled:
        key = "adaptiveRateControl.enabled"
        yield Check("limits", "warn", f"limits are not learned ({settings.origin_of(key)})", f"set {key} to true")


def _misspelled(settings: Settings, world: World) -> Iterator[Check]:
    """Limits of a provider that nobody uses and whose name is nearly that of another."""
    used = {place_of(node.node).provider for node in world.nodes} - {""}
    known = {*KNOWN, *used}
    for name in sorted(settings.providers.keys() - known):
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=NEAR)
        if near:
            mend = f"if {near[0]} is meant, write providers.{near[0]}: its limits are not touched by what stands there"
            yield Check("limits", "warn", f"nobody uses a provider {name}, and limits are set for it", mend)


def _guessed(settings: Settings, world: World) -> Iterator[Check]:
    """Limits that nobody has confirmed."""
    used = {place_of(node.node).provider for node in world.nodes} - {""}
    guessed = sorted({limit.provider for limit in limits_of(world, settings) if limit.source == "guess"} & used)
    for provider in guessed:
        mend = f"set providers.{provider}.requestsPerMinute in .pi/config.json"
        yield Check("limits", "warn", f"the limits of {provider} are guessed", mend)


def _otherwise(settings: Settings, node: NodeState) -> Iterator[Check]:
    """Limits in force at an account in use that are not what the settings here say; what was learned below is none."""
    in_force = {limit.kind: limit for limit in node.limits}
    for limit in _wanted(settings, place_of(node.node)):
        found = in_force.get(limit.kind)
        if found is None or (found.source is not Source.LEARNED and _figures(found) != _figures(limit)):
            now = "nothing is" if found is None else f"{_text(found)} are"
            finding = f"{_named(node)}: {now} in force where the settings here say {_text(limit)}"
            mend = (
                "of all live instances' settings the strictest holds: a notice names those that differ; they follow "
                "their files within a heartbeat, and keep what they were given by variables or arguments"
            )
            yield Check("limits", "warn", finding, mend)


def _wanted(settings: Settings, place: Place) -> list[LimitSpec]:
    """What the settings here configure of an account or model group."""
    spec = settings.account_spec(place.provider, place.account)
    limits = dict(spec.groups).get(place.pattern, ()) if place.pattern else spec.limits
    return [limit for limit in limits if limit.source is Source.CONFIGURED]


def _absent(settings: Settings, world: World) -> Iterator[Check]:
    """Priorities and reserves that nobody has: they go by the instance's id."""
    alive = {instance.instance_id for instance in world.instances}
    absent = sorted(settings.instances.keys() - alive)
    if alive and absent:
        finding = f"a priority or reserve is set for {', '.join(absent)}: no live instance has that id (PI_INSTANCE_ID)"
        yield Check("instances", "ok", finding)


def _shares(settings: Settings, names: Mapping[int, str], node: NodeState) -> Iterator[Check]:
    """Priorities and reserves in force that are not what the settings here say."""
    for flow in node.flows:
        name = names.get(flow.incarnation, "")
        wanted = settings.weight_and_reserve(name)
        if name in settings.instances and (flow.weight, flow.reserve) != wanted:
            now, here = (
                f"priority {weight} and reserve {of}/min" for weight, of in ((flow.weight, flow.reserve), wanted)
            )
            finding = f"{_named(node)}: {name} has {now} where the settings here say {here}"
            mend = (
                "reserves that add up to more than the account's limit are scaled down; otherwise it was started with "
                "other settings, or follows its files within a heartbeat"
            )
            yield Check("instances", "warn", finding, mend)


def _refusals(settings: Settings, world: World, node: NodeState) -> Iterator[Check]:
    """Overloads at an account or model group, and what would end them."""
    if not any(node.epochs):
        return
    unsaid = min(node.epochs)
    counts = {name: count - unsaid for name, count in zip(REFUSED, node.epochs, strict=True) if count > unsaid}
    told = [f"{count} of {name}" for name, count in counts.items()]
    told += [f"{unsaid} of which it did not say what of"] * bool(unsaid)
    finding = f"{_named(node)}: the provider has refused since the start: {', '.join(told)}"
    pause = node.paused_until - world.at.mono
    if pause > 0:
        finding += f"; paused for {pause / SECOND:.1f} s more"
    remedies = [mend for name in counts or ("requests",) if (mend := _remedy(settings, node, name))]
    mend = "; ".join(remedies) or ("none needed: it goes on by itself" if pause > 0 else "")
    yield Check("429s", "warn" if mend else "ok", finding, mend)


def _remedy(settings: Settings, node: NodeState, refused: str) -> str:
    """What to do about overloads of one kind; "" where the limit in force is none of the user's and follows.

    One that was learned below the configured one ends them at a price: it is tried again from time to time.
    """
    kinds, key = REMEDIES[refused]
    if refused == "requests" and (floor := _floor(settings, node)):
        mend = "if 429s go on, the provider allows less: lower adaptiveRateControl.minRequestsPerMinute"
        return f"the rate may not be learned below {floor}/min; {mend}"
    place = place_of(node.node)
    setting = f"providers.{place.provider}.{f'models.{place.pattern}.' if place.pattern else ''}{key}"
    held = [limit for limit in node.limits if limit.kind in kinds]
    if not held:
        return f"no limit of {refused} is in force: set {setting}"
    if all(limit.source in {Source.CONFIGURED, Source.LEARNED} for limit in held):
        configured = [limit for limit in _wanted(settings, place) if limit.kind in kinds]
        if configured:
            return f"{_text(configured[0])} are configured: lower {setting}, or see who else uses the account"
    return ""


def _floor(settings: Settings, node: NodeState) -> int:
    """The least that may be learned, where the learned rate has fallen to it; 0 where it has not."""
    floor, learned = settings.adaptive.min_requests_per_minute or 0, node.learned
    is_reached = learned is not None and learned.rejected and learned.rate <= floor * UNIT
    return floor if is_reached else 0


def _named(node: NodeState) -> str:
    place = place_of(node.node)
    return f"{place.label} {place.pattern}".rstrip()


def _figures(limit: LimitState | LimitSpec) -> tuple[int, int, int]:
    return (limit.amount, 0, 0) if limit.kind is Kind.CONCURRENCY else (limit.amount, limit.burst, limit.period)


def _text(limit: LimitState | LimitSpec) -> str:
    if limit.kind is Kind.CONCURRENCY:
        return f"{limit.amount} calls at once"
    what = LABELS.get(limit.kind, "Requests/minute")
    amount = limit.amount if limit.kind is Kind.REQUESTS_DAY else round(limit.amount * MINUTE / limit.period)
    return f"{amount} {what.lower()} (burst {limit.burst})"
