"""The commands at a store on a real server."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest
from tests.cli.commands import Place
from tests.stores.redis_server import Server, serving

from cross_instance import Runtime
from cross_instance.cli import server_checks
from cross_instance.config import load_settings


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--appendonly", "yes") as server:
        yield server


def checks(place: Place, url: str) -> dict[str, tuple[str, str]]:
    """The doctor's findings: the level and the text of each."""
    told = json.loads(place.run("cross-instance", "doctor", "--json", "--store", url).stdout)
    return {check["name"]: (check["level"], check["finding"]) for check in told["checks"]}


def test_the_doctor_looks_at_a_server(place: Place, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "FAR", math.inf)  # how long a round trip takes here is the machine's business
    found = checks(place, server.url("anew"))
    assert [found[name][0] for name in ("store", "server", "latency", "eviction", "persistence", "clock")] == ["ok"] * 6
    assert server.connections() == 0
    with server.client() as client:
        assert client.keys("*anew*") == []


def test_a_server_that_is_far_is_worth_a_word(place: Place, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "FAR", 0.0)
    assert checks(place, server.url("anew"))["latency"][0] == "warn"


@pytest.mark.parametrize(
    ("name", "setting", "value", "normal", "finding"),
    [
        ("eviction", "maxmemory-policy", "allkeys-lru", "noeviction", "fail"),
        ("eviction", "maxmemory-policy", "volatile-ttl", "noeviction", "fail"),
        ("persistence", "appendonly", "no", "yes", "warn"),
    ],
)
def test_the_doctor_finds_settings_that_do_harm(
    place: Place, server: Server, name: str, setting: str, value: str, normal: str, finding: str
) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set(setting, value)
        try:
            assert checks(place, server.url())[name][0] == finding
        finally:
            client.config_set(setting, normal)
            client.config_set("maxmemory", 0)


def test_the_doctor_finds_a_replica(place: Place, server: Server) -> None:
    with serving("--replicaof", "127.0.0.1", str(server.port)) as replica:
        assert checks(place, replica.url())["server"] == ("fail", ANY)


@pytest.mark.parametrize("userinfo", [":secret@", "somebody:secret@"])
def test_the_doctor_tells_what_the_server_says_without_the_password(
    place: Place, server: Server, userinfo: str
) -> None:
    url = f"redis://{userinfo}127.0.0.1:{server.port}"
    done = place.run("cross-instance", "doctor", "--store", url)
    assert done.returncode == 1
    assert "FAIL  store: " in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_the_commands_that_look_see_the_instances_of_a_server(place: Place, server: Server) -> None:
    place.environment["PI_STORE"] = server.url("looked-at")
    settings = load_settings(place.project, environ=place.environment, home=place.home)
    with Runtime("one", settings=settings) as runtime, runtime.permit("openai", "m"):
        assert [one["instanceId"] for one in place.read_json("cross-instance", "status", "--json")["instances"]] == [
            "one"
        ]
        assert place.read_json("pi_instance_status", "--json")[0]["instanceId"] == "one"
        assert "openai" in place.run("cross-instance", "limits").stdout
    assert place.read_json("cross-instance", "status", "--json")["instances"] == []


def test_the_commands_for_tasks_work_at_a_server(place: Place, server: Server) -> None:
    place.environment["PI_STORE"] = server.url("tasks")
    settings = load_settings(place.project, environ=place.environment, home=place.home)
    tasks = ("cross-instance", "tasks")
    with Runtime("worker", settings=settings) as runtime:

        @runtime.task("halve", retries=0)
        def halve(number: int) -> float:
            raise ValueError(f"{number} is odd")

        failed, queued = runtime.submit(halve, 5), runtime.submit(halve, 7, delay=3_600)
        runtime.work(until_idle=True)
        listed = place.read_json(*tasks, "list", "--json")
        assert [(task["task"], task["state"]) for task in listed["tasks"]] == [
            (queued.task, "queued"),
            (failed.task, "failed"),
        ]
        assert listed["states"] == {"queued": 1, "failed": 1}
        assert "  ValueError: 5 is odd" in place.run(*tasks, "show", failed.task).stdout
        assert place.run(*tasks, "retry", "--state", "failed").stdout == f"{failed.task} is queued.\n"
        (row,) = place.read_json("cross-instance", "instances", "--json")["instances"]
        assert (row["instance"], row["runs"], row["queued"]) == ("worker", 0, 1)
        place.run(*tasks, "pause", "worker")
        runtime.work(until_idle=True)
        assert failed.status().state == "queued"
        cancelled = place.read_json(*tasks, "cancel", failed.task, queued.task, "--json")
        assert [task["state"] for task in cancelled["tasks"]] == ["cancelled", "cancelled"]
        assert place.run(*tasks, "purge", "--state", "cancelled").stdout == "Forgotten: 2.\n"


def test_events_of_all_machines_are_followed(place: Place, server: Server, tmp_path: Path) -> None:
    place.environment["PI_STORE"] = server.url("followed")
    here = load_settings(place.project, environ=place.environment, home=place.home)
    there = load_settings(place.project, environ=place.environment, home=place.home, runtime_dir=tmp_path / "there")
    with Runtime("near", settings=here) as near, Runtime("far", settings=there) as far:
        for runtime in (near, far):
            runtime._membership.events.tell("odd", f"{runtime.instance_id} before")
            runtime._membership.activity._safely()
        with place.start("events", "--follow", "--kind", "odd", "--json") as following:
            assert following.stdout is not None
            told = {json.loads(following.stdout.readline())["message"] for _ in range(2)}
            for runtime in (near, far):
                runtime._membership.events.tell("odd", f"{runtime.instance_id} after")
            told |= {json.loads(following.stdout.readline())["message"] for _ in range(2)}
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 130
    assert told == {"near before", "far before", "near after", "far after"}


def test_events_of_this_machine_are_shown_without_the_server(place: Place) -> None:
    place.environment["PI_STORE"] = "redis://127.0.0.1:1/0?patience=0.1"
    done = place.run("cross-instance", "events")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("What other machines tell is not shown: redis://127.0.0.1:1")


def test_a_server_that_is_away_when_following_begins_is_waited_for(place: Place, tmp_path: Path) -> None:
    with serving() as server:
        server.kill()
        place.environment["PI_STORE"] = server.url("late", "patience=0.1")
        there = load_settings(place.project, environ=place.environment, home=place.home, runtime_dir=tmp_path / "there")
        with place.start("events", "--follow", "--kind", "clock-jumped", "--last", "0") as following:
            assert following.stdout is not None
            assert following.stderr is not None
            assert following.stderr.readline().startswith("Waiting for the server; what other machines tell is shown")
            server.start()
            with Runtime("far", settings=there) as far:
                far._membership.events.tell("clock-jumped", "told meanwhile")
                assert following.stdout.readline().endswith("far: clock-jumped: told meanwhile\n")
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 130
            assert following.stderr.read().strip() == ""


def test_ctrl_c_ends_the_waiting_for_a_server(place: Place) -> None:
    place.environment["PI_STORE"] = "redis://127.0.0.1:1/0?patience=0.1"
    with place.start("events", "--follow") as following:
        assert following.stderr is not None
        assert following.stderr.readline().startswith("Waiting for the server")
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130
        assert following.stderr.read().strip() == ""


def test_a_server_that_refuses_once_it_has_come_is_told(place: Place) -> None:
    with serving("--requirepass", "secret") as server:
        server.kill()
        place.environment["PI_STORE"] = server.url("late", "patience=0.1")
        with place.start("events", "--follow") as following:
            assert following.stderr is not None
            assert following.stderr.readline().startswith("Waiting for the server")
            server.start()
            assert following.wait(60) == 2
            assert "it wants a password" in following.stderr.read()
