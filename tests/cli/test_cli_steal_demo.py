"""The steal demo: a short real run and its figures. That it ends clean is tested with the other demo."""

from __future__ import annotations

import json
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from cross_instance.cli.steal_demo import steal_demo
from cross_instance.cli.steal_demo.figures import ProcessFigures, RunFigures, Span, run_figures, summary
from cross_instance.cli.steal_demo.scene import LADEN, PROCESSES, WEIGHTS, durations
from cross_instance.cli.steal_demo.view import WIDTH, picture, report_text, timeline
from cross_instance.rules.operations import StealState, TaskState
from cross_instance.tasks.views import PastAttempt, TaskStatus

if TYPE_CHECKING:
    from tests.cli.commands import Place


def figures(seconds: float, taken: int) -> RunFigures:
    spans = tuple(Span(number, number + 1.0, taken > 0) for number in range(4))
    return RunFigures(12, seconds, 12.0, 5.0, tuple(ProcessFigures(name, 4, taken, 4.0, spans) for name in PROCESSES))


# --- a real run ----------------------------------------------------------------------------------------------------


def test_a_short_run_tells_who_did_what(place: Place) -> None:
    place.configure({"instanceId": "the user's", "enableWorkStealing": False})
    with place.start("steal-demo", "--seconds", "3", "--json") as process:
        out, err = process.communicate(timeout=120)
    assert [line[:3] for line in err.splitlines()] == ["1/2", "2/2"]
    told = json.loads(out)
    alone, stealing = (msgspec.convert(told[run], RunFigures) for run in ("alone", "stealing"))
    assert process.returncode == (0 if stealing.seconds < alone.seconds else 1)
    for run in (alone, stealing):
        assert run.tasks == sum(process.tasks for process in run.processes) == len(WEIGHTS)
        for each in run.processes:
            assert len(each.spans) == each.tasks
            assert sum(span.stolen for span in each.spans) == each.taken == (each.tasks if each.name != LADEN else 0)
            assert all(before.ended <= after.began for before, after in pairwise(each.spans)), "one task at a time"
    assert [process.tasks for process in alone.processes] == [len(WEIGHTS), 0, 0]
    assert sum(process.taken for process in stealing.processes) > 0
    assert told["summary"].startswith("Stealing: ")
    assert place.left_behind() == []
    assert not place.runtime_dir.exists()


# --- figures and words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "code"), [(9.0, 0), (12.0, 1)])
def test_stealing_that_saves_no_time_is_a_failure(monkeypatch: pytest.MonkeyPatch, seconds: float, code: int) -> None:
    async def both(given: float) -> tuple[RunFigures, RunFigures]:
        assert given == 24.0
        return figures(12.0, 0), figures(seconds, 4)

    monkeypatch.setattr("cross_instance.cli.steal_demo._both", both)
    done = CliRunner().invoke(steal_demo, [])
    assert done.exit_code == code
    assert done.stdout.splitlines()[-1] == summary(figures(12.0, 0), figures(seconds, 4))


def status(task: str, state: TaskState, owner: str, *past: PastAttempt) -> TaskStatus:
    return TaskStatus(
        task=task,
        kind="wait",
        state=state,
        queue=LADEN,
        key="",
        priority="normal",
        tags=(),
        stealable=True,
        provider="",
        model="",
        submitted_at=99.0,
        run_at=99.0,
        began_at=106.0 if owner else 0.0,
        finished_at=0.0,
        owner=owner,
        failures=0,
        deaths=0,
        cancel_asked=False,
        progress=None,
        attempts=past,
        arguments=None,
        result=None,
    )


def test_figures_are_those_of_the_store_s_records() -> None:
    tasks = [
        status("a", TaskState.DONE, "", PastAttempt(LADEN, 100.0, 103.0, "done", "")),
        status("b", TaskState.DONE, "", PastAttempt("worker-2", 100.5, 105.0, "done", "")),
        status("c", TaskState.RUNNING, "worker-2"),
        status("d", TaskState.QUEUED, ""),
    ]
    steals = [StealState("worker-2", LADEN, 2, 0), StealState("worker-2", "", 9, 0)]
    run = run_figures(tasks, steals, 100.0, 108.0)
    assert (run.tasks, run.seconds, run.work) == (2, 5.0, 9.5)
    assert run.bound == pytest.approx(9.5 / 3 + 4.5, abs=0.001)
    assert [(each.tasks, each.taken, each.busy) for each in run.processes] == [(1, 0, 3.0), (1, 2, 6.5), (0, 0, 0.0)]
    assert run.processes[1].spans == (Span(0.5, 5.0, True), Span(6.0, 8.0, True))


def test_a_line_of_time_shows_each_task_where_it_ran() -> None:
    spans = [Span(0.0, 0.25, False), Span(0.5, 1.0, True)]
    line = timeline(spans, 1.0)
    assert len(line) == WIDTH
    assert line.replace("=", "").replace("~", "").split() == ["|", "|"]
    assert [line.index("|"), line.rindex("|")] == [0, WIDTH // 2]
    assert set(line[: WIDTH // 4]) == {"|", "="}
    assert set(line[WIDTH // 2 :]) == {"|", "~"}


def test_the_report_has_both_runs_side_by_side() -> None:
    lines = report_text(figures(12.0, 0), figures(4.0, 4)).splitlines()
    assert lines[0] == "12 tasks, 12.0 s of work in all, all of it given to worker-1; three processes"
    assert lines[3].split("  ")[0] == "all tasks done after"
    assert lines[3].split()[-4:] == ["12.0", "s", "4.0", "s"]
    assert lines[4].endswith("4, 0, 4.0 s  4, 4, 4.0 s")
    assert lines[-1] == "Stealing: 12.0 s -> 4.0 s, 3.0 times as fast; 12 of 12 tasks taken over."


def test_the_live_view_shows_a_run_while_it_goes_on() -> None:
    console = Console(file=StringIO(), width=120)
    console.print(picture("1/2", 12.0, None), picture("2/2", 12.0, figures(4.0, 4)))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert "starting three processes …" in lines
    assert lines[-2].split()[0] == "worker-3"
    assert lines[-2].split()[-5:] == ["4", "done", "4", "taken", "over"]


def test_all_tasks_together_last_as_long_as_is_said() -> None:
    assert sum(durations(24.0)) == pytest.approx(24.0)
    assert max(durations(24.0)) / min(durations(24.0)) == pytest.approx(6.0)
