"""The demo: a short real run and its figures; and that both demos end clean however they are ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from io import StringIO
from typing import TYPE_CHECKING

import httpx2
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.cli.commands import Place

from cross_instance.cli.demo import demo
from cross_instance.cli.demo.figures import ProcessFigures, RunFigures, percentiles, summary
from cross_instance.cli.demo.hidden import Search
from cross_instance.cli.demo.scene import PARTS, Ended, ceiling, own_files
from cross_instance.cli.demo.view import picture, table_text
from cross_instance.cli.processes import DemoError, started
from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


def figures(rate_limited: int, p95: float | None, used: float) -> RunFigures:
    processes = tuple(
        ProcessFigures(part.name, part.tasks, 10, rate_limited // 4, rate_limited // 4, 0.8, p95) for part in PARTS
    )
    return RunFigures(22.0, 200, 240.0, 545.5, 654.5, used, rate_limited, processes)


# --- a real run ----------------------------------------------------------------------------------------------------


def test_a_short_run_counts_what_the_provider_saw(place: Place) -> None:
    place.configure({"instanceId": "the user's", "totalMaxLlm": 1, "providers": {"openai": {"requestsPerMinute": 1}}})
    with place.start("demo", "--seconds", "5", "--json") as process:
        out, err = process.communicate(timeout=240)
    assert [line[:3] for line in err.splitlines()] == ["1/2", "2/2"]
    told = json.loads(out)
    alone, sharing = (msgspec.convert(told[run], RunFigures) for run in ("alone", "sharing"))
    for run in (alone, sharing):
        assert [(process.name, process.tasks) for process in run.processes] == [tuple(part) for part in PARTS]
        assert run.ceiling == pytest.approx(ceiling(run.seconds), abs=0.1)
        assert 0 < run.requests <= run.ceiling + 1
    assert process.returncode == (1 if sharing.rate_limited else 0), err + out
    assert sharing.rate_limited * 10 < alone.rate_limited, "a machine too busy to send on time meets some all the same"
    assert sharing.gave_up == 0
    assert told["summary"].startswith("Sharing: 429s ")
    assert place.left_behind() == []
    assert not place.runtime_dir.exists()


# --- the end -------------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[Callable[[subprocess.Popen[str]], None], int]] = {
    "Ctrl-C": (lambda process: os.killpg(process.pid, signal.SIGINT), 130),
    "SIGINT to the demo alone": (lambda process: process.send_signal(signal.SIGINT), 130),
    "SIGTERM": (lambda process: process.send_signal(signal.SIGTERM), 143),
}


@pytest.mark.parametrize(
    ("command", "how", "run"),
    [
        *(("demo", how, "1/2") for how in ENDS),
        ("demo", "Ctrl-C", "2/2"),
        ("steal-demo", "Ctrl-C", "1/2"),
        ("steal-demo", "SIGTERM", "2/2"),
    ],
)
def test_it_ends_clean_and_leaves_no_process(place: Place, command: str, how: str, run: str) -> None:
    """Its processes inherit stderr, so that this is at its end only when the last of them has ended."""
    interrupt, code = ENDS[how]
    with place.start(command, "--seconds", "1" if run == "2/2" else "60") as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith(run):
            pass
        interrupt(process)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (code, "", "")
    assert place.left_behind() == []


@pytest.mark.parametrize("command", ["demo", "steal-demo"])
def test_its_processes_end_with_it_even_if_it_is_killed(place: Place, command: str) -> None:
    with place.start(command, "--seconds", "60") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.kill()
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err


def test_a_process_that_ends_early_ends_the_demo() -> None:
    async def scene() -> None:
        async with started("demo.provider", "provider") as (provider,):
            await provider.hear()
            provider.terminate()
            async for line in provider.lines():
                raise AssertionError(line)

    with pytest.raises(DemoError, match="process provider ended early"):
        asyncio.run(scene())


def test_nobody_but_the_loop_collects_the_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it tells of an unknown child: Ctrl-C may kill one that has just been made, before it is by itself."""

    def collect(process: object) -> None:
        raise AssertionError(process)

    monkeypatch.setattr("subprocess.Popen.poll", collect)

    async def scene() -> None:
        async with started("demo.provider", "provider"):
            await asyncio.Event().wait()

    async def interrupted(turns: int) -> None:
        task = asyncio.create_task(scene())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for turns in range(8):
        asyncio.run(interrupted(turns))


def test_it_finds_a_hidden_limit_and_ends_clean(place: Place) -> None:
    """A short run: what it says agrees with itself. Whether the limit is found by then is the machine's business."""
    with place.start("demo", "--hidden", "--seconds", "4", "--json") as process:
        out, err = process.communicate(timeout=240)
    search = msgspec.json.decode(out, type=Search)
    assert process.returncode == (0 if search.found is not None else 1)
    assert (search.limit, search.seconds) == (300, 4.0)
    assert search.moments[-1].accepted > 0
    assert "Traceback" not in err
    assert place.left_behind() == []


# --- figures and words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate_limited", "code"), [(0, 0), (1, 1)])
def test_a_429_in_the_shared_run_is_a_failure(monkeypatch: pytest.MonkeyPatch, rate_limited: int, code: int) -> None:
    async def both(seconds: float) -> tuple[RunFigures, RunFigures]:
        assert seconds == 30.0
        return figures(1_600, 9.75, 0.997), figures(rate_limited, 1.08, 0.992)

    monkeypatch.setattr("cross_instance.cli.demo._both", both)
    assert CliRunner().invoke(demo, []).exit_code == code


def test_what_changed_is_told_in_one_line() -> None:
    assert summary(figures(1_600, 9.75, 0.997), figures(0, 1.08, 0.992)) == (
        "Sharing: 429s 1,600 -> 0, failed calls 1,600 -> 0, p95 of the small jobs 9.75 s -> 1.08 s, "
        "use of the ceiling 99.7% -> 99.2%."
    )
    assert "none -> 1.08 s" in summary(figures(1_600, None, 0.1), figures(0, 1.08, 0.992))


def test_the_table_has_a_line_for_each_process() -> None:
    lines = table_text(figures(1_600, 9.75, 0.997), figures(0, 1.08, 0.992)).splitlines()
    assert lines[0] == "One account, 600 requests/min, 20 at once; four processes, 22 s alone and 22 s sharing"
    assert lines[2].split() == ["alone", "sharing"]
    assert lines[5].split() == ["429s", "1,600", "0"]
    assert [line.partition(",")[0] for line in lines[7:11]] == [part.name for part in PARTS]
    assert len({len(line) for line in lines[2:11]}) == 1


def test_the_live_view_shows_a_run_while_it_goes_on() -> None:
    with ProviderServer(ProviderConfig(limits=(Limit("requests", 600, burst=1),))) as server:
        with httpx2.Client(headers={"x-client": "batch-job"}, timeout=60) as client:
            for _ in range(9):
                client.post(f"{server.url}/v1/chat/completions", json={"model": "m", "messages": []})
        seen = server.statistics()
    calls = {part.name: [Ended(0.7, answered=True), Ended(2.0, answered=False)] for part in PARTS}
    console = Console(file=StringIO(), width=100)
    console.print(picture("1/2", 22.0, seen, calls), picture("2/2", 22.0, None, {}))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert f"429s: {seen.total.rejected}" in lines
    batch = next(line for line in lines if line.strip().startswith("batch-job"))
    assert batch.split() == ["batch-job", "40", "1", "1", str(seen.total.rejected), "0.70", "s", "0.70", "s"]
    assert "starting a provider and four processes" in lines[-1]


def test_percentiles_lie_between_what_was_seen() -> None:
    assert percentiles([]) is None
    assert percentiles([3.0]) == (3.0, 3.0)
    p50, p95 = percentiles([float(number) for number in range(101)]) or (0, 0)
    assert (p50, p95) == (50.0, 95.0)


def test_the_ceiling_is_rate_times_time_and_burst() -> None:
    assert ceiling(0) == 20
    assert ceiling(60) == 620


def test_it_summarises_files_that_exist() -> None:
    files = own_files()
    assert any(name.endswith("runtime.py") for name in files)
    assert len(files) == len(set(files)) > len(PARTS)
