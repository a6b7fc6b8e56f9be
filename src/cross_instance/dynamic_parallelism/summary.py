"""The summary of an adjuster, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cross_instance.dynamic_parallelism.adjuster import DynamicParallelismAdjuster
    from cross_instance.dynamic_parallelism.models import ModelState


def summary_of(adjuster: DynamicParallelismAdjuster) -> str:
    """A few lines for each model."""
    states = adjuster.get_all_states()
    texts = [_text(adjuster, key, state) for key, state in states.items()]
    return "\n".join(["Dynamic parallelism", *texts]) if texts else "Dynamic parallelism: no model has been used."


def _text(adjuster: DynamicParallelismAdjuster, key: str, state: ModelState) -> str:
    config, health = state.config, state.health
    times = adjuster.get_response_times(*key.split(":", 1))
    lines = [
        f"{key}: {'healthy' if health.healthy else 'recovering'}",
        f"  Parallelism: {config.current_parallelism} of {config.base_parallelism} ({config.adjustment_reason})",
        f"  Active requests: {health.active_requests}",
        f"  Recent 429s: {health.recent429_count}",
    ]
    if state.instances > 1:
        lines.insert(2, f"  Shared by: {state.instances} instances")
    if times.samples:
        lines.append(f"  Response time: p50 {times.p50_ms:.0f} ms, p95 {times.p95_ms:.0f} ms ({times.status})")
    if times.streamed:
        firsts = f"p50 {times.first_token_p50_ms:.0f} ms, p95 {times.first_token_p95_ms:.0f} ms"
        lines.append(f"  First token: {firsts}")
    if health.recommended_backoff_ms:
        lines.append(f"  Recommended backoff: {health.recommended_backoff_ms / 1_000:.1f} s")
    return "\n".join(f"  {line}" for line in lines)
