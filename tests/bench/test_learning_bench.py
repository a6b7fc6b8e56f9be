"""The simulation of hidden limits: its provider, its figures, and what our learner must reach in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bench.learning import scenes
from bench.learning.__main__ import write
from bench.learning.figures import reached, refused, used
from bench.learning.peers import PEERS
from bench.learning.provider import SECOND, SHAPES, Provider, Shape
from bench.learning.report import markdown
from bench.learning.simulation import Log, Scene

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = {shape.name: shape for shape in SHAPES}


def test_a_bucket_lets_in_its_burst_and_then_its_rate() -> None:
    provider = Provider(SHAPE["bucket 10 s"], 300)
    assert sum(provider.arrive(0)[0] for _ in range(80)) == 50
    assert sum(provider.arrive(10_000 * number)[0] for number in range(1, 201)) == 10


def test_a_window_says_when_it_ends() -> None:
    provider = Provider(SHAPE["window 10 s, Retry-After"], 300)
    assert sum(provider.arrive(0)[0] for _ in range(80)) == 50
    assert provider.arrive(0) == (False, 6 * SECOND)
    assert provider.arrive(6 * SECOND) == (True, None)


def test_the_figures_of_a_run() -> None:
    log = Log(accepted=[0] * 30 + [5] * 90, rejected=[0] * 30 + [1] * 30 + [0] * 60)
    assert reached(log, 300, 0.95) == 87
    assert reached(log, 300, 0.9, start=30, most_rejected=0.05) == 75
    assert used(log, 300, 60) == 1
    assert refused(log, 30, 60) == pytest.approx(1 / 6)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.windowed], ids=lambda shape: shape.name)
def test_ours_finds_and_keeps_a_bucket(shape: Shape) -> None:
    log, _ = scenes.run(shape, Scene(300), scenes.ours)
    assert reached(log, 300, 0.95) == 60
    assert used(log, 300, 600) >= 0.99
    assert refused(log, 600) <= 0.005


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.windowed], ids=lambda shape: shape.name)
def test_ours_finds_and_keeps_a_window(shape: Shape) -> None:
    log, _ = scenes.run(shape, Scene(300), scenes.ours)
    assert used(log, 300, 600) >= 0.97
    assert refused(log, 600) <= 0.005


def test_every_peer_runs(tmp_path: Path) -> None:
    lines = [
        scenes._steady(SHAPE["bucket 10 s"], Scene(300, seconds=700), "peers", scenes._peer(make, 80), who)
        for who, make in PEERS.items()
    ]
    lines += scenes._with_changes(SHAPE["bucket 10 s"], 300, 0.1, 1)
    write(lines, markdown(lines), tmp_path)
    assert (tmp_path / "results.csv").read_text(encoding="utf-8").count("\n") == len(lines) + 1
    assert "| 429s | <= 0.5 % |" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
