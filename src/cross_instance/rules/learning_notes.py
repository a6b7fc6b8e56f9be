"""What is said of what was learned: notices of changes, and the state for people, with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.learning_rate import Phase
from cross_instance.rules.learning_risk import risk, shares
from cross_instance.rules.learning_values import UNIT, part
from cross_instance.rules.operations import LearnedState, Notice

if TYPE_CHECKING:
    from cross_instance.rules.learning import Learner
    from cross_instance.rules.learning_records import Learned
    from cross_instance.rules.ledger import Ledger
    from cross_instance.rules.records import Node

TOPIC = "limit-learned"
NEWS = 50_000
"""A change of the known rate or slots by more than this share is told, and every first one."""


def reason_of(old: Learner, new: Learner) -> str:
    """Why a grant or a success has changed what is known. Grants begin a climb only after idling."""
    if new.slots != old.slots and new.requests == old.requests:
        return "slots"
    before, after = old.requests, new.requests
    if after.phase == Phase.CLIMB and after.climb != before.climb:
        return "idle"
    return "growth" if after.rate > before.rate else "cruise"


def announce(learned: Learned, ledger: Ledger, name: str) -> None:
    """Tell of a change, where it is news: probes and steps back from them are none."""
    learner = learned.learner
    known = learner.requests.estimate if learned.simple is None else learned.simple.rate
    if learned.simple is None and learner.requests.phase == Phase.SEARCH:
        known = learner.requests.rate
    now = (known, learner.slots.cap, learner.requests.doubted)
    if not any(_is_news(before, after) for before, after in zip(learned.announced, now, strict=True)):
        return
    learned.announced = now
    ledger.notices.append(Notice(TOPIC, f"{name}: {_sentence(learned)}"))


def _is_news(before: int, after: int) -> bool:
    return bool(after) and abs(after - before) > part(before, NEWS)


def _sentence(learned: Learned) -> str:
    requests, slots = learned.learner.requests, learned.learner.slots
    if learned.simple is not None:
        return f"{_figure(learned.simple.rate)} requests/min ({learned.reason})"
    if requests.doubted and learned.announced[2]:
        return f"the counts contradict the stated limit of {_figure(requests.told)}/min"
    parts = []
    if requests.phase == Phase.SEARCH:
        parts.append(f"the first 429; looking for the limit from {_figure(requests.rate)} requests/min on")
    elif requests.estimate:
        parts.append(f"the limit is taken to be {_figure(requests.estimate)} requests/min")
    if slots.cap:
        parts.append(f"{slots.cap} calls at once")
    return ", ".join(parts)


def _figure(rate: int) -> str:
    return f"{rate / UNIT:,.0f}" if rate >= 100 * UNIT else f"{rate / UNIT:,.1f}"


def state_of(learned: Learned, node: Node, now: int, rate: int) -> LearnedState:
    """What is learned at a node, with its evidence; `rate` is what is allowed of it."""
    requests, slots, tokens = learned.learner.requests, learned.learner.slots, learned.learner.tokens
    first, last = requests.start, requests.end
    return LearnedState(
        simple=learned.simple is not None,
        started=learned.started,
        ceiling=learned.ceiling,
        told=requests.told,
        doubted=bool(requests.doubted),
        rate=rate,
        estimate=requests.estimate,
        phase=Phase(requests.phase).name.lower() if learned.simple is None else "",
        reason=learned.reason,
        changed_at=learned.changed_at,
        measured=last.count - first.count if first is not None and last is not None else 0,
        span=last.at - first.at if first is not None and last is not None else 0,
        granted=node.granted,
        rejected=requests.rejections,
        cap=slots.cap or learned.slots,
        samples=slots.samples,
        token_kind=learned.token_kind,
        tokens=0 if tokens is None else tokens.rate,
        shares=shares(learned.risk, now),
        risk=risk(learned.risk, now),
        cut=learned.cut,
        window=requests.window.span,
    )
