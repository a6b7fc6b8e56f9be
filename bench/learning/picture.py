"""The learned rate against a hidden limit that halves and doubles, shape by shape."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.learning.ours import Ours
from bench.learning.provider import SECOND, SHAPES
from bench.learning.scenes import run
from bench.learning.simulation import Scene

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 2_400
CHANGES = ((800, 150.0), (1_600, 300.0))


def draw(path: Path) -> None:
    """Write the picture. Raises `ImportError` where matplotlib is not installed."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    shapes = [shape for shape in SHAPES if not shape.retry_after]
    figure, panels = pyplot.subplots(len(shapes), 1, figsize=(11, 2.2 * len(shapes)), sharex=True, layout="constrained")
    for panel, shape in zip(panels, shapes, strict=True):
        log, controllers = run(shape, Scene(300, SECONDS, changes=CHANGES), lambda seed: Ours(seed=seed))
        steps = [step for controller in controllers for step in controller.steps]  # type: ignore[attr-defined]
        panel.step([0, 800, 1_600, SECONDS], [300, 150, 300, 300], where="post", color="#c8ccd0", lw=5, label="limit")
        panel.step(
            [step.at / SECOND for step in steps], [step.rate for step in steps], where="post", lw=1, label="paced"
        )
        met = [second for second, count in enumerate(log.rejected) if count]
        panel.plot(met, [20] * len(met), "|", color="#b3261e", label="429")
        panel.set_title(
            f"{shape.name}: {sum(log.accepted):,} let in, {sum(log.rejected)} times 429", fontsize=9, loc="left"
        )
        panel.set_ylim(0, 620)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(ncols=3, fontsize=8)
    panels[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
