"""What may be in flight at once, once the provider was overloaded: one cap for all instances, by way of the store.

1. A healthy account has no cap. The first overload sets one, 30 % below what was in flight; each further one cuts it by
   30 %, a timeout by 10 %. It rises again, and is lifted, by the rules of `dynamic_parallelism.machine`, from which all
   figures are. It never falls below a quarter: what fewer calls do not mend is not of their making.
2. Overloaded is what says so (503, 529), with at least `FEWEST` calls in flight. A rate that was met is no overload:
   that is the rates' to answer. Slow is no overload either.
3. Where limits are not learned, a 429 that names the limit on calls at once is an overload, too, and a timeout cuts a
   cap that there is; otherwise both are the learner's to answer.
4. One cut per overload: a call that was granted before the last cut is an echo.
5. An instance publishes its cap with the limits of the account, at the group of the model. The strictest of the live
   ones holds for all (`rules.specs`), and goes with its instance.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cross_instance import events
from cross_instance.dynamic_parallelism import machine
from cross_instance.dynamic_parallelism.models import DynamicAdjusterConfig
from cross_instance.errors import CrossInstanceError
from cross_instance.rules.ledger import group_node
from cross_instance.rules.operations import Kind, Outcome
from cross_instance.sights import label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cross_instance.dynamic_parallelism.models import ErrorType
    from cross_instance.membership import Membership
    from cross_instance.notes import Ended

LOOK_EVERY = 10.0
"""Seconds between looks whether a cap is to be raised."""
FEWEST = 4
"""Fewer calls at once than this, the reference's base, do not overload a provider by themselves."""
LEAST_SHARE = 4
"""A cap is at least this part of what was in flight at the first overload."""


class Place(NamedTuple):
    """Where a cap is: an account, or a group of its models ("": the account itself)."""

    account: str
    group: str

    @property
    def node(self) -> str:
        """How the store names it."""
        return group_node(self.account, self.group) if self.group else self.account


@dataclass
class Cap:
    """What one instance has found at a place. `cut_at`: when it was cut last (monotonic ns)."""

    state: machine.State
    config: DynamicAdjusterConfig
    cut_at: int = 0


class InFlight:
    """The caps that one instance has found."""

    def __init__(self, membership: Membership, clock: Callable[[], float] = time.monotonic) -> None:
        self._membership = membership
        self._clock = clock
        self._caps: dict[Place, Cap] = {}

    def patience(self) -> float | None:
        """Seconds until a cap may be raised; None: there is none."""
        return LOOK_EVERY if self._caps else None

    def take(self, ended: Sequence[Ended]) -> None:
        """Calls have ended, and time has passed."""
        for note in ended:
            error = self._error_of(note)
            if error is not None:
                self._overloaded(error, note, ended)
        for place, cap in list(self._caps.items()):
            self._change(place, cap, machine.recovered(cap.state, cap.config, self._now()))

    def _error_of(self, note: Ended) -> ErrorType | None:
        if note.outcome is Outcome.SUCCESS or note.signals.exhausted is not None:
            return None
        if note.outcome is Outcome.OVERLOADED:
            return "429"
        adaptive = self._membership.settings.adaptive
        if adaptive.enabled and adaptive.mode != "simple":
            return None
        if note.outcome is Outcome.TIMEOUT:
            return "timeout" if _place_of(note) in self._caps else None
        return "429" if note.outcome is Outcome.REJECTED and note.signals.kind is Kind.CONCURRENCY else None

    def _overloaded(self, error: ErrorType, note: Ended, ended: Sequence[Ended]) -> None:
        place = _place_of(note)
        cap = self._caps.get(place)
        if cap is None:
            cap = self._begin(place, sum(_place_of(one) == place for one in ended))
        if cap is None or note.granted_at < cap.cut_at:
            return
        cap.cut_at = note.ended_at
        self._change(place, cap, machine.failed(cap.state, cap.config, error, self._now()))

    def _begin(self, place: Place, just_ended: int) -> Cap | None:
        """Begin with what was in flight, by all instances: what still is, and what has ended here since; or what was
        seen of late, where that is more, since others' calls have ended, too."""
        try:
            world = self._membership.look()
        except CrossInstanceError as error:
            self._membership.standing.note_trouble(error)
            return None
        held = sum(node.held for node in world.nodes if node.node == place.node) + just_ended
        held = max(held, self._membership.activity.held_lately(place.node, world.at.mono))
        if held < FEWEST:
            return None
        config = DynamicAdjusterConfig(min_parallelism=held // LEAST_SHARE, base_parallelism=held, max_parallelism=held)
        return Cap(machine.new_state(config, self._now()), config)

    def _change(self, place: Place, cap: Cap, state: machine.State) -> None:
        old = cap.state.current if place in self._caps else None
        cap.state = state
        new = state.current if state.current < state.base else None
        if new is not None:
            self._caps[place] = cap
        elif old is not None:
            del self._caps[place]
        if new != old:
            self._publish(place, old, new, state.reason)

    def _now(self) -> float:
        return self._clock() * 1_000

    def _publish(self, place: Place, old: int | None, new: int | None, reason: str) -> None:
        membership = self._membership
        membership.accounts.cap(place.account, place.group, new)
        text = f"{label_of(place.node)}: {_words(old)} → {_words(new)} calls at once ({reason})"
        told = membership.events
        told.tell(events.PARALLELISM_CHANGED, text, logging.INFO, node=place.node, old=old, new=new, reason=reason)
        try:
            if membership.incarnation:
                membership.publish(place.account)
        except CrossInstanceError as error:  # it is published with the next change, or hourly
            membership.standing.note_trouble(error)


def _place_of(note: Ended) -> Place:
    return Place(note.account, note.group)


def _words(cap: int | None) -> str:
    return "any number of" if cap is None else str(cap)
