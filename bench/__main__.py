"""`python -m bench`: measure every row beside its floor and peers, and write the results.

A run of all rows at full scale writes RESULTS.md, results.json and results.png beside this file; any other run writes
them only where `--output` says, or puts its rows among those kept there (`--merge`). All print the report.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from bench import machine, picture
from bench.measuring import FULL, QUICK, interleave
from bench.report import markdown
from bench.results import Results, RowResult, merged
from bench.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measuring import Row, Scale

HERE = Path(__file__).parent


def measure(row: Row, scale: Scale, rounds: int, folder: Path) -> RowResult:
    """One row, in an empty folder."""
    with row.subjects(scale, folder) as subjects:
        measurements = interleave(subjects, rounds, lambda what: _tell(f"{row.name}, {what}"))
    return RowResult(
        row.name, row.title, row.method, rounds, row.shown, row.targets, measurements, row.absent, row.if_missed
    )


def run(rows: Sequence[Row], scale: Scale, rounds: int | None) -> Results:
    """Measure rows one after the other."""
    started, begun, load = datetime.now(UTC), time.monotonic(), machine.load()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = []
        for row in rows:
            own = Path(folder) / row.name
            own.mkdir()
            found.append(measure(row, scale, rounds or row.rounds, own))
        described = machine.describe(Path(folder), load)
    _tell("")
    minutes = (time.monotonic() - begun) / 60
    return Results(started.isoformat(timespec="minutes"), minutes, described, tuple(found))


def write(results: Results, folder: Path) -> None:
    """RESULTS.md, results.json and, where matplotlib is installed, results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text(markdown(results), encoding="utf-8")
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    if find_spec("matplotlib") is not None:
        picture.draw(results, folder / "results.png")


def _tell(line: str) -> None:
    """Show what is being done, on one line of a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


@click.command(help=__doc__)
@click.option("--only", help=f"Rows to measure, with commas: {', '.join(row.name for row in ROWS)}.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of each row.")
@click.option("--quick", is_flag=True, help="Do less in each round: a look, not a result.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option("--merge", is_flag=True, help="Put these rows among the results kept beside this file, or in `--output`.")
def main(only: str | None, rounds: int | None, quick: bool, output: Path | None, merge: bool) -> None:
    """Measure, print, write."""
    known = {row.name: row for row in ROWS}
    names = list(known) if only is None else only.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}; known: {', '.join(known)}", param_hint="--only")
    results = run([known[name] for name in names], QUICK if quick else FULL, rounds)
    click.echo(markdown(results))
    whole = only is None and rounds is None and not quick
    folder = HERE if (whole or merge) and output is None else output
    if folder is not None:
        write(merged(_kept(folder), results) if merge else results, folder)


def _kept(folder: Path) -> Results:
    return msgspec.json.decode((folder / "results.json").read_bytes(), type=Results)


if __name__ == "__main__":
    main()
