"""What the steal demo shows: each process as a line of time, live while a run goes on, and both runs at the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cross_instance.cli.looking import columns
from cross_instance.cli.showing import showing
from cross_instance.cli.steal_demo.figures import summary
from cross_instance.cli.steal_demo.scene import LADEN, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cross_instance.cli.steal_demo.figures import RunFigures, Span
    from cross_instance.cli.steal_demo.performance import Watch

WIDTH = 66
"""Characters of a line of time; the run without stealing fills it."""
OWN, TAKEN = "=", "~"
ALONE = "1/2  without stealing"
STEALING = "2/2  stealing: the same, and whoever is idle takes over what waits for another"


@contextmanager
def watching(title: str, seconds: float) -> Iterator[Watch]:
    """Show one run; what is yielded is told what has been seen. `seconds`: the work in all."""
    with showing(title) as show:
        yield lambda seen: show(picture(title, seconds, seen))


def picture(title: str, seconds: float, seen: RunFigures | None) -> Group:
    """One moment of a run."""
    if seen is None:
        return Group(Text(title, style="bold"), Text("starting three processes …", style="dim"))
    table = Table.grid(padding=(0, 1))
    for process in seen.processes:
        line = Text(timeline(process.spans, seconds).ljust(WIDTH))
        line.highlight_regex(f"[|{OWN}]+", "green")
        line.highlight_regex(f"{TAKEN}+", "bold yellow")
        table.add_row(process.name, line, f"{process.tasks} done", f"{process.taken} taken over")
    return Group(Text(title, style="bold"), table, Text(f"{seen.tasks} of {len(WEIGHTS)} tasks done", style="dim"))


def timeline(spans: Sequence[Span], seconds: float) -> str:
    """Tasks along a line of time, each from its `|` on: its own as ===, those taken over as ~~~, idle time blank."""
    line: list[str] = []
    for span in spans:
        began, ended = (round(WIDTH * at / seconds) for at in (span.began, span.ended))
        line += " " * (began - len(line))
        line += "|" + (TAKEN if span.stolen else OWN) * (ended - len(line) - 1)
    return "".join(line)


def report_text(alone: RunFigures, stealing: RunFigures) -> str:
    """Both runs, as figures and as lines of time, and the line that says what changed; plain text."""
    runs = (alone, stealing)
    rows = [
        ("", "alone", "stealing"),
        ("all tasks done after", *(f"{run.seconds:.1f} s" for run in runs)),
    ]
    for place, process in enumerate(alone.processes):
        both = (run.processes[place] for run in runs)
        label = f"{process.name}: tasks, taken over, busy"
        rows.append((label, *(f"{p.tasks}, {p.taken}, {p.busy:.1f} s" for p in both)))
    lines = [
        f"{process.name}  {timeline(process.spans, alone.seconds)}".rstrip()
        for run in runs
        for process in run.processes
    ]
    title = f"{alone.tasks} tasks, {alone.work:.1f} s of work in all, all of it given to {LADEN}; three processes"
    legend = f"Each | begins a task: {OWN * 3} its own, {TAKEN * 3} taken over."
    half = len(lines) // 2
    return "\n".join(
        (
            *(title, "", *columns(rows, frozenset({1, 2})), ""),
            *("Alone:", *lines[:half], "Stealing:", *lines[half:], legend, ""),
            summary(alone, stealing),
        )
    )
