"""A worker that was stopped for longer than its lease: what it says of its task afterwards is refused."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.looking import names
from tests.processes import runtime_parts as parts, task_parts
from tests.processes.cut_off import IMPATIENT
from tests.processes.runtime_herd import Herd

from cross_instance import Runtime

if TYPE_CHECKING:
    from pathlib import Path


def test_a_zombie_s_finish_is_refused(tmp_path: Path) -> None:
    """It is stopped when its function has returned, and before the store has heard of it."""
    with Herd() as herd, Runtime("tester", settings=parts.settings_for(str(tmp_path), IMPATIENT)) as runtime:
        common = {"folder": tmp_path, "settings": IMPATIENT, "concurrency": 1}
        zombie = herd.start(task_parts.serve_told, name="zombie", halts=True, **common)
        handle = runtime.submit("effect", queue="zombie")
        herd.hear("ending", zombie)
        herd.stop(zombie, tmp_path / "runtime")
        herd.until(lambda: names(runtime) == ["tester"])
        heir = herd.start(task_parts.serve_told, name="heir", **common)
        assert handle.result(timeout=30) == 2, "the second attempt"
        os.kill(zombie, signal.SIGCONT)
        herd.tell(zombie, "go on")
        herd.until(lambda: [event for event in herd.events if event.pid == zombie and event.rest[:1] == ("Finish",)])
        told = [event.rest for event in herd.events if event.pid == zombie and event.rest[:1] == ("Finish",)]
        assert told == [("Finish", "Fenced")]
        assert handle.result() == 2
        outcomes = [(past.instance_id, past.outcome) for past in handle.status().attempts]
        assert outcomes == [("zombie", "died"), ("heir", "done")]
        anew = runtime.submit("effect", queue="zombie", stealable=False)
        assert anew.result(timeout=30) == 1
        assert herd.hear("did", zombie, count=2).rest[0] == anew.task, "it goes on"
        assert heir in herd.living
