"""Tasks in real processes: none is lost, none has two owners, and whoever lost one is refused."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.looking import names
from tests.processes import cut_off, runtime_parts as parts, task_parts
from tests.processes.runtime_herd import Herd
from tests.stores.redis_server import serving

from cross_instance import Runtime
from cross_instance.rules.operations import TaskState
from cross_instance.tasks import TaskCancelled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS: dict[str, Any] = {"providers": {"acme": parts.PLENTY}}
IMPATIENT = SETTINGS | cut_off.IMPATIENT


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The setting that says where tasks are kept."""
    if request.param == "embedded":
        yield {}
        return
    with serving() as server:
        yield {"store": server.url()}


@pytest.fixture
def runtime(tmp_path: Path, store: dict[str, str]) -> Iterator[Runtime]:
    with Runtime("tester", settings=parts.settings_for(str(tmp_path), IMPATIENT | store)) as runtime:
        yield runtime


def test_submitted_tasks_outlive_everybody(tmp_path: Path, herd: Herd, store: dict[str, str]) -> None:
    submitter = herd.start(task_parts.submit, folder=tmp_path, settings=SETTINGS | store, count=150)
    herd.hear("ready", submitter)
    herd.kill(submitter)
    submitted = {event.rest[0] for event in herd.events if event.word == "submitted"}
    worker = herd.start(task_parts.serve, folder=tmp_path, settings=SETTINGS | store, name="later", until_idle=True)
    herd.hear("left", worker)
    assert {event.rest[0] for event in herd.events if event.word == "did"} == submitted
    assert len(submitted) == 150


@pytest.mark.parametrize("part", task_parts.SERVERS)
def test_sigterm_drains(tmp_path: Path, herd: Herd, runtime: Runtime, store: dict[str, str], part: Any) -> None:
    worker = herd.start(part, folder=tmp_path, settings=SETTINGS | store, name="worker", concurrency=2)
    running = runtime.submit("held", queue="worker")
    herd.hear("began", worker)
    os.kill(worker, signal.SIGTERM)
    herd.tell(worker, "go on")
    assert running.result(timeout=30) == "done", "it was let end"
    late = runtime.submit("effect", queue="worker")
    herd.hear("left", worker)
    assert herd.end(worker) == 0
    assert late.status().state is TaskState.QUEUED, "nothing new was begun"


@pytest.mark.parametrize("part", task_parts.SERVERS)
def test_who_was_stopped_longer_than_its_lease_is_refused(
    tmp_path: Path, herd: Herd, runtime: Runtime, store: dict[str, str], part: Any
) -> None:
    zombie = herd.start(part, folder=tmp_path, settings=IMPATIENT | store, name="zombie")
    handle = runtime.submit("held", queue="zombie")
    herd.hear("began", zombie)
    herd.stop(zombie, tmp_path / "runtime")
    herd.until(lambda: names(runtime) == ["tester"])
    heir = herd.start(task_parts.serve, folder=tmp_path, settings=IMPATIENT | store, name="heir")
    herd.hear("began", heir)
    os.kill(zombie, signal.SIGCONT)
    herd.tell(zombie, "go on")
    refused = herd.hear("refused", zombie)
    assert refused.rest[2] in {"PermitError", "TaskCancelled", "CancelledError"}
    herd.tell(heir, "go on")
    assert handle.result(timeout=30) == "done"
    assert [(past.instance_id, past.outcome) for past in handle.status().attempts] == [
        ("zombie", "died"),
        ("heir", "done"),
    ]
    herd.hear("spent", heir)
    assert not [event for event in herd.events if (event.word, event.pid) == ("spent", zombie)]
    anew = runtime.submit("effect", queue="zombie", stealable=False)
    assert anew.result(timeout=30) == 1
    assert herd.hear("did", zombie).rest[0] == anew.task, "it goes on"


@pytest.mark.parametrize("part", task_parts.SERVERS)
def test_others_see_and_cancel_what_runs(
    tmp_path: Path, herd: Herd, runtime: Runtime, store: dict[str, str], part: Any
) -> None:
    worker = herd.start(part, folder=tmp_path, settings=SETTINGS | store, name="worker")
    handle = runtime.submit("endless", queue="worker")
    herd.hear("began", worker)
    herd.until(lambda: handle.status().progress == "here")
    assert handle.cancel().cancel_asked
    with pytest.raises(TaskCancelled):
        handle.result(timeout=30)
    herd.hear("stopped", worker)
