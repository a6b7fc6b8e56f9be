"""The processes of a demo: started, spoken to in lines, and ended, whatever happens.

1. Each stands in a process group of its own, so that Ctrl-C reaches the demo alone, which then ends them in order.
2. Each ends when its standard input does: nothing stays behind even if the demo is killed.
3. Variables by which the user steers the SDK or this package do not reach them, nor does a proxy.
4. Their files are in a folder that goes with the demo: nothing of the user's is read, nothing of the demo's is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from cross_instance.errors import CrossInstanceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence

    Lines = asyncio.Queue[bytes]

T = TypeVar("T")

GRACE = 5.0
"""Seconds a process has to end by itself once it is told to."""
PATIENCE = 60.0
"""Seconds a process has to start."""
KEPT_OUT = ("OPENAI_", "PI_")
TERMINATED = 143
"""Exit code after SIGTERM, as a shell reports it."""
READY, OVER = b"ready", b"over"
"""What a worker says before and after each run."""
LONGEST_LINE = 1 << 20
"""Bytes of a line that one of the processes is told."""


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
        self._send(signal.SIGTERM)

    async def end(self) -> None:
        """Have it end, and kill it if it does not."""
        self._stdin.close()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE)
        finally:
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        """Signal it while it lives; `Process.send_signal` would collect the exit code of one that has just ended, which
        asyncio then reports as an unknown child."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _early(self) -> str:
        return f"the demo's process {self.name} ended early; what it said on stderr is above"


@asynccontextmanager
async def started(module: str, *names: str) -> AsyncIterator[list[Child]]:
    """A module of this package as processes of these names, all of which have ended afterwards."""
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
    """Start one process; cancelled, it is started first and then ended, for the same reason (see `Child._send`)."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{__package__}.{module}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            process_group=0,
        )
    )
    try:
        return Child(name, await asyncio.shield(starting))
    except asyncio.CancelledError:
        child = Child(name, await starting)
        child.terminate()
        await child.end()
        raise


async def tell_all(children: Sequence[Child]) -> None:
    """An empty line to each: the signal to start, and the one to stop. Raises `DemoError`."""
    for child in children:
        await child.tell(b"")


async def brief_all(children: Sequence[Child], orders: Sequence[bytes]) -> None:
    """Tell each its order, and wait until all of them are ready. Raises `DemoError`."""
    for child, order in zip(children, orders, strict=True):
        await child.tell(order)
    for child in children:
        await child.hear()


async def until_terminated(scene: Coroutine[object, object, T]) -> T:
    """Play a scene; SIGTERM cancels it and then ends this process with its exit code."""
    task = asyncio.ensure_future(scene)
    terminated = asyncio.Event()

    def terminate() -> None:
        terminated.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated.is_set():
            sys.exit(TERMINATED)
        raise


@contextmanager
def private_folder(*runs: str) -> Iterator[Path]:
    """A folder that outlives its users, with one in it for each run that needs its own.

    It has a configuration, which keeps those of the folders above out.
    """
    with TemporaryDirectory(prefix="cross-instance-demo-", ignore_cleanup_errors=True) as name:
        config = Path(name) / ".pi" / "config.json"
        config.parent.mkdir()
        config.write_text("{}\n")
        for run in runs:
            (Path(name) / run).mkdir()
        yield Path(name)


# --- from within one of the processes ------------------------------------------------------------------------------


def report(line: bytes) -> None:
    """Say a line to the demo; one that is gone hears nothing."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line + b"\n")


async def obey(perform: Callable[[bytes, Lines], Awaitable[None]]) -> None:
    """Perform one order after the other; each is a line of standard input, and may await the lines that follow it.

    When standard input ends, so does this, whatever is being done.
    """
    reader, lines = await _standard_input(), asyncio.Queue[bytes]()
    async with asyncio.TaskGroup() as group:
        performing = group.create_task(_perform_all(perform, lines))
        async for line in reader:
            lines.put_nowait(line)
        performing.cancel()


async def _perform_all(perform: Callable[[bytes, Lines], Awaitable[None]], lines: Lines) -> None:
    while True:
        await perform(await lines.get(), lines)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}
    return kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
