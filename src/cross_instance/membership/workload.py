"""What this process says of its own work; it is sent with heartbeats, and seen by every other instance.

1. One workload is sent at a time: the store never gets an older one after a newer one.
2. An entry that was taken is not listed again until its application offers it anew. What was taken is told to the
   application once, and acknowledged to the store.
3. An instance that had to join anew says everything again. One that left, or is a forked child, has nothing to say.
4. What its application says and what its worker of the durable queue is at are told as one.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import msgspec

from cross_instance.errors import StoreUnavailable
from cross_instance.events import WORK_STOLEN
from cross_instance.rules.broadcasts import MOST_MODELS
from cross_instance.rules.operations import Beaten, Heartbeat, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.membership.membership import Membership

NOTHING = Workload()


class OwnWork:
    """The workload of one membership; every method may be called from any thread.

    `said` is what its application said last, `tasks` what its worker is at.
    """

    def __init__(self, membership: Membership) -> None:
        self.said = NOTHING
        self.tasks = self._sent_tasks = NOTHING
        self._membership = membership
        self._said_as = 0
        self._queue_told = False
        self._told: tuple[str, ...] = ()
        self._lost: list[str] = []
        self._lock = threading.RLock()

    def say(self, change: Callable[[Workload], Workload], *, broadcast: bool = False) -> None:
        """Change what is said, and send it; `broadcast`: it is news of the queue.

        Raises `ValueError` for what cannot be stored, `StoreUnavailable` where the store cannot be reached; then what
        was said before holds.
        """
        with self._lock:
            before = self.said
            self.said = change(before)
            try:
                self._send(broadcast)
            except BaseException:
                self.said = before
                raise

    @property
    def whole(self) -> Workload:
        """What the others are to see."""
        return _together(self.said, self.tasks)

    def note_tasks(self, tasks: Workload) -> None:
        """What the worker is at; the heartbeat thread tells it soon."""
        self.tasks = tasks
        self._membership.nudge()

    @property
    def is_untold(self) -> bool:
        """Whether something has been noted that is to be sent."""
        return self.tasks is not self._sent_tasks

    def tell_noted(self) -> None:
        """Send what has been noted. Raises `StoreUnavailable`."""
        if self.is_untold and self._membership.fallback.outage is None:
            with self._lock:
                self._send(False)

    def beat(self) -> None:
        """Send a heartbeat with everything. Raises `StoreUnavailable`."""
        with self._lock:
            self._send(False)

    def say_again(self) -> None:
        """The instance has joined anew: whoever looks is to see what it does."""
        with self._lock:
            if self._said_as not in (0, self._membership.incarnation):
                try:
                    self._send(False)
                except StoreUnavailable as error:
                    self._membership.standing.note_trouble(error)

    def lost(self) -> tuple[str, ...]:
        """The ids of entries that others have taken, each told once."""
        with self._lock:
            lost, self._lost = tuple(self._lost), []
            return lost

    def _send(self, broadcast: bool) -> None:
        asked, tasks = 0, self.tasks

        def heartbeat(incarnation: int) -> Heartbeat:
            nonlocal asked
            asked, anew = incarnation, incarnation != self._said_as
            told = () if anew else tuple(taken for taken in self._told if taken not in self._lost)
            return Heartbeat(incarnation, _together(self.said, tasks), broadcast or (anew and self._queue_told), told)

        answer = self._membership.ask(heartbeat)
        assert isinstance(answer, Beaten)
        self._said_as, self._sent_tasks = asked, tasks
        self._queue_told = self._queue_told or broadcast
        self._lost += [taken for taken in answer.taken if taken not in self._told]
        self._told = answer.taken
        kept = tuple(entry for entry in self.said.stealable if entry.id not in answer.taken)
        self.said = msgspec.structs.replace(self.said, stealable=kept)


def note_stolen(membership: Membership, victim: str, entries: int) -> None:
    """This instance has taken work over from another."""
    text = f"{entries} taken over from {victim}"
    membership.events.tell(WORK_STOLEN, text, logging.INFO, kept=False, victim=victim, entries=entries)


def _together(said: Workload, tasks: Workload) -> Workload:
    known = {model[:2] for model in said.active_models}
    models = [model for model in tasks.active_models if model[:2] not in known]
    ends = [end for end in (said.last_completed, tasks.last_completed) if end is not None]
    return msgspec.structs.replace(
        said,
        orchestrations=said.orchestrations + tasks.orchestrations,
        latency=tasks.latency if said.latency is None else said.latency,
        last_completed=max(ends, default=None),
        active_models=(*said.active_models, *models[: max(0, MOST_MODELS - len(said.active_models))]),
        at_work=tasks.at_work,
    )
