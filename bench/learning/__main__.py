"""`python -m bench.learning`: simulate hidden limits, and write RESULTS.md, results.csv and results.png.

A full run writes them beside this file; `--quick` (one limit, one seed) only where `--output` says. Both print the
report.
"""

from __future__ import annotations

import csv
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec

from bench.learning import picture
from bench.learning.report import markdown
from bench.learning.scenes import Line, lines

HERE = Path(__file__).parent


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="One limit, one delay, one seed: a look, not a result.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
def main(quick: bool, output: Path | None) -> None:
    """Simulate, print, write."""
    found = []
    for line in lines(quick=quick):
        found.append(line)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line.scene}, {line.shape}, {line.limit}")
    report = markdown(found)
    click.echo(report)
    folder = HERE if output is None and not quick else output
    if folder is not None:
        write(found, report, folder)


def write(found: list[Line], report: str, folder: Path) -> None:
    """RESULTS.md, results.csv and, where matplotlib is installed, results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text(report + "\n", encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Line.__struct_fields__)
        table.writerows(msgspec.structs.astuple(line) for line in found)
    if find_spec("matplotlib") is not None:
        picture.draw(folder / "results.png")


if __name__ == "__main__":
    main()
