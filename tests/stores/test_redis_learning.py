"""Hidden limits at a real server: learned for all machines together, and kept as the server keeps anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.doubles import settings_in
from tests.stores.redis_server import Server, serving

from cross_instance import Runtime
from cross_instance.rules.operations import Snapshot, Unlearn, World
from cross_instance.status import Limit


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def machine(server: Server, folder: Path, name: str) -> Runtime:
    """A runtime on a machine of its own."""
    return Runtime(name, settings=settings_in(folder / name, store=server.url()))


def overload(runtime: Runtime) -> None:
    with runtime.permit("openai", "gpt-4o") as permit:
        permit.settle(status=429, headers={"retry-after": "0"})


def requests_of(runtime: Runtime) -> Limit:
    return next(limit for limit in runtime.limits() if limit.kind == "requests")


def test_what_one_machine_meets_all_have_learned(server: Server, tmp_path: Path) -> None:
    with machine(server, tmp_path, "one") as one, machine(server, tmp_path, "two") as two:
        with two.permit("openai", "gpt-4o"):
            pass
        before = requests_of(two)
        assert before.source != "learned"
        overload(one)
        limit = requests_of(two)
        assert (limit.source, limit.amount) == ("learned", requests_of(one).amount)
        assert limit.amount * before.period < before.amount * limit.period
        assert one.run(Unlearn()).nodes == ("openai/default",)
        assert requests_of(two).source == before.source


def test_what_was_learned_outlives_the_server_and_all_who_learned_it(server: Server, tmp_path: Path) -> None:
    with machine(server, tmp_path, "one") as one:
        overload(one)
    server.kill()
    server.start()
    with machine(server, tmp_path, "two") as two:
        with two.permit("openai", "gpt-4o"):
            pass
        world: World = two.run(Snapshot())
        learned = next(node.learned for node in world.nodes if node.node == "openai/default")
        assert learned is not None
        assert learned.rejected == 1
        assert requests_of(two).source == "learned"
