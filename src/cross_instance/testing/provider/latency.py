"""How long the test provider takes: distributions in seconds, drawn from the server's seeded generator.

Text forms: `0.5` or `constant:0.5`, `uniform:LOW:HIGH`, `lognormal:MEDIAN:SIGMA`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from random import Random

ACCEPTED = "SECONDS, uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA, in seconds"


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """Always the same."""

    seconds: float

    def __post_init__(self) -> None:
        _check(0 <= self.seconds < math.inf)

    def draw(self, random: Random) -> float:  # noqa: ARG002 - the same call for every distribution
        """A latency in seconds."""
        return self.seconds


class Uniform(msgspec.Struct, frozen=True, tag="uniform"):
    """Anything from `low` to `high`, equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(0 <= self.low <= self.high < math.inf)

    def draw(self, random: Random) -> float:
        """A latency in seconds."""
        return random.uniform(self.low, self.high)


class LogNormal(msgspec.Struct, frozen=True, tag="lognormal"):
    """Long-tailed, as real providers are: half below `median`; `sigma` is the deviation of the logarithm."""

    median: float
    sigma: float

    def __post_init__(self) -> None:
        _check(0 < self.median < math.inf and 0 <= self.sigma <= 5)

    def draw(self, random: Random) -> float:
        """A latency in seconds."""
        return self.median * math.exp(random.gauss(0.0, self.sigma))


Latency = Constant | Uniform | LogNormal


def parse_latency(text: str) -> Latency:
    """Read the text form; raises `ConfigError` that says what is accepted."""
    name, *figures = text.split(":") if ":" in text else ("constant", text)
    try:
        numbers = [float(figure) for figure in figures]
    except ValueError:
        numbers = []
    match name, numbers:
        case "constant", [seconds]:
            return Constant(seconds)
        case "uniform", [low, high]:
            return Uniform(low, high)
        case "lognormal", [median, sigma]:
            return LogNormal(median, sigma)
    raise ConfigError(f"{text!r} is not a latency; accepted: {ACCEPTED}")


def _check(holds: bool) -> None:
    if not holds:
        raise ConfigError(f"the figures make no latency; accepted: {ACCEPTED}")
