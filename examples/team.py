"""The guide's Example 3: teams of agents in several processes, all of whose requests respect the provider's limits.

    PI_INSTANCE_ID=team-1 python examples/team.py core-delivery-team "Implement feature A"

The lead plans, the members work side by side, the lead sums up. A war room goes before the other teams: its requests
have a higher priority in the queue that all processes share.
"""

from __future__ import annotations

import asyncio
import sys

from anthropic import AsyncAnthropic

from cross_instance import AsyncRuntime

MODEL = "claude-sonnet-5-5"
TEAMS = {
    "core-delivery-team": ("architect", "developer", "tester"),
    "bug-war-room": ("investigator", "fixer", "reviewer"),
    "research-team": ("reader", "sceptic", "writer"),
}
PRIORITIES = {"bug-war-room": "high"}


async def main(team: str, goal: str) -> None:
    priority = {"X-CI-Priority": PRIORITIES.get(team, "normal")}
    async with (
        AsyncRuntime() as runtime,
        AsyncAnthropic(http_client=runtime.http_client("anthropic"), default_headers=priority) as client,
    ):

        async def ask(role: str, text: str) -> str:
            question = f"You are the {role} of the {team}. {text}"
            answer = await client.messages.create(
                model=MODEL, max_tokens=80, messages=[{"role": "user", "content": question}]
            )
            return "".join(block.text for block in answer.content if block.type == "text")

        plan = await ask("lead", f"Plan how to reach this goal: {goal}")
        parts = await asyncio.gather(*(ask(member, f"Do your part of this plan: {plan}") for member in TEAMS[team]))
        for member, part in zip(TEAMS[team], parts, strict=True):
            print(f"{team}, {member}: {part}")
        print(f"{team}, lead: {await ask('lead', 'Sum up: ' + ' '.join(parts))}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
