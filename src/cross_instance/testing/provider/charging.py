"""What a request costs, by each provider's own rule.

| provider | tokens | input tokens | output tokens |
|---|---|---|---|
| openai | max(output limit, estimate) on arrival, never corrected | estimate on arrival | as generated |
| anthropic | as input, plus output | estimate on arrival, corrected; cache reads are free | as generated |
| gemini | as input | real count on arrival | as generated |

The estimate is one token per four characters. A request is let in while at least one unit is left of what is charged
only later. Sources: OpenAI "Rate limits" guide, Anthropic "Rate limits", Gemini API "Rate limits" (2026-11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cross_instance.testing.provider.config import LimitKind


class Usage(NamedTuple):
    """The real token counts of one answer; `cached` of the input tokens were read from the prompt cache."""

    input_tokens: int
    cached: int
    output_tokens: int


class Charge(NamedTuple):
    """What a request is charged on arrival, besides one request and one slot."""

    tokens: int
    input_tokens: int

    def arrival(self, kind: LimitKind) -> int:
        """The units of a kind charged on arrival."""
        if kind == "tokens":
            return self.tokens
        if kind == "input_tokens":
            return self.input_tokens
        return 0 if kind == "output_tokens" else 1

    def needed(self, kind: LimitKind) -> int:
        """The units of a kind that must be there for the request to be let in."""
        return max(1, self.arrival(kind))


def on_arrival(provider: str, *, estimate: int, real_input: int, output_limit: int | None) -> Charge:
    """What the provider charges when the request arrives."""
    if provider == "openai":
        return Charge(max(output_limit or 0, estimate), estimate)
    if provider == "gemini":
        return Charge(real_input, real_input)
    return Charge(estimate, estimate)


def on_output(provider: str, tokens: int) -> list[tuple[LimitKind, int]]:
    """What the provider charges when it has generated output."""
    if provider == "anthropic":
        return [("output_tokens", tokens), ("tokens", tokens)]
    return [("output_tokens", tokens)]


def on_start(provider: str, charge: Charge, usage: Usage) -> list[tuple[LimitKind, int]]:
    """How the provider corrects its charge once it has counted the input."""
    if provider != "anthropic":
        return []
    difference = usage.input_tokens - usage.cached - charge.input_tokens
    return [("input_tokens", difference), ("tokens", difference)]
