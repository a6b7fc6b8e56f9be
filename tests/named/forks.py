"""A child that is forked at a bad moment, and lives on."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reaped() -> Iterator[list[int]]:
    """Children that are put here are ended."""
    children: list[int] = []
    try:
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def idle_child() -> int:
    """Fork a child that does nothing; its pid."""
    child = os.fork()
    if not child:
        while True:
            signal.pause()
    return child
