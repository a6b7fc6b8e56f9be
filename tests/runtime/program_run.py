"""Runs `program.py`: a process that takes permits of an account with one slot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.looking import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("program.py")
UNHURRIED = {"heartbeat_interval_ms": 120_000, "heartbeat_timeout_ms": 600_000}
"""No beat comes within a test: a death is noticed because somebody waits, or not at all."""
PROVIDERS = {
    "acme": {"requestsPerMinute": 60_000, "concurrency": 1},
    "other": {"requestsPerMinute": 60_000},
}


@contextmanager
def program(folder: Path, command: str, instance_id: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The program in a project, home and runtime folder of its own; it is killed where it does not end by itself."""
    config = folder / ".pi" / "config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"crossInstance": {"providers": PROVIDERS}}))
    environment = {
        "PI_RUNTIME_DIR": str(folder / "runtime"),
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        **variables,
    }
    arguments = [sys.executable, "-W", "error", str(PROGRAM), command, instance_id]
    with subprocess.Popen(
        arguments, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        alarm = threading.Timer(DEADLINE, process.kill)
        alarm.start()
        try:
            yield process
        finally:
            alarm.cancel()
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
