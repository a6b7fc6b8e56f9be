"""Learning, per model, how far estimates are off and how much is usually generated.

1. Both figures follow what is observed: fast upwards (half the way), slowly downwards (a tenth), since reserving too
   little ends in a 429 and reserving too much only in a correction.
2. The input is compared as it is charged: where cached input is free, habits of caching are learned with it.
3. One odd response moves the factor within fixed bounds; calls without usage or estimate move nothing.
Safe to use from any thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from cross_instance.providers.charges import charged

if TYPE_CHECKING:
    from cross_instance.providers.requests import RequestInfo
    from cross_instance.providers.usage import Usage

FIRST_OUTPUT = 500
"""Tokens taken for the output of a model not seen yet: a guess, a page of text."""
SMALLEST_FACTOR, LARGEST_FACTOR = 0.05, 20.0
MOST_MODELS = 1_000
"""Models remembered; beyond it the one first seen is forgotten."""
_UP, _DOWN = 0.5, 0.1


class _Learned(msgspec.Struct, frozen=True):
    factor: float = 1.0
    output: float = FIRST_OUTPUT


_NOTHING = _Learned()


class Calibration:
    """What was learned of each model of each provider; starts from nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._learned: dict[tuple[str, str], _Learned] = {}

    def observe(self, provider: str, model: str, info: RequestInfo, usage: Usage) -> None:
        """Take in what a call really used; `info` is what was estimated for it."""
        if not info.counts or not usage.prompt_tokens:
            return
        key = (provider.lower(), model)
        inputs = charged(provider, usage, model).input_tokens
        with self._lock:
            before = self._learned.get(key, _NOTHING)
            factor = before.factor
            if info.estimated_input:
                ratio = inputs / info.estimated_input
                factor = _follow(factor, min(max(ratio, SMALLEST_FACTOR), LARGEST_FACTOR))
            self._learned[key] = _Learned(factor, _follow(before.output, usage.output_tokens))
            if len(self._learned) > MOST_MODELS:
                del self._learned[next(iter(self._learned))]

    def input_factor(self, provider: str, model: str) -> float:
        """What to multiply an estimate of the input with: 1 until something was observed."""
        return self._get(provider, model).factor

    def output(self, provider: str, model: str, limit: int | None = None) -> int:
        """The tokens a call usually generates, at most `limit`."""
        usual = round(self._get(provider, model).output)
        return usual if limit is None else min(usual, limit)

    def _get(self, provider: str, model: str) -> _Learned:
        with self._lock:
            return self._learned.get((provider.lower(), model), _NOTHING)


def _follow(value: float, seen: float) -> float:
    return value + (seen - value) * (_UP if seen > value else _DOWN)
