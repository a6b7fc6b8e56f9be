"""A running instance follows its files of settings: on every store, sync and async, told, and with nothing lost."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.runtime.doubles import AsyncTimeline
from tests.runtime.nets import beat_by_hand
from tests.runtime.test_publishing_once import started

from cross_instance import AsyncRuntime, RateLimitExceeded, Runtime, StoreUnavailable
from cross_instance.events import CONFIG_PROBLEM, CONFIG_RELOADED
from cross_instance.membership.reloading import Reloading
from cross_instance.rules.operations import Acquire, Configure, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.runtime.doubles import Timeline

    from cross_instance.rules.operations import World

GUIDE = {
    "critical-worker": {"priority": 10, "reservedCapacity": 100},
    "background-worker": {"priority": 1, "reservedCapacity": 50},
}
ACME = {"acme": {"requestsPerMinute": 600}}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, **section: Any) -> None:
    (project / ".pi").mkdir(exist_ok=True)
    (project / ".pi" / "config.json").write_text(json.dumps({"crossInstance": section}))


@contextmanager
def joined(instance_id: str, **options: Any) -> Iterator[Runtime]:
    """An instance whose heartbeat thread does nothing of itself."""
    with Runtime(instance_id, **options) as runtime:
        beat_by_hand(runtime)
        yield runtime


def look(runtime: Runtime | AsyncRuntime) -> None:
    runtime._membership.reloading.look()


def weights(world: World) -> dict[str, tuple[int, int]]:
    names = {instance.incarnation: instance.instance_id for instance in world.instances}
    return {
        names[flow.incarnation]: (flow.weight, flow.reserve)
        for node in world.nodes
        for flow in node.flows
        if node.node == "acme/default"
    }


def events(runtime: Runtime | AsyncRuntime, kind: str) -> list[Any]:
    return [event for event in runtime._membership.events.recent if event.kind == kind]


def test_the_guides_priorities_and_reserves_take_effect_at_once(store: str, project: Path) -> None:
    write(project, providers=ACME)
    with joined("critical-worker", store=store) as runtime:
        with runtime.permit("acme", "m"):
            pass
        assert weights(runtime.run(Snapshot())) == {"critical-worker": (1, 0)}
        write(project, providers={"acme": {"requestsPerMinute": 300}}, instances=GUIDE)
        look(runtime)
        assert weights(runtime.run(Snapshot())) == {"critical-worker": (10, 100)}
        (limit,) = runtime.limits()
        assert (limit.amount, limit.source) == (300, "configured")
        (event,) = events(runtime, CONFIG_RELOADED)
        assert event.fields["changed"] == (
            *("instances.background-worker.priority", "instances.background-worker.reservedCapacity"),
            *("instances.critical-worker.priority", "instances.critical-worker.reservedCapacity"),
            "providers.acme.requestsPerMinute",
        )


def test_an_async_runtime_does_the_same(store: str, project: Path) -> None:
    write(project, providers=ACME)

    async def scenario() -> None:
        async with AsyncRuntime("critical-worker", store=store) as runtime:
            async with runtime.permit("acme", "m"):
                pass
            runtime._membership._pulse.stop()  # type: ignore[union-attr]  # its own thread must not do it first
            write(project, providers=ACME, instances=GUIDE, totalMaxLlm=1)
            await asyncio.to_thread(look, runtime)
            assert weights(await runtime.run(Snapshot())) == {"critical-worker": (10, 100)}
            assert runtime.settings.total_max_llm == 1
            async with runtime.permit("acme", "m"):
                with pytest.raises(RateLimitExceeded):
                    await runtime.permit("acme", "m", timeout=0).acquire()
            assert len(events(runtime, CONFIG_RELOADED)) == 1

    asyncio.run(scenario())


def test_the_heartbeats_thread_looks_by_itself(project: Path) -> None:
    write(project, providers=ACME)
    with Runtime("one", heartbeat_interval_ms=10, heartbeat_timeout_ms=600_000) as runtime:
        with runtime.permit("acme", "m"):
            pass
        heard = asyncio.Event()
        seen: list[str] = []

        async def hear() -> None:
            loop = asyncio.get_running_loop()

            def tell(event: Any) -> None:
                if event.kind == CONFIG_RELOADED:
                    seen.append(event.kind)
                    loop.call_soon_threadsafe(heard.set)

            with runtime.subscribe(tell):
                write(project, providers=ACME, instances={"one": {"priority": 7}})
                await asyncio.wait_for(heard.wait(), 60)

        asyncio.run(hear())
        assert seen == [CONFIG_RELOADED]
        assert runtime.settings.weight_and_reserve("one") == (7, 0)


def test_only_what_is_said_otherwise_is_published_and_only_once(timeline: Timeline, project: Path) -> None:
    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime:
        for provider in ("acme", "openai"):
            with runtime.permit(provider, "m"):
                pass
        timeline.ops.clear()
        write(project, providers={"acme": {"requestsPerMinute": 700}, "other": {"burst": 9}})
        for _ in range(3):
            look(runtime)
        assert [op.account for op, _ in timeline.ops if isinstance(op, Configure)] == ["acme/default"]


def test_the_limit_across_accounts_comes_and_goes(timeline: Timeline, project: Path) -> None:
    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime, runtime.permit("acme", "m"):
        write(project, providers=ACME, totalMaxLlm=1)
        look(runtime)
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m", timeout=0).acquire()
        write(project, providers=ACME)
        look(runtime)
        with runtime.permit("acme", "m", timeout=0):
            assert all(node.node for node in runtime.run(Snapshot()).nodes)


def test_a_publication_that_was_on_its_way_is_made_good(timeline: Timeline, project: Path) -> None:
    """Made from the settings before, it reaches the store after those after: it must not stay in force."""
    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime:
        flow = started(runtime, timeline)
        publication = next(flow)
        write(project, providers={"acme": {"requestsPerMinute": 300}})
        look(runtime)
        asked = flow.send(timeline.run(publication))
        assert isinstance(asked, Acquire)
        flow.close()
        look(runtime)
        assert [limit.amount for limit in runtime.limits()] == [300]


def test_a_store_out_of_reach_is_told_when_it_is_back(
    timeline: Timeline, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(account: str) -> None:
        raise StoreUnavailable(account)

    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime:
        with runtime.permit("acme", "m"):
            pass
        write(project, providers={"acme": {"requestsPerMinute": 300}})
        with monkeypatch.context() as patched:
            patched.setattr(runtime._membership, "publish", refuse)
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    look(runtime)
        assert [limit.amount for limit in runtime.limits()] == [600]
        look(runtime)
        assert [limit.amount for limit in runtime.limits()] == [300]
        assert len(events(runtime, CONFIG_RELOADED)) == 1


def test_a_wrong_file_is_told_once_shown_in_the_status_and_loses_nothing(
    timeline: Timeline, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(project, providers=ACME, instances={"one": {"reservedCapacity": 100}})
    with joined("one", store=timeline) as runtime, runtime.permit("acme", "m"):
        write(project, providers=ACME, instances={"one": {"reservedCapacity": "many"}})
        for _ in range(3):
            look(runtime)
        (event,) = events(runtime, CONFIG_PROBLEM)
        assert "instances.one.reservedCapacity" in event.fields["problem"]
        assert runtime.status().config_problem == event.fields["problem"]
        assert caplog.text.count("those before stay in force") == 1
        assert weights(runtime.run(Snapshot())) == {"one": (1, 100)}
        assert not runtime.status().degraded
        write(project, providers=ACME, instances={"one": {"reservedCapacity": 100}})
        look(runtime)
        assert runtime.status().config_problem is None
        (event,) = events(runtime, CONFIG_RELOADED)
        assert "what is in force stays the same" in event.message


def test_what_waits_for_the_next_start_is_said_once(
    timeline: Timeline, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime:
        write(project, providers=ACME, runtimeDir="elsewhere", profile="stable")
        look(runtime)
        write(project, providers=ACME, runtimeDir="elsewhere", profile="stable", coordinatorPort=8765)
        look(runtime)
        (event,) = events(runtime, CONFIG_RELOADED)
        assert event.fields["waiting"] == ("profile", "runtimeDir")
        assert "from the next start of this process: profile, runtimeDir" in caplog.text
        assert runtime.settings.profile == "default"


def test_an_incarnation_that_joins_anew_says_what_holds_now(timeline: Timeline, project: Path) -> None:
    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime:
        write(project, providers=ACME, instances={"one": {"priority": 3}}, totalMaxLlm=5)
        look(runtime)
        runtime._membership.rejoin(runtime.incarnation)
        with runtime.permit("acme", "m"):
            pass
        world = runtime.run(Snapshot())
        assert weights(world) == {"one": (3, 0)}
        assert {node.node for node in world.nodes} == {"", "acme/default"}


def test_many_changes_are_named_in_part(timeline: Timeline, project: Path) -> None:
    write(project, providers=ACME)
    with joined("one", store=timeline) as runtime:
        write(project, providers=ACME, instances={f"i{n}": {"priority": 2} for n in range(30)})
        look(runtime)
        (event,) = events(runtime, CONFIG_RELOADED)
        assert event.message.endswith("and 22 more")
        assert len(event.fields["changed"]) == 30


def test_an_instance_that_is_switched_on_joins_with_its_next_permit(timeline: Timeline, project: Path) -> None:
    now = [0.0]
    write(project, providers=ACME, enabled=False)
    runtime = Runtime("one", store=timeline)
    membership = runtime._membership
    membership.reloading = Reloading(membership, lambda: now[0])
    with runtime:
        with runtime.permit("acme", "m"):
            pass
        write(project, providers={"acme": {"requestsPerMinute": 300}}, enabled=True)
        with runtime.permit("acme", "m"):
            assert not runtime.incarnation, "it looks as seldom as it would beat"
        now[0] = runtime.settings.heartbeat_interval
        with runtime.permit("acme", "m"):
            assert membership.incarnation
            assert [limit.amount for limit in runtime.limits()] == [300]
        (event,) = events(runtime, CONFIG_RELOADED)
        assert event.fields["changed"] == ("enabled", "providers.acme.requestsPerMinute")


def test_an_async_instance_is_switched_on_too(timeline: Timeline, project: Path) -> None:
    now = [0.0]
    write(project, providers=ACME, enabled=False)

    async def scenario() -> None:
        runtime = AsyncRuntime("one", store=timeline, async_store=AsyncTimeline(timeline))
        runtime._membership.reloading = Reloading(runtime._membership, lambda: now[0])
        async with runtime:
            write(project, providers=ACME, enabled=True)
            now[0] = runtime.settings.heartbeat_interval
            async with runtime.permit("acme", "m"):
                assert runtime.incarnation

    asyncio.run(scenario())


def test_an_argument_that_switches_it_off_is_stronger_than_the_file(timeline: Timeline, project: Path) -> None:
    now = [0.0]
    write(project, providers=ACME, enabled=False)
    runtime = Runtime("one", store=timeline, enabled=False)
    runtime._membership.reloading = Reloading(runtime._membership, lambda: now[0])
    with runtime:
        write(project, providers=ACME, enabled=True)
        now[0] = runtime.settings.heartbeat_interval
        with runtime.permit("acme", "m"):
            assert not runtime.incarnation


def test_hosts_of_providers_follow_the_files_in_clients_made_before(timeline: Timeline, project: Path) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={})

    write(project, providers=ACME)
    with (
        joined("one", store=timeline) as runtime,
        runtime.http_client(transport=httpx2.MockTransport(answer)) as client,
    ):

        def call() -> int:
            client.post("http://new.test/v1/chat/completions", json={"model": "m", "messages": []})
            return sum(node.used for node in runtime.run(Snapshot()).nodes if node.node == "acme/default")

        assert call() == 0
        write(project, providers={"acme": {**ACME["acme"], "baseUrls": ["http://new.test"]}})
        look(runtime)
        assert call() == 1
        (event,) = events(runtime, CONFIG_RELOADED)
        assert event.fields["changed"] == ("providers.acme.baseUrls",)
