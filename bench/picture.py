"""The results as a picture: a panel for each row, a bar for each subject; ours stands out, the floor is hatched."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.measuring import Role
from bench.report import number

if TYPE_CHECKING:
    from pathlib import Path

    from bench.measuring import Measurement
    from bench.results import Results, RowResult

COLOURS = {Role.OURS: "#1a7f5a", Role.FLOOR: "#c8ccd0", Role.PEER: "#7d8fa9", Role.UNCOORDINATED: "#d9dee6"}
COLUMNS = 2
BAR, FRAME = 0.32, 1.1
"""Inches of height for a bar, and for a panel's title and axis."""


def shown(row: RowResult) -> list[Measurement]:
    """The bars of a row's panel: one figure, in the last case that has it (the one of the targets)."""
    bars = [measurement for measurement in row.measurements if measurement.figure == row.shown]
    case = next((target.case for target in row.targets if target.figure == row.shown), bars[0].case)
    return [bar for bar in bars if bar.case == case]


def draw(results: Results, path: Path) -> None:
    """Write the picture. Raises `ImportError` where matplotlib is not installed."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    lines = [results.rows[start : start + COLUMNS] for start in range(0, len(results.rows), COLUMNS)]
    heights = [max(len(shown(row)) for row in line) * BAR + FRAME for line in lines]
    figure, panels = pyplot.subplots(
        len(lines), COLUMNS, figsize=(13, sum(heights)), squeeze=False, layout="constrained", height_ratios=heights
    )
    for panel, row in zip(panels.flat, results.rows, strict=False):
        _panel(panel, row)
    for panel in panels.flat[len(results.rows) :]:
        panel.axis("off")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _panel(panel: Any, row: RowResult) -> None:
    bars = shown(row)[::-1]
    medians = [bar.median for bar in bars]
    spread = [
        [bar.median - min(bar.values) for bar in bars],
        [max(bar.values) - bar.median for bar in bars],
    ]
    drawn = panel.barh(
        [bar.subject for bar in bars],
        medians,
        color=[COLOURS[bar.role] for bar in bars],
        hatch=["//" if bar.role is Role.FLOOR else "" for bar in bars],
        edgecolor="white",
        xerr=spread,
        ecolor="#555555",
    )
    panel.bar_label(drawn, [f" {number(median)}" for median in medians], padding=3, fontsize=8)
    if min(medians) > 0 and max(medians) / min(medians) > 20:
        panel.set_xscale("log")
    case = f", {bars[0].case}" if bars[0].case else ""
    panel.set_title(f"{row.title}\n{row.shown}{case}", fontsize=10, loc="left")
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.15)
