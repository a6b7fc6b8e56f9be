"""An `AsyncRuntime` whose event loop was closed before it was: its instance leaves, and its threads end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.looking import names, until
from tests.runtime.doubles import settings_in

from cross_instance import AsyncRuntime, Runtime

if TYPE_CHECKING:
    from pathlib import Path


PROVIDERS = {"acme": {"requestsPerMinute": 60_000}}
OFTEN: dict[str, Any] = {"heartbeat_interval_ms": 20, "heartbeat_timeout_ms": 600_000, "providers": PROVIDERS}


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("cross-instance")}


async def use(runtime: AsyncRuntime) -> int:
    async with runtime.permit("acme", "m"):
        return runtime.incarnation


def test_it_leaves_its_threads_end_and_it_can_be_used_again(store: str, tmp_path: Path) -> None:
    others = threads()
    runtime = AsyncRuntime("one", settings=settings_in(tmp_path, store=store, **OFTEN))
    first = asyncio.run(use(runtime))
    until(lambda: not threads() - others)
    assert runtime.incarnation == 0
    with Runtime("witness", settings=settings_in(tmp_path, store=store, **OFTEN)) as witness:
        assert names(witness) == ["witness"]

        async def use_and_close() -> int:
            async with runtime:
                assert await asyncio.to_thread(names, witness) == ["witness", "one"]
                return await use(runtime)

        assert asyncio.run(use_and_close()) > first
        assert names(witness) == ["witness"]
    assert not threads() - others


def test_what_was_held_there_is_given_back_before(tmp_path: Path) -> None:
    others = threads()
    runtime = AsyncRuntime("one", settings=settings_in(tmp_path, **OFTEN))
    kept: list[Any] = []

    async def take() -> None:
        runtime.subscribe(lambda event: None, everyone=True)
        kept.append(await runtime.permit("acme", "m").acquire())

    asyncio.run(take())
    assert not runtime._membership.switch.is_to_leave()
    with pytest.warns(ResourceWarning, match="never closed"):
        kept.clear()
    until(lambda: not threads() - others)
    assert runtime.incarnation == 0


def test_who_shares_the_instance_keeps_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, **OFTEN)
    with Runtime("one", settings=settings) as shared:
        stranded = AsyncRuntime("one", settings=settings)
        incarnation = asyncio.run(use(stranded))
        until(lambda: stranded not in shared._membership.users)
        with shared.permit("acme", "m"):
            assert shared.incarnation == incarnation


ENDS = """
import asyncio, sys
from cross_instance import AsyncRuntime

async def main(runtime):
    async with runtime.permit("openai", "m"):
        pass

runtime = AsyncRuntime("one", runtime_dir=sys.argv[1], store=sys.argv[2], heartbeat_interval_ms=10)
asyncio.run(main(runtime))
while len(sys.argv) > 3 and runtime.incarnation:
    pass
"""


@pytest.mark.parametrize("waits", [(), ("until it has left",)])
def test_the_process_ends_without_a_word(store: str, tmp_path: Path, waits: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", ENDS, str(tmp_path / "runtime"), store, *waits]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
