"""How the tests run a command: in a home and a project of its own, in this process or as one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import pytest

from cross_instance import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 240.0
"""Seconds until a command that was started is killed."""
ENTRY_POINTS = {
    "cross-instance": "main",
    "pi_instance_status": "pi_instance_status",
    "pi_model_limits": "pi_model_limits",
}


def command_line(name: str, *arguments: str) -> list[str]:
    """What runs an entry point without depending on an installed script."""
    function = ENTRY_POINTS[name]
    return [sys.executable, "-c", f"from cross_instance.cli import {function}; {function}()", *arguments]


@contextmanager
def ended_at_last(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill a process at the end, and where it goes on for too long."""
    alarm = threading.Timer(DEADLINE, process.kill)
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        process.kill()


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Place:
    """A home folder and a project below it."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.home / "project"

    @property
    def runtime_dir(self) -> Path:
        return self.home / ".pi" / "runtime"

    def configure(self, settings: dict[str, Any] | str) -> Path:
        text = settings if isinstance(settings, str) else json.dumps({"crossInstance": settings})
        file = self.project / ".pi" / "config.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    @property
    def variables(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PI_")}
        return inherited | {"HOME": str(self.home)} | self.environment

    def run(self, name: str, *arguments: str) -> Done:
        """Run a command in this process: quick, and by the same entry point."""
        out, err = StringIO(), StringIO()
        with (
            patch.dict(os.environ, self.variables, clear=True),
            chdir(self.project),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            getattr(cli, ENTRY_POINTS[name])(list(arguments))
        code = end.value.code
        return Done(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())

    def read_json(self, name: str, *arguments: str) -> Any:
        done = self.run(name, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command in a process group of its own, as a terminal would start it; its temporary files are in `tmp`.

        It is killed where it does not end by itself, so that a test fails instead of waiting for ever.
        """
        (self.home / "tmp").mkdir()
        with (
            subprocess.Popen(
                command_line("cross-instance", *arguments),
                cwd=self.project,
                env=self.variables | {"TMPDIR": str(self.home / "tmp")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            ) as process,
            ended_at_last(process),
        ):
            yield process

    def left_behind(self) -> list[Path]:
        """The temporary files that it has not removed."""
        return list((self.home / "tmp").iterdir())
