"""What a permit is asked for: checked, and brought into the form and units of operations."""

from __future__ import annotations

from cross_instance.rules.checks import MOST_UNITS, is_storable
from cross_instance.rules.operations import FOREVER, SECOND, Costs, Priority

PRIORITIES: dict[str | Priority, Priority] = {p.name.lower(): p for p in Priority} | {p: p for p in Priority}


def urgency_of(priority: str | Priority) -> Priority:
    """A request class by its name. Raises `ValueError` for any other."""
    found = PRIORITIES.get(priority)
    if found is None:
        raise ValueError(f"priority is one of {', '.join(p.name.lower() for p in Priority)}, not {priority!r}")
    return found


def patience_of(timeout: float | None) -> int:
    """A timeout in seconds as operations have it. Raises `ValueError` where it is negative or not a number."""
    if timeout is None:
        return FOREVER
    if not timeout >= 0:
        raise ValueError(
            f"timeout is a number of seconds, 0 or more, or None to wait as long as it takes; not {timeout}"
        )
    return int(timeout * SECOND) if timeout < FOREVER / SECOND else FOREVER


def costs_of(tokens: int, input_tokens: int | None, output_tokens: int | None, costs: Costs | None) -> Costs:
    """What one request costs; what is not said about its parts follows from the whole, and the other way round.

    Raises `ValueError` for figures that contradict each other or cannot be.
    """
    if costs is None:
        costs = _costs(tokens, input_tokens, output_tokens)
    elif tokens or input_tokens is not None or output_tokens is not None:
        raise ValueError("give `costs`, or numbers of tokens; not both")
    if not is_storable(costs):
        raise ValueError(f"a number of requests or tokens is between 0 and {MOST_UNITS:,}: {costs}")
    return costs


def _costs(tokens: int, input_tokens: int | None, output_tokens: int | None) -> Costs:
    parts = (input_tokens or 0) + (output_tokens or 0)
    if min(tokens, input_tokens or 0, output_tokens or 0) < 0:
        raise ValueError("a number of tokens is not negative")
    if tokens and parts > tokens:
        raise ValueError(
            f"`tokens` are all that a request takes: {tokens:,} cannot hold "
            f"{input_tokens or 0:,} input and {output_tokens or 0:,} output tokens"
        )
    whole = tokens or parts
    prompt = whole - (output_tokens or 0) if input_tokens is None else input_tokens
    return Costs(1, whole, prompt, output_tokens or 0)
