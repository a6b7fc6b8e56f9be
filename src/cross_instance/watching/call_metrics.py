"""How long calls took, and how many tokens they used: for Prometheus (`metrics`) and OpenTelemetry (`otel`) alike.

1. Each process measures its own calls, every attempt for itself, from sending to its end. A call that was never sent is
   not measured, and tokens are only where the provider stated them.
2. Names, units, bounds and attributes are those of the semantic conventions for generative AI (in development there:
   they may change with them). The provider is named as in the configuration.
3. Attributes are bounded: operations and errors are fixed sets; models beyond `MOST_MODELS` are one, the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules.operations import SECOND, Outcome
from cross_instance.status import OTHER_MODELS
from cross_instance.watching.readings import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cross_instance.watching.notes import Ended

MOST_MODELS = 100
"""Models of a provider with figures of their own: the first that were called."""

ERRORS = {
    Outcome.SUCCESS: "",
    Outcome.REJECTED: "429",
    Outcome.OVERLOADED: "overloaded",
    Outcome.TIMEOUT: "timeout",
    Outcome.ERROR: "_OTHER",
}
"""`error.type` of each end of a call that was sent; "" where there is none."""


class Measure(NamedTuple):
    """A histogram: its name and unit (UCUM), the upper `bounds` of its buckets, and its attributes."""

    name: str
    text: str
    unit: str
    bounds: tuple[float, ...]
    attributes: tuple[str, ...]


CALL = ("gen_ai.operation.name", PLACE[0], "gen_ai.request.model")

DURATION = Measure(
    "gen_ai.client.operation.duration",
    "How long calls took, from sending to their end.",
    "s",
    tuple(0.01 * 2**power for power in range(14)),
    (*CALL, "error.type"),
)
TOKENS = Measure(
    "gen_ai.client.token.usage",
    "The tokens that calls used.",
    "{token}",
    tuple(float(4**power) for power in range(14)),
    (*CALL, "gen_ai.token.type"),
)

MEASURES = (DURATION, TOKENS)

Measured = tuple[Measure, tuple[str, ...], float]
"""A measure, its attributes' values ("": there is none) and the value."""


class Calls:
    """What the ends of calls say, for one exporter."""

    def __init__(self) -> None:
        self._models: dict[str, set[str]] = {}

    def measured(self, ended: Iterable[Ended]) -> Iterator[Measured]:
        """The values of calls that have ended."""
        for note in ended:
            if note.outcome not in ERRORS:
                continue
            call = (note.operation, note.provider, self._model(note))
            yield DURATION, (*call, ERRORS[note.outcome]), note.duration / SECOND
            if note.usage is not None:
                yield TOKENS, (*call, "input"), note.usage.prompt_tokens
                yield TOKENS, (*call, "output"), note.usage.output_tokens

    def _model(self, note: Ended) -> str:
        known = self._models.setdefault(note.provider, set())
        if note.model not in known and len(known) >= MOST_MODELS:
            return OTHER_MODELS
        known.add(note.model)
        return note.model
