"""What was configured, told and learned of an account's limits, and why: for people, with the evidence.

1. Every sentence rests on a figure that is in the store; what is not known is said to be so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cross_instance.prediction import prediction_of
from cross_instance.rules.ledger import group_node
from cross_instance.rules.operations import CLUSTER, SECOND, Kind, LearnedState, Source
from cross_instance.status import Limit, Place, limits_of, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import World

PHASES = {
    "start": "doubling while it is used and no 429 is met",
    "search": "adding two fifths while it is used, until the next 429",
    "climb": "growing step by step, to confirm the estimate",
    "cruise": "staying just below the estimate until a probe is paid for",
    "probe": "probing whether the limit has grown",
}
REASONS = {
    "start": "begun",
    "growth": "a step up",
    "cruise": "back to just below the estimate",
    "overload": "a 429",
    "timeout": "a timeout",
    "slots": "calls at once",
    "idle": "long unused: less of the estimate to begin with",
    "resumed": "taken up again after a restart",
    "reduced": "a 429, by the reduction factor",
    "recovered": "success, by the recovery factor",
}


@dataclass(frozen=True)
class Explained:
    """One account or model group: its limits in force, what is learned of it (None: nothing), and how many overloads it
    has met since the machine, or the server, was started."""

    provider: str
    account: str
    model: str
    limits: tuple[Limit, ...]
    learned: LearnedState | None
    overloads: int = 0

    @property
    def node(self) -> str:
        """How the store names it."""
        account = f"{self.provider}/{self.account}"
        return group_node(account, self.model) if self.model else account


def explanations(world: World | None, provider: str | None = None) -> list[Explained]:
    """Every account and group in use, or those of one provider."""
    found = []
    for node in () if world is None else world.nodes:
        place = place_of(node.node)
        if node.node == CLUSTER or provider not in (None, place.provider) or not (node.limits or node.learned):
            continue
        limits = tuple(
            limit for limit in limits_of(world) if (limit.provider, limit.account, limit.model) == tuple(place)
        )
        found.append(Explained(*place, limits, node.learned, max(node.epochs)))
    return found


def text_of(one: Explained, *, learning: bool = True) -> str:
    """A paragraph on one account or group. `learning`: whether limits are learned at all."""
    label = Place(one.provider, one.account, one.model).label
    lines = [label + (f", models {one.model}" if one.model else "")]
    lines += [f"  {name:<12}{text}" for name, text in _lines(one, learning)]
    return "\n".join(lines)


def _lines(one: Explained, learning: bool) -> Iterator[tuple[str, str]]:
    yield "in force", ", ".join(_in_force(limit) for limit in one.limits) or "no limit"
    state = one.learned
    if state is None:
        yield "learned", _nothing(one) if learning else "nothing: adaptiveRateControl.enabled is false"
        return
    yield "configured", f"{_rate(state.ceiling)} requests/min, never exceeded" if state.ceiling else "nothing"
    yield "told", _told(state)
    yield "learned", _learned(state)
    yield "doing", "multiplying by the two factors" if state.simple else f"{PHASES[state.phase]}"
    if state.cap:
        samples = f", from {', '.join(map(str, state.samples))} in flight at 429s" if state.samples else ""
        yield "at once", f"{state.cap}{samples}"
    if state.token_kind is not None:
        yield "tokens", f"{_rate(state.tokens)} {state.token_kind.value.replace('_', ' ')}/min"
    share = state.rejected / max(1, state.granted)
    yield "requests", f"{state.granted:,} granted, {state.rejected:,} of them met 429 ({share:.2%})"
    seen = prediction_of(state)
    ten, thirty, sixty = seen.shares
    shares = f"{ten:.2%} in 10 min, {thirty:.2%} in 30, {sixty:.2%} in 60"
    yield "429s", f"{shares}; risk {seen.risk:.0%}, proactive cut {seen.cut_text}"
    yield "last change", f"{_when(state.changed_at)}: {reason_of(state)}"


def reason_of(state: LearnedState) -> str:
    """Why it changed last, in words."""
    return REASONS.get(state.reason, state.reason)


def _in_force(limit: Limit) -> str:
    if limit.kind == Kind.CONCURRENCY:
        return f"{limit.amount} at once ({limit.source})"
    period = "day" if limit.kind == Kind.REQUESTS_DAY else "min"
    return f"{limit.amount:,} {limit.kind.removesuffix('_day').replace('_', ' ')}/{period} ({limit.source})"


def _nothing(one: Explained) -> str:
    configured = any(limit.kind == Kind.REQUESTS and limit.source == Source.CONFIGURED for limit in one.limits)
    return "nothing: the configured limit has not met a 429" if configured and not one.overloads else "nothing"


def _told(state: LearnedState) -> str:
    if not state.told:
        return "nothing"
    doubt = "; doubted, since the counts contradict it" if state.doubted else ""
    return f"{_rate(state.told)} requests/min by the provider{doubt}"


def _learned(state: LearnedState) -> str:
    begun = f"begun with {_rate(state.started)}"
    if not state.estimate:
        return f"no limit yet; {_rate(state.rate)} requests/min are allowed, {begun}"
    evidence = ""
    if state.measured and state.span:
        evidence = f": {state.measured:,} accepted in {state.span / SECOND:,.1f} s between the last two overloads"
    return f"{_rate(state.estimate)} requests/min{evidence}; {_rate(state.rate)} are allowed, {begun}"


def _rate(rate: int) -> str:
    return f"{rate / 1_000:,.0f}" if rate >= 100_000 else f"{rate / 1_000:,.1f}"


def _when(wall: int) -> str:
    return datetime.fromtimestamp(wall / SECOND, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
