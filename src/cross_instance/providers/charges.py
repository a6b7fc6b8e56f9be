"""What a request costs by its provider's own rule: on arrival, from what is known then, and in the end.

| provider  | tokens                           | input tokens                | output tokens |
|-----------|----------------------------------|-----------------------------|---------------|
| openai    | max(output limit, input)         | input                       | output        |
| azure     | input + output limit             | input                       | output        |
| anthropic | input + output                   | input without cache reads   | output        |
| gemini    | input                            | input                       | output        |
| others    | input + output                   | input                       | output        |

Sources: platform.openai.com/docs/guides/rate-limits ("the maximum of max_tokens and the estimated number of tokens");
learn.microsoft.com/azure/ai-services/openai/how-to/quota (prompt, `max_tokens` and `best_of` when the request is
received); platform.claude.com/docs/en/api/rate-limits (cache reads do not count, but with Haiku 3.5; `max_tokens` does
not); ai.google.dev/gemini-api/docs/rate-limits (tokens per minute are input).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cross_instance.providers.presets import ANTHROPIC, AZURE, GEMINI, OPENAI
from cross_instance.rules.operations import Costs

if TYPE_CHECKING:
    from cross_instance.providers.calibration import Calibration
    from cross_instance.providers.requests import RequestInfo
    from cross_instance.providers.usage import Usage

_CACHE_READS_COUNT = ("claude-3-5-haiku", "claude-haiku-3-5")


def costs_of(provider: str, info: RequestInfo, calibration: Calibration) -> Costs:
    """What a request will be charged when it arrives, or must be reserved for it where output is charged later."""
    if not info.counts:
        return Costs()
    provider = provider.lower()
    inputs = math.ceil(info.estimated_input * calibration.input_factor(provider, info.model))
    outputs = calibration.output(provider, info.model, info.output_limit)
    if provider == OPENAI:
        tokens = max(info.output_limit or 0, inputs)
    elif provider == AZURE:
        tokens = inputs + (outputs if info.output_limit is None else info.output_limit)
    else:
        tokens = inputs if provider == GEMINI else inputs + outputs
    return Costs(tokens=tokens, input_tokens=inputs, output_tokens=outputs)


def charged(provider: str, usage: Usage, model: str = "") -> Costs:
    """What a call has really cost, for limits that are corrected to it."""
    provider = provider.lower()
    inputs = usage.prompt_tokens
    if provider == ANTHROPIC and not model.lower().startswith(_CACHE_READS_COUNT):
        inputs -= usage.cache_read_tokens
    tokens = inputs if provider == GEMINI else inputs + usage.output_tokens
    return Costs(tokens=tokens, input_tokens=inputs, output_tokens=usage.output_tokens)
