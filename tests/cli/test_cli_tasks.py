"""`cross-instance tasks`: what it prints, and that it does what it says, at a store that others use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cross_instance import Runtime
from cross_instance.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.commands import Place


@pytest.fixture
def runtime(place: Place) -> Iterator[Runtime]:
    settings = load_settings(place.project, environ={}, home=place.home)
    with Runtime("worker", settings=settings) as runtime:

        @runtime.task("halve", retries=0)
        def halve(number: int) -> float:
            if number % 2:
                raise ValueError(f"{number} is odd")
            return number / 2

        yield runtime


def test_where_there_is_no_store_nothing_is_made(place: Place) -> None:
    assert place.run("cross-instance", "tasks", "list") == (0, "There are no tasks.\n", "")
    assert place.run("cross-instance", "instances") == (0, "No instance is connected.\n", "")
    assert place.read_json("cross-instance", "tasks", "purge", "--state", "done", "--json") == {"purged": 0}
    none = place.run("cross-instance", "tasks", "retry", "--state", "dead")
    assert none.stdout == "There are no such tasks.\n"
    done = place.run("cross-instance", "tasks", "show", "nothing")
    assert (done.returncode, done.stderr) == (2, "cross-instance: there are no tasks here yet\n")
    assert not place.runtime_dir.exists()


def test_what_is_wrong_is_told_in_one_line(place: Place) -> None:
    (place.home / "file").touch()
    place.environment["PI_STORE"] = str(place.home / "file")
    for arguments in (["list"], ["show", "x"], ["cancel", "x"], ["retry", "x"], ["purge", "--state", "done"]):
        done = place.run("cross-instance", "tasks", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "file is not a folder" in done.stderr
        assert done.stderr.count("\n") == 1
    for arguments in (
        ["list", "--state", "lost"],
        ["show"],
        ["cancel"],
        ["purge"],
        ["purge", "--state", "queued"],
        ["retry", "--state", "done"],
    ):
        done = place.run("cross-instance", "tasks", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_no_error_of_a_task_reaches_the_terminal_as_a_command(place: Place, runtime: Runtime) -> None:
    @runtime.task("ring", retries=0)
    def ring() -> None:
        raise ValueError("\aring\r the bell")

    handle = runtime.submit("ring")
    runtime.work(until_idle=True)
    for words in (["list"], ["show", handle.task]):
        assert " ring  the bell\n" in place.run("cross-instance", "tasks", *words).stdout


def test_tasks_are_listed_by_state(place: Place, runtime: Runtime) -> None:
    good, bad = runtime.submit("halve", 4), runtime.submit("halve", 5, priority="low")
    runtime.work(until_idle=True)
    waiting = runtime.submit("halve", 6, queue="")
    lines = place.run("cross-instance", "tasks", "list").stdout.splitlines()
    assert [line.split()[:5] for line in lines[1:4]] == [
        [waiting.task, "halve", "queued", "(common)", "normal"],
        [good.task, "halve", "done", "worker", "normal"],
        [bad.task, "halve", "failed", "worker", "low"],
    ]
    assert lines[3].endswith("ValueError: 5 is odd")
    assert lines[-1] == "In all: 1 queued, 1 done, 1 failed."
    found = place.read_json("cross-instance", "tasks", "list", "--state", "queued", "--queue", "", "--json")
    assert [task["task"] for task in found["tasks"]] == [waiting.task]
    assert found["states"] == {"queued": 1, "done": 1, "failed": 1}


def test_one_task_is_shown_with_its_attempts(place: Place, runtime: Runtime) -> None:
    handle = runtime.submit("halve", 5)
    runtime.work(until_idle=True)
    shown = place.run("cross-instance", "tasks", "show", handle.task).stdout
    assert "arguments: [[5], {}]" in shown
    assert "attempt 1: retry on worker" in shown
    assert "  ValueError: 5 is odd" in shown
    assert place.read_json("cross-instance", "tasks", "show", handle.task, "--json")["failures"] == 1
    unknown = place.run("cross-instance", "tasks", "show", "nothing")
    assert (unknown.returncode, unknown.stderr[:43]) == (2, "cross-instance: there is no task 'nothing':")


def test_tasks_are_cancelled_sent_back_and_purged(place: Place, runtime: Runtime) -> None:
    one, other = runtime.submit("halve", 5), runtime.submit("halve", 7)
    done = place.run("cross-instance", "tasks", "cancel", one.task, other.task)
    assert done.stdout == f"{one.task} is cancelled.\n{other.task} is cancelled.\n"
    found = place.read_json("cross-instance", "tasks", "retry", "--state", "cancelled", "--kind", "halve", "--json")
    assert [task["state"] for task in found["tasks"]] == ["queued", "queued"]
    runtime.work(until_idle=True)
    assert place.run("cross-instance", "tasks", "retry", one.task).stdout == f"{one.task} is queued.\n"
    kept = place.run("cross-instance", "tasks", "purge", "--state", "failed", "--older-than", "3600")
    assert kept.stdout == "Forgotten: 0.\n"
    assert place.run("cross-instance", "tasks", "purge", "--state", "failed").stdout == "Forgotten: 1.\n"
    done_once = runtime.submit("halve", 8)
    runtime.work(until_idle=True)
    refused = place.run("cross-instance", "tasks", "retry", done_once.task)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"cross-instance: task {done_once.task} is done, and is not done again: submit another\n"
    wrong = place.run("cross-instance", "tasks", "retry")
    assert (wrong.returncode, "name tasks, or a state" in wrong.stderr) == (2, True)


def test_queues_are_paused(place: Place, runtime: Runtime) -> None:
    handle = runtime.submit("halve", 4)
    assert place.run("cross-instance", "tasks", "pause", "worker").stdout == "The queue worker is paused.\n"
    runtime.work(until_idle=True)
    assert handle.status().state == "queued"
    assert place.run("cross-instance", "tasks", "resume", "worker").stdout == "The queue worker goes on.\n"
    runtime.work(until_idle=True)
    assert handle.result() == 2.0


def test_instances_are_shown_with_their_tasks(place: Place, runtime: Runtime) -> None:
    runtime.submit_many("halve", [(2,)] * 3)
    with runtime.permit("acme"):
        (row,) = place.read_json("cross-instance", "instances", "--json")["instances"]
        assert {name: row[name] for name in ("instance", "held", "runs", "queued", "stolen")} == {
            "instance": "worker",
            "held": 1,
            "runs": 0,
            "queued": 3,
            "stolen": 0,
        }
        lines = place.run("cross-instance", "instances").stdout.splitlines()
    assert lines[0].split()[:2] == ["instance", "pid"]
    assert lines[1].split()[0] == "worker"
    seen: list[int] = []
    with Runtime("thief", settings=runtime.settings) as thief:

        @thief.task("halve")
        def halve(_: int) -> None:
            found = place.read_json("cross-instance", "instances", "--json")["instances"]
            seen.append(next(row["runs"] for row in found if row["instance"] == "thief"))

        thief.work(1, until_idle=True)
        found = place.read_json("cross-instance", "instances", "--json")["instances"]
    assert seen == [1] * 3
    assert {row["instance"]: row["stolen"] for row in found} == {"worker": 0, "thief": 3}
