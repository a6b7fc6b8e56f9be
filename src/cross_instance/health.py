"""Health: what the ends of calls say of models, told to the adjuster of this process, and of overloads, to the cap.

1. Every permit counts, whoever took it: an SDK's transport, a task, or a program by hand. Nobody has to report it.
2. One overload is one error: calls that were granted before the last error of a model was told are its echoes. A
   provider that is overloaded counts as a 429; exhausted quota says nothing of health, and neither does a call that
   was wrong by itself.
3. `dynamic_parallelism` tells how models do. What is really capped is told in `in_flight`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from cross_instance.dynamic_parallelism import get_parallelism_adjuster
from cross_instance.in_flight import InFlight
from cross_instance.rules.operations import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.dynamic_parallelism.models import ErrorType
    from cross_instance.membership.membership import Membership
    from cross_instance.watching.notes import Begun, Ended

    Model = tuple[str, str]

OVERLOADS = (Outcome.REJECTED, Outcome.OVERLOADED)
MS = 1_000
"""µs in a millisecond."""


class Health:
    """What one instance hears of its calls."""

    def __init__(self, membership: Membership) -> None:
        self.in_flight = InFlight(membership)
        self._told_at: dict[Model, int] = {}

    def patience(self) -> float | None:
        """Seconds until something is to be done without any news; None: never."""
        return self.in_flight.patience()

    def take(self, begun: Sequence[Begun], ended: Sequence[Ended]) -> None:
        """Calls have begun and ended since the last time."""
        if begun or ended:
            self._tell(begun, ended)
        self.in_flight.take(ended)

    def _tell(self, begun: Sequence[Begun], ended: Sequence[Ended]) -> None:
        adjuster = get_parallelism_adjuster()
        begins = Counter((note.provider, note.model) for note in begun)
        ends: dict[Model, list[Ended]] = defaultdict(list)
        for note in ended:
            ends[note.provider, note.model].append(note)
        for model in dict.fromkeys((*begins, *ends)):
            over = ends[model]
            answered = [note for note in over if note.outcome is Outcome.SUCCESS]
            adjuster.calls_passed(
                *model,
                started=begins[model],
                completed=len(over),
                response_ms=[note.duration / MS for note in answered],
                first_token_ms=[note.first_token / MS for note in answered if note.first_token is not None],
            )
            for note in over:
                error = _error_of(note)
                if error is not None and note.granted_at >= self._told_at.get(model, 0):
                    self._told_at[model] = note.ended_at
                    adjuster.adjust_for_error(*model, error)


def _error_of(note: Ended) -> ErrorType | None:
    if note.outcome in OVERLOADS and note.signals.exhausted is None:
        return "429"
    return "timeout" if note.outcome is Outcome.TIMEOUT else None
