"""`cross-instance instances --watch`: a live table on a terminal, and lines elsewhere, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.cli.commands import Place, command_line, ended_at_last

from cross_instance import Runtime
from cross_instance.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN, HIDDEN = b"\x1b[?25h", b"\x1b[?25l"
"""What shows the cursor of a terminal again, and what hides it."""


def read_until(there: int, found: Callable[[bytes], bool]) -> bytes:
    """Read until that is so, or until nobody writes any more."""
    seen = b""
    while not found(seen):
        try:
            more = os.read(there, 65_536)
        except OSError:  # a terminal that nobody writes to any more, on Linux
            break
        if not more:
            break
        seen += more
    return seen


def test_on_a_terminal_a_table_is_kept_up_to_date(place: Place) -> None:
    here, there = os.openpty()
    environment = place.variables | {"TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    process = subprocess.Popen(
        command_line("cross-instance", "instances", "--watch"),
        cwd=place.project,
        env=environment,
        stdout=there,
        stderr=there,
        process_group=0,
    )
    os.close(there)
    with process, ended_at_last(process):
        seen = read_until(here, lambda seen: b"No instance is connected." in seen)
        with Runtime("worker-1", settings=load_settings(place.project, environ={}, home=place.home)):
            seen += read_until(here, lambda seen: b"worker-1" in seen)
        seen += read_until(here, lambda seen: b"No instance is connected." in seen)
        os.killpg(process.pid, signal.SIGINT)
        seen += read_until(here, lambda _: False)
        os.close(here)
        assert process.wait(timeout=60) == 130
    assert b"backlog" in seen
    assert seen.rindex(SHOWN) > seen.rindex(HIDDEN), "the cursor is there again"
    assert b"Traceback" not in seen


def test_elsewhere_lines_are_printed_anew(place: Place) -> None:
    with place.start("instances", "--watch") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["No instance is connected.\n"] * 2
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, "")
    assert "\x1b" not in out
