"""A child that is forked at a bad moment, and lives on."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60
"""Seconds after which a child that hangs is ended."""


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


def in_child(work: Callable[[], bytes]) -> bytes:
    """What a function gives in a forked child; nothing where it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        with suppress(BaseException):
            os.write(writing, work())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told
