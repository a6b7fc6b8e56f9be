"""What the demo shows: live while a run goes on, a table at the end.

The live view goes to stderr and is gone when it is over; without a terminal a line per run is printed instead.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cross_instance.cli.demo.figures import percentiles, seconds_text, summary
from cross_instance.cli.demo.scene import BURST, PARTS, REQUESTS_PER_MINUTE, ceiling
from cross_instance.cli.showing import showing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cross_instance.cli.demo.figures import RunFigures
    from cross_instance.cli.demo.performance import Watch
    from cross_instance.cli.demo.scene import Ended
    from cross_instance.testing.provider.statistics import Statistics

BAR = 40
ALONE = "1/2  alone: each process with the SDK's own retries"
SHARED = "2/2  sharing: the same, with http_client=runtime.http_client()"


@contextmanager
def watching(title: str, seconds: float) -> Iterator[Watch]:
    """Show one run; what is yielded is told what has been seen."""
    with showing(f"{title}, {seconds:g} s") as show:
        yield lambda seen, calls: show(picture(title, seconds, seen, calls))


def picture(title: str, seconds: float, seen: Statistics | None, calls: Mapping[str, Sequence[Ended]]) -> Group:
    """One moment of a run."""
    if seen is None:
        return Group(Text(title, style="bold"), Text("starting a provider and four processes …", style="dim"))
    progress = Table.grid(padding=(0, 1))
    progress.add_row("time", ProgressBar(seconds, min(seen.elapsed, seconds), BAR), f"{seen.elapsed:.0f} s")
    most = ceiling(seen.elapsed)
    progress.add_row("ceiling used", ProgressBar(most, seen.total.accepted, BAR), f"{seen.total.accepted / most:.1%}")
    rejected = Text(f"429s: {seen.total.rejected:,}", style="bold red" if seen.total.rejected else "bold green")
    return Group(Text(title, style="bold"), progress, rejected, _processes(seen, calls))


def _processes(seen: Statistics, calls: Mapping[str, Sequence[Ended]]) -> Table:
    table = Table("process", box=None, header_style="dim")
    for heading in ("at once", "answered", "failed", "429s", "p50", "p95"):
        table.add_column(heading, justify="right")
    for part in PARTS:
        answered = [call.seconds for call in calls[part.name] if call.answered]
        p50, p95 = percentiles(answered) or (None, None)
        tally = seen.clients.get(part.name)
        table.add_row(
            part.name,
            str(part.tasks),
            str(len(answered)),
            str(len(calls[part.name]) - len(answered)),
            f"{tally.rejected:,}" if tally else "0",
            seconds_text(p50),
            seconds_text(p95),
        )
    return table


def table_text(alone: RunFigures, shared: RunFigures) -> str:
    """The two runs side by side, and the line that says what changed; plain text."""
    runs = (alone, shared)
    rows = [
        ("", "alone", "sharing"),
        ("requests per minute", *(f"{run.requests_per_minute:.0f} of {run.ceiling_per_minute:.0f}" for run in runs)),
        ("used of the ceiling", *(f"{run.used:.1%}" for run in runs)),
        ("429s", *(f"{run.rate_limited:,}" for run in runs)),
        ("calls that failed", *(f"{run.gave_up:,}" for run in runs)),
    ]
    for place, part in enumerate(PARTS):
        both = (run.processes[place] for run in runs)
        label = f"{part.name}, {part.tasks} at once: p50, p95"
        rows.append((label, *(f"{seconds_text(p.p50)}, {seconds_text(p.p95)}" for p in both)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    account = f"One account, {REQUESTS_PER_MINUTE} requests/min, {BURST} at once"
    title = f"{account}; four processes, {alone.seconds:.0f} s alone and {shared.seconds:.0f} s sharing"
    return "\n".join((title, "", *lines, "", summary(alone, shared)))
