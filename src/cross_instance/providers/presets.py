"""What is known of each provider before it says anything itself: its hosts, where to start, how it charges.

1. A preset is a start, not a limit of ours: told or learned limits raise it as well as lower it.
2. Figures are the reference's; a provider without figures there starts from the guess, and says so (`Source.GUESS`).
3. A limit is charged as its provider charges it, so that our bucket mirrors theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.rules.operations import Kind, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENAI = "openai"
ANTHROPIC = "anthropic"
DEEPSEEK = "deepseek"
GEMINI = "gemini"
AZURE = "azure"


class Charging(msgspec.Struct, frozen=True):
    """How a provider charges one kind of limit, in the sense of `LimitSpec`.

    `correct`: what was charged on arrival is corrected to the real usage. `refund`: a rejected request costs nothing.
    """

    correct: bool
    refund: bool


class Preset(msgspec.Struct, frozen=True):
    """Where to start with a provider: requests per minute, how many at once, slots (None: not limited).

    `hosts` are names, or patterns that start with `*.` and stand for every subdomain.
    """

    provider: str
    hosts: tuple[str, ...]
    requests_per_minute: int
    burst: int
    concurrency: int | None = None
    source: Source = Source.PRESET


_GUESS = (30, 10, 2, Source.GUESS)

_PRESETS = {
    preset.provider: preset
    for preset in (
        Preset(OPENAI, ("api.openai.com", "*.api.openai.com"), 500, 100),
        Preset(ANTHROPIC, ("api.anthropic.com",), 50, 25),
        Preset(DEEPSEEK, ("api.deepseek.com",), 1000, 200),
        Preset(GEMINI, ("generativelanguage.googleapis.com",), 60, 15),
        Preset(
            AZURE,
            ("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"),
            *_GUESS,
        ),
    )
}

KNOWN: tuple[str, ...] = tuple(_PRESETS)
"""The providers whose hosts are known."""

_ON_ARRIVAL = Charging(correct=False, refund=False)
_ON_USAGE = Charging(correct=True, refund=True)
_CHARGED_ON_ARRIVAL = frozenset({OPENAI, AZURE})
"""OpenAI counts unsuccessful requests, and `max_tokens` though fewer came: platform.openai.com/docs/guides/rate-limits.
Azure counts what the request asks for: learn.microsoft.com/azure/ai-services/openai/how-to/quota."""


def preset(provider: str) -> Preset:
    """Where to start with a provider; an unknown one is guessed at 30/min, 10 at once, 2 at the same time."""
    name = provider.lower()
    return _PRESETS.get(name) or Preset(name, (), *_GUESS)


def charging(provider: str, kind: Kind) -> Charging:
    """How the provider charges this kind: on arrival for good, or on usage, a 429 costing nothing.

    Anthropic, Gemini and unknown providers charge on usage. A slot is held and given back everywhere.
    """
    if kind is not Kind.CONCURRENCY and provider.lower() in _CHARGED_ON_ARRIVAL:
        return _ON_ARRIVAL
    return _ON_USAGE


def provider_for_host(host: str, extra: Mapping[str, str] | None = None) -> str | None:
    """The provider that a host (`name` or `name:port`) belongs to; None: not one we coordinate.

    `extra` maps further hosts, `name:port` pairs or `*.` patterns to providers, and goes before what is known.
    """
    full = host.lower().rstrip(".")
    name = full.partition(":")[0].rstrip(".")
    for pattern, provider in (extra or {}).items():
        if _matches(pattern.lower(), full) or _matches(pattern.lower(), name):
            return provider
    for known in _PRESETS.values():
        if any(_matches(pattern, name) for pattern in known.hosts):
            return known.provider
    return None


def _matches(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
