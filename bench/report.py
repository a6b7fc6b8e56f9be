"""The results as Markdown: the targets first, then each row with its floor and peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.machine import Machine
    from bench.measuring import Measurement, Target
    from bench.results import Results, RowResult

HOW_TO_READ = """\
Each figure is the median over the rounds, with the smallest and the largest; behind it, in **bold**, the ratio to the
floor of the same table. In a round every subject is measured once, one after the other, in an order that moves on from
round to round; a ratio is taken within each round before its median is. Nothing is thrown away. How far the floor's own
figures lie apart shows how quiet the machine was. Absolute figures hold for this machine only."""


def markdown(results: Results) -> str:
    """The whole report."""
    return "\n".join(_lines(results))


def _lines(results: Results) -> Iterator[str]:
    yield "# Benchmark results\n"
    yield f"Written by `make bench` ({results.started}, {results.minutes:.0f} minutes).\n"
    yield HOW_TO_READ
    yield "\n![Each row beside its floor and its peers](results.png)\n"
    yield "## Targets\n"
    yield from _targets(results.rows)
    yield ""
    for row in results.rows:
        yield f"## {row.title}\n"
        yield f"{row.method} {row.rounds} rounds.\n"
        if row.apart:
            yield f"**{row.apart}**\n"
        yield from _table(row)
        yield from (f"Not measured: {absent}.\n" for absent in row.absent)
        if row.if_missed and not all(verdict.reached for verdict in row.verdicts()):
            yield f"Why a target is missed: {row.if_missed}\n"
    yield "## Machine\n"
    yield from _machine(results.machine)


def _targets(rows: Sequence[RowResult]) -> Iterator[str]:
    yield "| | who | figure | target | measured | reached |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        for target, measured, reached in row.verdicts():
            unit = " x floor" if target.of_floor else ""
            figure = f"{target.figure}, {target.case}" if target.case else target.figure
            value = f"{_spread(measured)}{unit}"
            cells = row.title, measured.subject, figure, _bound(target), value, "yes" if reached else "**no**"
            yield f"| {' | '.join(cells)} |"


def _bound(target: Target) -> str:
    sign = "≤" if target.relation == "at most" else "≥"
    return f"{sign} {number(target.bound)}{' x floor' if target.of_floor else ''}"


def _table(row: RowResult) -> Iterator[str]:
    """One table per case: a line per subject, a column per figure."""
    for case in dict.fromkeys(measurement.case for measurement in row.measurements):
        here = [measurement for measurement in row.measurements if measurement.case == case]
        figures = list(dict.fromkeys(measurement.figure for measurement in here))
        yield f"| {case} | {' | '.join(figures)} |"
        yield f"|---|{'---|' * len(figures)}"
        for subject in dict.fromkeys(measurement.subject for measurement in here):
            mine = {measurement.figure: measurement for measurement in here if measurement.subject == subject}
            cells = (_cell(row, mine[figure]) if figure in mine else "" for figure in figures)
            yield f"| {_named(subject, next(iter(mine.values())))} | {' | '.join(cells)} |"
        yield ""


def _named(subject: str, measurement: Measurement) -> str:
    return {"ours": f"**{subject}**", "floor": f"*floor: {subject}*", "peer": subject}.get(
        measurement.role, f"{subject} (coordinates nothing)"
    )


def _cell(row: RowResult, measurement: Measurement) -> str:
    ratio = row.ratio(measurement)
    return _spread(measurement) + ("" if ratio is None else f" **{number(ratio.median)}x**")


def _spread(measurement: Measurement) -> str:
    low, high = number(min(measurement.values)), number(max(measurement.values))
    middle = number(measurement.median)
    return middle if low == high else f"{middle} ({low}-{high})"


def number(value: float) -> str:
    """A figure with three digits that matter, and commas in large ones."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _machine(machine: Machine) -> Iterator[str]:
    yield f"- {machine.processor}, {machine.cores} cores, {machine.memory_gb:g} GB; {machine.system}"
    yield f"- files on {machine.filesystem}; {machine.python}; SQLite {machine.sqlite}"
    yield f"- {', '.join(f'{name} {version}' for name, version in machine.packages.items())}"
    before, after = machine.load
    yield f"- load average of the last minute: {before:g} before the run, {after:g} at its end"
