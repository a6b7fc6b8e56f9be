"""The runtime at a real server: several machines, deaths on one of them, and a server that comes and goes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.looking import DEADLINE, names, until, waiting
from tests.runtime.doubles import settings_in
from tests.runtime.nets import beat_by_hand
from tests.runtime.program_run import PROVIDERS, UNHURRIED, program, said
from tests.stores.redis_server import Server, serving

from cross_instance import AsyncRuntime, DuplicateInstance, Runtime
from cross_instance.config import Settings
from cross_instance.stores.redis.store import RedisStore
from cross_instance.stores.urls import open_store


def settings_at(server: Server, folder: Path, *options: str) -> Settings:
    """Those of a process whose machine has this folder."""
    return settings_in(folder, store=server.url("default", *options), providers=PROVIDERS, **UNHURRIED)


def program_at(
    server: Server, folder: Path, command: str, instance_id: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """The program on the machine with this folder."""
    return program(folder, command, instance_id, PI_STORE=server.url())


def test_a_permit_passes_from_machine_to_machine(server: Server, tmp_path: Path) -> None:
    with (
        Runtime("tester", settings=settings_at(server, tmp_path / "here")) as runtime,
        program_at(server, tmp_path / "there", "wait", "waiter") as process,
    ):
        with runtime.permit("acme", "m-1"):
            assert [said(process), said(process)] == ["joined", "waiting"]
            until(lambda: waiting(runtime) == 1)
        assert said(process) == "granted"
        assert process.wait() == 0


def test_what_a_killed_process_of_this_machine_held_goes_to_who_waits(server: Server, tmp_path: Path) -> None:
    """No heartbeat comes within the test: the kernel's lock tells of the death, as with the embedded store."""
    with (
        Runtime("tester", settings=settings_at(server, tmp_path)) as runtime,
        program_at(server, tmp_path, "hold", "holder") as process,
    ):
        assert [said(process), said(process)] == ["joined", "held"]
        process.kill()
        with runtime.permit("acme", "m-1", timeout=DEADLINE):
            assert process.wait() == -signal.SIGKILL
        assert names(runtime) == ["tester"]


def test_an_id_is_taken_on_all_machines(server: Server, tmp_path: Path) -> None:
    with (
        Runtime("same", settings=settings_at(server, tmp_path / "here")),
        program_at(server, tmp_path / "there", "hold", "same") as process,
    ):
        assert said(process) == f"duplicate {os.getpid()}"


def test_a_forked_child_is_an_instance_of_its_own(server: Server, tmp_path: Path) -> None:
    with program_at(server, tmp_path, "fork", "forked") as process:
        lines = [said(process) for _ in range(3)]
        assert lines[0] == "joined"
        assert lines[1] == "child True True"
        assert lines[2].startswith("parent 0 ")
        assert process.wait() == 0
    until(lambda: server.connections() == 0)


def test_the_password_is_on_no_card(server: Server, tmp_path: Path) -> None:
    with server.client() as client:
        client.config_set("requirepass", "secret")
    try:
        url = server.url("default", "password=secret")
        settings = settings_in(tmp_path, store=url, providers=PROVIDERS)
        with Runtime("one", settings=settings) as runtime:
            cards = [path.read_text() for path in settings.runtime_dir.rglob("*.lock")]
            assert len(cards) == 1
            assert "127.0.0.1" in cards[0]
            assert "secret" not in cards[0] + repr(runtime.status()) + repr(settings)
    finally:
        with server.client(password="secret") as client:
            client.config_set("requirepass", "")


def test_a_server_that_lost_everything_is_joined_anew() -> None:
    with serving() as server, Runtime("one", settings=settings_at(server, server.folder)) as runtime:
        with runtime.permit("acme", "m-1"):
            server.kill()
            server.start()
        before = runtime.incarnation
        with runtime.permit("acme", "m-1", timeout=DEADLINE) as permit:
            assert permit.incarnation == runtime.incarnation > before
        assert names(runtime) == ["one"]


def test_who_knows_its_share_goes_on_while_the_server_is_away_and_settles_later() -> None:
    with (
        serving("--appendonly", "yes", "--appendfsync", "always") as server,
        Runtime("one", settings=settings_at(server, server.folder, "patience=0.5")) as runtime,
    ):
        with runtime.permit("acme", "m-1"):
            assert runtime.status().degraded is None
            server.kill()
        assert runtime.status().degraded is not None
        with runtime.permit("acme", "m-1", timeout=DEADLINE):
            assert runtime.status().degraded is not None
        server.start()
        until(lambda: runtime.status().degraded is None)
        with runtime.permit("acme", "m-1", timeout=DEADLINE):
            assert runtime.pi_instance_status()["activeRequests"] == 1
        assert runtime.status().degraded is None


def test_a_permit_is_one_call_and_its_end_another(server: Server, tmp_path: Path) -> None:
    def calls() -> int:
        with server.client() as client:
            stats: dict[str, dict[str, int]] = client.info("commandstats")
            return stats["cmdstat_evalsha"]["calls"]

    async def main(settings: Settings) -> int:
        async with AsyncRuntime("loop", settings=settings) as runtime:
            await take(runtime)  # the scripts are learned
            beat_by_hand(runtime)
            before = calls()
            await asyncio.gather(*(take(runtime) for _ in range(50)))
            return calls() - before

    async def take(runtime: AsyncRuntime) -> None:
        async with runtime.permit("other", "m-1"):
            pass

    settings = settings_at(server, tmp_path)
    with Runtime("one", settings=settings) as runtime:
        runtime.permit("other", "m-1").acquire().close()
        beat_by_hand(runtime)
        before = calls()
        for _ in range(50):
            runtime.permit("other", "m-1").acquire().close()
        assert calls() - before == 100
    assert asyncio.run(main(settings)) == 100


def test_tasks_take_turns_and_hold_three_connections(server: Server, tmp_path: Path) -> None:
    inside: list[int] = []

    async def work(runtime: AsyncRuntime) -> None:
        async with runtime.permit("acme", "m-1", timeout=DEADLINE):
            inside.append(1)
            assert len(inside) == 1
            await asyncio.sleep(0)
            inside.pop()

    async def main() -> None:
        async with AsyncRuntime("loop", settings=settings_at(server, tmp_path)) as runtime:
            await asyncio.gather(*(work(runtime) for _ in range(200)))
            assert server.connections() <= 3

    asyncio.run(main())
    until(lambda: server.connections() == 0)


@pytest.mark.parametrize(("said", "timeout", "patience"), [(1, 600_000, 1), (9, 600_000, 9), (9, 2_000, 0.5)])
def test_nobody_is_patient_until_the_others_count_him_as_gone(
    server: Server, tmp_path: Path, said: int, timeout: int, patience: float
) -> None:
    settings = settings_in(tmp_path, heartbeat_interval_ms=500, heartbeat_timeout_ms=timeout)
    store = open_store(server.url("default", f"patience={said}"), settings)
    assert isinstance(store, RedisStore)
    assert store._shared.patience == patience
    store.close()


def test_a_second_life_of_an_id_must_wait_for_the_first_to_end(server: Server, tmp_path: Path) -> None:
    with Runtime("same", settings=settings_at(server, tmp_path / "here")) as first:
        second = Runtime("same", settings=settings_at(server, tmp_path / "there"))
        with pytest.raises(DuplicateInstance):
            second.join()
        before = first.incarnation
    assert second.join()
    assert second.incarnation > before
    second.close()
