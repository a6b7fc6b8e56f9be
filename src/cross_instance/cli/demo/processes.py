"""The demo's processes: started, spoken to in lines, and ended, whatever happens.

1. Each stands in a process group of its own, so that Ctrl-C reaches the demo alone, which then ends them in order.
2. Each ends when its standard input does: nothing stays behind even if the demo is killed.
3. Variables by which the user steers the SDK or this package do not reach them, nor does a proxy.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from cross_instance.errors import CrossInstanceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GRACE = 5.0
"""Seconds a process has to end by itself once it is told to."""
PATIENCE = 30.0
"""Seconds a process has to start."""
KEPT_OUT = ("OPENAI_", "PI_")


class DemoError(CrossInstanceError):
    """The demo cannot go on."""


class Child:
    """One process that is spoken to in lines."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.name = name
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    async def tell(self, line: bytes) -> None:
        """Write one line. Raises `DemoError` where the process has ended."""
        try:
            self._stdin.write(line + b"\n")
            await self._stdin.drain()
        except ConnectionError as error:
            raise DemoError(self._early()) from error

    async def hear(self) -> bytes:
        """The first line. Raises `DemoError` where none comes."""
        try:
            line = await asyncio.wait_for(self._stdout.readline(), PATIENCE)
        except TimeoutError as error:
            raise DemoError(f"the demo's process {self.name} did not start within {PATIENCE:.0f} s") from error
        if not line:
            raise DemoError(self._early())
        return line.rstrip(b"\n")

    async def lines(self) -> AsyncIterator[bytes]:
        """Every further line. Raises `DemoError` where they end."""
        async for line in self._stdout:
            yield line
        raise DemoError(self._early())

    def terminate(self) -> None:
        """End it at once, whatever it is doing."""
        if self._process.returncode is None:
            self._process.terminate()

    async def end(self) -> None:
        """Have it end, and kill it if it does not."""
        self._stdin.close()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE)
        finally:
            if self._process.returncode is None:
                self._process.kill()

    def _early(self) -> str:
        return f"the demo's process {self.name} ended early; what it said on stderr is above"


@asynccontextmanager
async def started(module: str, *names: str) -> AsyncIterator[list[Child]]:
    """A module of the demo as processes of these names, all of which have ended afterwards."""
    children: list[Child] = []
    try:
        for name in names:
            children.append(await _start(module, name))  # noqa: PERF401 - those started so far must be ended
        yield children
    except BaseException:
        for child in children:
            child.terminate()
        raise
    finally:
        await asyncio.gather(*(child.end() for child in children))


async def _start(module: str, name: str) -> Child:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"cross_instance.cli.demo.{module}", name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=_environment(),
        process_group=0,
    )
    return Child(name, process)


def report(line: bytes) -> None:
    """Say a line to the demo, from within one of its processes; a demo that is gone hears nothing."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line + b"\n")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}
    return kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
