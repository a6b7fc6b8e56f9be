"""Each limit holds on its own: two providers, two accounts, two models, and all together, as the provider sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd
from tests.processes.runtime_parts import Target

from cross_instance.testing.provider import Constant, Limit, ProviderConfig, ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 4
TIMES = 12
"""Calls of each process to each target."""
TOTAL = 5
SETTINGS: dict[str, Any] = {
    "total_max_llm": TOTAL,
    "providers": {
        "openai": {
            **parts.PLENTY,
            "concurrency": 3,
            "models": {"gpt-4o": {"concurrency": 1}, "o3": {"concurrency": 2}},
        },
        "anthropic": {"requestsPerMinute": 1_200, "burst": 20},
    },
}
LATE = 10
"""Requests of half a second: how much a busy machine may delay one between its permit and its arrival."""
LIMITS = (
    Limit("concurrency", 3, provider="openai"),
    Limit("concurrency", 1, provider="openai", models="gpt-4o"),
    Limit("concurrency", 2, provider="openai", models="o3"),
    Limit("requests", 1_200, burst=20 + LATE, provider="anthropic"),
)
"""What the provider enforces for each account of its own."""


def test_each_limit_holds_on_its_own_also_when_a_process_is_killed(tmp_path: Path) -> None:
    with ProviderServer(ProviderConfig(limits=LIMITS, latency=Constant(0.02))) as server, Herd() as herd:
        chat, messages = f"{server.url}/v1/chat/completions", f"{server.url}/v1/messages"
        targets = [
            Target("openai", "first", "gpt-4o", chat),
            Target("openai", "first", "o3", chat),
            Target("openai", "second", "gpt-4o", chat),
            Target("openai", "second", "o3", chat),
            Target("anthropic", "first", "claude", messages),
        ]
        where = {"folder": tmp_path, "settings": SETTINGS, "targets": targets}
        callers = herd.begin(parts.call, PROCESSES, times=TIMES, **where)
        herd.hear("answered", count=20)
        herd.kill(callers.pop())
        for caller in callers:
            assert herd.end(caller) == 0
        herd.hear_out()
        seen = server.statistics()
    answers = [event.rest for event in herd.events if event.word == "answered" and event.pid in callers]
    assert len(answers) == len(callers) * TIMES * len(targets)
    assert {status for _, status in answers} == {"200"}
    assert seen.rejections == {}
    assert 1 < seen.total.max_in_flight <= TOTAL
    assert sorted(seen.accounts) == ["anthropic/1", "openai/1", "openai/2"]
