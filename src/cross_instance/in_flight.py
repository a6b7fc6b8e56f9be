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
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from cross_instance import events
from cross_instance.dynamic_parallelism import machine
from cross_instance.dynamic_parallelism.models import DynamicAdjusterConfig
from cross_instance.errors import CrossInstanceError
from cross_instance.rules.ledger import group_node
from cross_instance.rules.operations import Kind, Outcome
from cross_instance.watching.sights import label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cross_instance.dynamic_parallelism.models import ErrorType
    from cross_instance.membership.membership import Membership
    from cross_instance.rules.operations import World
    from cross_instance.watching.notes import Ended

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


class JustEnded:
    """Calls that have ended since the last time; `world`: what the store holds now, None where it is out of reach."""

    def __init__(self, ended: Sequence[Ended], look: Callable[[], World | None]) -> None:
        self.world = cache(look)
        self._times = cache(partial(_times, ended))

    def under_way(self, place: Place, at: int) -> int:
        """How many of them were under way at an instant."""
        begun, over = self._times()[place]
        return bisect_right(begun, at) - bisect_left(over, at)


class InFlight:
    """The caps that one instance has found."""

    def __init__(self, membership: Membership, clock: Callable[[], float] = time.monotonic) -> None:
        self._membership = membership
        self._clock = clock
        self._caps: dict[Place, Cap] = {}
        self._unpublished: set[str] = set()

    def patience(self) -> float | None:
        """Seconds until a cap may be raised, or told to the store again; None: there is none."""
        return LOOK_EVERY if self._caps or self._unpublished else None

    def take(self, ended: Sequence[Ended]) -> None:
        """Calls have ended, and time has passed."""
        just = JustEnded(ended, self._membership.glimpse)
        for note in ended:
            error = self._error_of(note)
            if error is not None:
                self._overloaded(error, note, just)
        for place, cap in list(self._caps.items()):
            self._change(place, cap, machine.recovered(cap.state, cap.config, self._now()))
        self._publish()

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

    def _overloaded(self, error: ErrorType, note: Ended, just: JustEnded) -> None:
        place = _place_of(note)
        cap = self._caps.get(place)
        if cap is None:
            cap = self._begin(place, note.ended_at, just)
        if cap is None or note.granted_at < cap.cut_at:
            return
        cap.cut_at = note.ended_at
        self._change(place, cap, machine.failed(cap.state, cap.config, error, self._now()))

    def _begin(self, place: Place, at: int, just: JustEnded) -> Cap | None:
        """Begin with what was in flight, by all instances: what still is, and what has ended here since; or what was
        seen of late, where that is more, since others' calls have ended, too."""
        world = just.world()
        if world is None:
            return None
        held = sum(node.held for node in world.nodes if node.node == place.node) + just.under_way(place, at)
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
            self._tell(place, old, new, state.reason)

    def _now(self) -> float:
        return self._clock() * 1_000

    def _tell(self, place: Place, old: int | None, new: int | None, reason: str) -> None:
        self._membership.accounts.cap(place.account, place.group, new)
        self._unpublished.add(place.account)
        text = f"{label_of(place.node)}: {_words(old)} → {_words(new)} calls at once ({reason})"
        told = self._membership.events
        told.tell(events.PARALLELISM_CHANGED, text, logging.INFO, node=place.node, old=old, new=new, reason=reason)

    def _publish(self) -> None:
        """Have the store know of the caps; what it does not take is published next time, or when it joins anew."""
        membership = self._membership
        if not membership.incarnation or membership.fallback.outage is not None:
            return
        try:
            for account in sorted(self._unpublished):
                membership.publish(account)
                self._unpublished.discard(account)
        except CrossInstanceError as error:
            membership.standing.note_trouble(error)


def _place_of(note: Ended) -> Place:
    return Place(note.account, note.group)


def _times(ended: Sequence[Ended]) -> dict[Place, tuple[list[int], list[int]]]:
    """When calls were granted and when they ended, both in order, by their places."""
    times: dict[Place, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for note in ended:
        begun, over = times[_place_of(note)]
        begun.append(note.granted_at)
        over.append(note.ended_at)
    for both in times.values():
        for instants in both:
            instants.sort()
    return times


def _words(cap: int | None) -> str:
    return "any number of" if cap is None else str(cap)
