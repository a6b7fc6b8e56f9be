"""The commands that look: what they print with and without live instances, and how they tell what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.cli.commands import Place

from cross_instance import RateLimitExceeded, Runtime
from cross_instance.config import load_settings
from cross_instance.membership.presence import Card, Presence, instances_folder
from cross_instance.rules.operations import SECOND, Instant
from cross_instance.status import format_instance_status
from cross_instance.stores.folder import COORDINATION, GATE

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDERS = {"openai": {"requestsPerMinute": 500, "burst": 100}, "anthropic": {"requestsPerMinute": 50, "burst": 25}}
LOOKING = ["cross-instance limits", "cross-instance status", "pi_model_limits", "pi_instance_status"]


@pytest.fixture
def live(place: Place) -> Iterator[Runtime]:
    """An instance with two requests under way, in the place's own store; it does not beat within a test."""
    place.configure({"providers": PROVIDERS})
    settings = load_settings(
        place.project, environ={}, home=place.home, heartbeat_interval_ms=120_000, heartbeat_timeout_ms=600_000
    )
    with Runtime("instance-1", settings=settings) as runtime:
        permits = [runtime.permit("openai", "gpt-4o").acquire() for _ in range(2)]
        with runtime.permit("anthropic", "claude-sonnet-4") as done:
            done.settle(status=200)
        yield runtime
        for permit in permits:
            permit.close()


# --- the guide's commands ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live")
def test_pi_model_limits_prints_the_guides_text(place: Place) -> None:
    done = place.run("pi_model_limits")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Provider: openai\n  Requests/minute: 500\n  Burst: 100\n  Current usage: 2/500\n\n"
        "Provider: anthropic\n  Requests/minute: 50\n  Burst: 25\n  Current usage: 1/50\n"
    )


@pytest.mark.usefixtures("live")
def test_pi_model_limits_of_one_provider_in_any_case(place: Place) -> None:
    done = place.run("pi_model_limits", "--provider", "Anthropic")
    assert done.stdout == "Provider: anthropic\n  Requests/minute: 50\n  Burst: 25\n  Current usage: 1/50\n"


@pytest.mark.usefixtures("live")
def test_pi_instance_status_prints_the_guides_text(place: Place) -> None:
    done = place.run("pi_instance_status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Instance: instance-1\n  Status: Connected\n  Active requests: 2\n  Provider usage:\n"
        "    openai: 2/500 requests (0%)\n    anthropic: 1/50 requests (2%)\n"
    )


def test_pi_instance_status_as_json_is_the_guides_structure(place: Place, live: Runtime) -> None:
    told = place.read_json("pi_instance_status", "--json")
    assert [{**instance, "providers": set(instance["providers"])} for instance in told] == [
        {
            "instanceId": live.instance_id,
            "coordinatorConnected": True,
            "providers": {"openai", "anthropic"},
            "activeRequests": 2,
        }
    ]
    assert told[0]["providers"]["anthropic"] == {
        "requestsPerMinute": 50,
        "currentUsage": 1,
        "burstAvailable": told[0]["providers"]["anthropic"]["burstAvailable"],
    }
    assert told[0] == live.pi_instance_status() | {"providers": told[0]["providers"]}


@pytest.mark.usefixtures("live")
def test_pi_model_limits_as_json(place: Place) -> None:
    openai = place.read_json("pi_model_limits", "--json")["providers"]["openai"]
    assert (openai["requestsPerMinute"], openai["burst"], openai["currentUsage"]) == (500, 100, 2)
    assert openai["source"] == "configured"
    assert [limit["kind"] for limit in openai["limits"]] == ["requests"]


# --- the richer tables ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live")
def test_limits_show_use_and_source(place: Place) -> None:
    done = place.run("cross-instance", "limits", "--provider", "openai")
    heading, line = done.stdout.splitlines()
    assert heading.split()[:4] == ["account", "model", "limit", "amount"]
    assert line.split()[:5] == ["openai", "all", "requests", "500/min", "100"]
    assert line.split()[-2:] == ["2", "configured"]


def test_limits_of_models_and_of_everything_together(place: Place) -> None:
    models = {"gpt-4.1*": {"tokensPerMinute": 30_000, "requestsPerDay": 1_000, "concurrency": 3}}
    place.configure({"totalMaxLlm": 7, "providers": {"openai": {"models": models}}})
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("one", settings=settings) as runtime, runtime.permit("openai", "gpt-4.1"):
        text = place.run("cross-instance", "limits").stdout
        told = place.read_json("cross-instance", "limits", "--json")["limits"]
    rows = [tuple(line.split()) for line in text.splitlines()[1:]]
    assert ("openai", "gpt-4.1*", "requests", "1,000/day", "1,000") in {row[:5] for row in rows}
    assert ("openai", "gpt-4.1*", "concurrency", "3", "3", "2", "configured") in rows
    assert any(row[:5] == ("(all", "accounts)", "all", "concurrency", "7") for row in rows)
    assert {(limit["provider"], limit["model"], limit["kind"]) for limit in told} == {
        ("", "", "concurrency"),
        ("openai", "", "requests"),
        ("openai", "gpt-4.1*", "tokens"),
        ("openai", "gpt-4.1*", "requests_day"),
        ("openai", "gpt-4.1*", "concurrency"),
    }


@pytest.mark.usefixtures("live")
def test_status_shows_instances_and_accounts(place: Place) -> None:
    lines = place.run("cross-instance", "status").stdout.splitlines()
    assert lines[0] == f"Store: {place.runtime_dir}"
    instance = next(line for line in lines if line.startswith("instance-1"))
    assert instance.split()[-2:] == ["2", "0"]
    openai = next(line for line in lines if line.startswith("openai"))
    assert openai.split()[:6] == ["openai", "all", "2", "2", "0", "0"]


def test_an_account_and_the_queue_of_its_models_are_told_apart(place: Place) -> None:
    place.configure({"providers": {"acme": {"requestsPerMinute": 60, "burst": 9, "concurrency": 1}}})
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("one", settings=settings) as runtime, runtime.permit("acme", "m"):
        with pytest.raises(RateLimitExceeded), runtime.permit("acme", "m", timeout=0.01):
            pass
        lines = place.run("cross-instance", "status").stdout.splitlines()
    rows = [line.split()[:5] for line in lines if line.startswith("acme")]
    assert rows == [["acme", "all", "1", "1", "0"], ["acme", "(other", "models)", "0", "0"]]


def test_status_as_json(place: Place, live: Runtime) -> None:
    told = place.read_json("cross-instance", "status", "--json")
    assert [instance["instanceId"] for instance in told["instances"]] == [live.instance_id]
    assert {account["node"] for account in told["accounts"]} == {"openai/default", "anthropic/default"}
    assert (told["enabled"], told["store"]) == (True, str(place.runtime_dir))


def test_a_conflict_of_configurations_is_shown(place: Place, live: Runtime) -> None:
    stricter = load_settings(place.project, environ={}, home=place.home, providers={"openai": {"requestsPerMinute": 9}})
    with Runtime("instance-2", settings=stricter) as other, other.permit("openai", timeout=5.0):
        text = place.run("cross-instance", "status").stdout
        doctor = place.run("cross-instance", "doctor").stdout
    assert live.instance_id in text
    assert "limits-conflict: " in text
    assert "warn  notice: limits-conflict: " in doctor


def test_a_store_that_is_switched_off_says_so(place: Place) -> None:
    place.configure({"enabled": False})
    assert "switched off" in place.run("cross-instance", "status").stdout


# --- nobody there, nothing usable ----------------------------------------------------------------------------------


def test_without_instances_the_presets_are_told_and_nothing_is_made(place: Place) -> None:
    text = place.run("pi_model_limits").stdout
    assert text.count("Source: preset") == 4
    assert place.run("pi_instance_status").stdout == "No instance is connected.\n"
    assert place.read_json("pi_instance_status", "--json") == []
    assert "No instance is connected." in place.run("cross-instance", "status").stdout
    assert place.run("cross-instance", "doctor").returncode == 0
    assert not place.runtime_dir.parent.exists()


@pytest.mark.parametrize("line", ["cross-instance limits", "pi_model_limits"])
def test_an_unknown_provider_is_told_in_one_line(place: Place, line: str) -> None:
    done = place.run(*line.split(), "--provider", "opneai")
    name = line.split()[0]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{name}: unknown provider 'opneai'; known are openai, anthropic, deepseek, gemini, azure\n"


@pytest.mark.parametrize("line", LOOKING)
def test_broken_json_is_told_in_one_line(place: Place, line: str) -> None:
    file = place.configure('{"crossInstance": {"providers": }')
    done = place.run(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{line.split()[0]}: {file}:1")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("line", LOOKING)
def test_a_folder_that_is_none_is_told_in_one_line(place: Place, line: str) -> None:
    place.runtime_dir.parent.mkdir()
    place.runtime_dir.write_text("a file")
    done = place.run(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{place.runtime_dir} is not a folder" in done.stderr
    assert done.stderr.count("\n") == 1


def open_folder(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "x").touch()


# --- doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_everything_in_order(place: Place, live: Runtime) -> None:
    told = place.read_json("cross-instance", "doctor", "--json")
    assert told["ok"] is True
    assert {check["name"] for check in told["checks"]} >= {"system", "configuration", "folder", "store", "clock"}
    assert all(check["level"] == "ok" and not check["mend"] for check in told["checks"])
    assert live.instance_id


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda place: place.configure('{"crossInstance": {"burts": 1}}'), ["FAIL  configuration", "burts"]),
        (lambda place: place.runtime_dir.write_text(""), ["FAIL  folder", "is not a folder", "PI_RUNTIME_DIR"]),
        (lambda place: open_folder(place.runtime_dir), ["FAIL  folder", "mode 755", "holds other things"]),
    ],
    ids=["configuration", "no folder", "open folder"],
)
def test_the_doctor_says_what_fails_and_how_to_mend_it(place: Place, prepare: object, words: list[str]) -> None:
    place.runtime_dir.parent.mkdir()
    assert callable(prepare)
    prepare(place)
    done = place.run("cross-instance", "doctor")
    assert done.returncode == 1
    assert done.stderr == ""
    for word in words:
        assert word in done.stdout
    failed = next(index for index, line in enumerate(done.stdout.splitlines()) if line.startswith("FAIL"))
    assert done.stdout.splitlines()[failed + 1].startswith("      ")


def test_the_doctor_warns_of_guesses_and_of_what_was_set_aside(place: Place) -> None:
    settings = load_settings(place.project, environ={}, home=place.home)
    folder = instances_folder(settings.runtime_dir)
    (folder / "old.lock").write_text("not JSON")
    card = Card(instance_id="old", pid=1, session_id="", started_at="", cwd="", host="")
    Presence.take(folder, card).release(remove=True)
    with Runtime("one", settings=settings) as runtime, runtime.permit("acme", "m"):
        done = place.run("cross-instance", "doctor")
    assert done.returncode == 0
    assert "warn  limits: the limits of acme are guessed" in done.stdout
    assert "warn  instances: 1 damaged instance files were set aside" in done.stdout


def test_the_doctor_misses_the_file_of_a_live_instance(place: Place, live: Runtime) -> None:
    """Moved in one step: emptied file by file it could be written to meanwhile, by the heartbeat's look around."""
    (place.runtime_dir / "instances").rename(place.runtime_dir / "removed")
    done = place.run("cross-instance", "doctor")
    assert done.returncode == 0
    assert f"warn  instances: {live.instance_id} without a file in {place.runtime_dir / 'instances'}" in done.stdout


def everything_below(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file's mode, size and time of change."""
    found = ((path, path.lstat()) for path in (folder, *folder.rglob("*")))
    return {str(path): (stat.st_mode, stat.st_size, stat.st_mtime_ns) for path, stat in found}


@pytest.mark.parametrize("line", [*LOOKING, "cross-instance doctor"])
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_look_at_a_store_that_nobody_uses_changes_nothing(place: Place, line: str, mode: int) -> None:
    """Left by an earlier boot: another coordination file; opening the store would remove it, and close the folder."""
    place.runtime_dir.mkdir(parents=True)
    for name in (GATE, f"{COORDINATION}earlier.mdb", f"{COORDINATION}earlier.mdb-lock"):
        (place.runtime_dir / name).write_bytes(b"?")
    place.runtime_dir.chmod(mode)
    before = everything_below(place.home)
    done = place.run(*line.split())
    assert everything_below(place.home) == before
    doctor = line.endswith("doctor")
    assert done.returncode == (0 if mode == 0o700 or doctor else 2)
    if mode == 0o755:
        assert f"chmod 700 {place.runtime_dir}" in (done.stdout if doctor else done.stderr)


@pytest.mark.usefixtures("live")
def test_an_open_folder_in_use_is_refused_and_left_as_it_is(place: Place) -> None:
    place.runtime_dir.chmod(0o755)
    done = place.run("cross-instance", "status")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"chmod 700 {place.runtime_dir}" in done.stderr
    assert place.runtime_dir.stat().st_mode & 0o777 == 0o755


UNPRIVILEGED = """
import os, sys
from importlib.metadata import version
import cross_instance.cli.checks, cross_instance.cli.doctor, cross_instance.cli.limits, cross_instance.cli.status
from cross_instance.cli import main
version("click")
if os.geteuid() == 0:  # imported before: the interpreter may lie where only root may read
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("below", ["", "below"], ids=["the folder itself", "a folder below"])
@pytest.mark.parametrize("command", ["doctor", "status", "limits"])
def test_an_unreadable_folder_is_a_finding_of_the_doctor_and_one_line_elsewhere(command: str, below: str) -> None:
    with TemporaryDirectory() as made:
        top = Path(made)
        locked = top / "locked"
        (locked / "below").mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(locked, 65534, 65534)
        top.chmod(0o755)
        locked.chmod(0)
        try:
            done = subprocess.run(
                [sys.executable, "-c", UNPRIVILEGED, command],
                cwd=top,
                env={**os.environ, "HOME": made, "PI_RUNTIME_DIR": str(locked / below)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            locked.chmod(0o700)
    if command == "doctor":
        assert (done.returncode, done.stderr) == (1, "")
        assert f"FAIL  folder: {locked / below} cannot be re" in done.stdout
    else:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "Permission denied; set PI_RUNTIME_DIR" in done.stderr


def test_the_doctor_tells_what_was_set_aside_in_the_store_and_what_has_no_effect(place: Place) -> None:
    place.configure({"coordinatorPort": 9000})
    place.runtime_dir.mkdir(parents=True, mode=0o700)
    (place.runtime_dir / f"{COORDINATION}x.mdb.damaged-1").touch()
    text = place.run("cross-instance", "doctor").stdout
    assert "warn  store: 1 damaged files of the store were set aside" in text
    assert "warn  configuration: coordinatorPort (" in text


def test_status_shows_what_is_guessed_and_what_has_no_effect(place: Place) -> None:
    place.configure({"coordinatorPort": 9000})
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("one", settings=settings) as runtime, runtime.permit("acme", "m-1"):
        text = place.run("cross-instance", "status").stdout
        told = place.read_json("cross-instance", "status", "--json")
    assert "limits-guessed: nothing is known of the limits of acme/default" in text
    assert "settings-ignored: coordinatorPort (" in text
    assert (told["guessed"], told["ignored"]) == (["acme/default"], ["coordinatorPort"])


def test_an_unused_preset_is_shown_as_it_starts(place: Place) -> None:
    planned = place.read_json("cross-instance", "limits", "--provider", "openai", "--json")["limits"]
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("one", settings=settings) as runtime:
        with runtime.permit("openai", "m"):
            pass
        used = next(limit for limit in runtime.limits() if limit.kind == "requests")
    assert [limit["available"] for limit in planned] == [8]
    assert used.available <= 8


def test_an_instance_is_silent_after_the_timeout_of_the_settings(place: Place) -> None:
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("one", settings=settings) as runtime:
        world = runtime.status().world
    assert world is not None
    later = msgspec.structs.replace(world, at=Instant(world.at.mono, world.instances[0].beat_at + 75 * SECOND))
    assert "Silent for 75 s" in format_instance_status(later, 60.0)
    assert "Status: Connected" in format_instance_status(later, 300.0)
    assert "Silent for 75 s" in format_instance_status(later)
