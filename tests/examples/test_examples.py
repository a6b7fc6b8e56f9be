"""The example programs, each in as many processes as the guide has, with the real SDKs and a provider with limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer, Uniform

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = {"requestsPerMinute": 600, "burst": 5}


class Stage(NamedTuple):
    """A project of its own, whose configuration keeps well within the provider's limits."""

    folder: Path
    server: ProviderServer

    def run(self, *calls: tuple[str, ...]) -> list[str]:
        """Run examples side by side, each with its instance id; what each of them says."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PI_")}
        environment |= {"HOME": str(self.folder), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        environment |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": self.server.base_url("openai")}
        environment |= {"ANTHROPIC_API_KEY": "any", "ANTHROPIC_BASE_URL": self.server.base_url("anthropic")}
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, str(EXAMPLES / example), *arguments],
                        cwd=self.folder,
                        env=environment | {"PI_INSTANCE_ID": name},
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                for name, example, *arguments in calls
            ]
            for process in processes:
                stack.callback(process.kill)
            said = [process.communicate(timeout=120) for process in processes]
        assert [(process.returncode, err) for process, (_, err) in zip(processes, said, strict=True)] == [
            (0, "")
        ] * len(calls)
        return [out for out, _ in said]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / ".pi").mkdir()
    settings = {"crossInstance": {"providers": {"openai": LIMIT, "anthropic": LIMIT}}}
    (tmp_path / ".pi" / "config.json").write_text(json.dumps(settings))
    limit = Limit("requests", LIMIT["requestsPerMinute"], burst=4 * LIMIT["burst"])
    config = ProviderConfig(limits=(limit,), latency=Uniform(0.01, 0.05), share_accounts=True)
    with ProviderServer(config) as server:
        yield Stage(tmp_path, server)


def test_analysers_share_the_account_and_the_work(stage: Stage) -> None:
    sizes = {"core": 12, "utils": 2, "api": 1}
    for name, count in sizes.items():
        folder = stage.folder / "src" / name
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"module_{number}.py").write_text(f"x = {number}\n")
    calls = [(f"analyzer-{place}", "analyze.py", f"src/{name}") for place, name in enumerate(sizes, 1)]
    said = stage.run(*calls)
    assert [out.count(".py (analyzer-") for out in said] == list(sizes.values())
    seen = stage.server.statistics().total
    assert (seen.accepted, seen.rejected) == (15, 0)
    again = stage.run(calls[0])
    assert again == [said[0]], "what was found before is told again"
    assert stage.server.statistics().total.accepted == 15


def test_teams_work_within_the_provider_s_limits(stage: Stage) -> None:
    goals = {
        "core-delivery-team": "Implement feature A",
        "bug-war-room": "Fix critical bug B",
        "research-team": "Research pattern C",
    }
    calls = [(f"team-{place}", "team.py", team, goal) for place, (team, goal) in enumerate(goals.items(), 1)]
    for team, out in zip(goals, stage.run(*calls), strict=True):
        lines = [line for line in out.splitlines() if line.startswith(f"{team}, ")]
        assert len(lines) == 4
        assert lines[-1].startswith(f"{team}, lead: ")
    seen = stage.server.statistics().total
    assert (seen.accepted, seen.rejected) == (15, 0)
