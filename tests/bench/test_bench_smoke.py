"""Every benchmark runs, at the smallest scale, and gives the figures that its targets and its report need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import pytest
from bench.__main__ import main, measure, write
from bench.floors import FLOOR
from bench.machine import Machine
from bench.measuring import Measurement, Role, Row, Scale, Subject, Target, interleave, latencies
from bench.picture import shown
from bench.report import markdown, number
from bench.results import Results, RowResult, merged
from bench.rows import (
    ROWS,
    contention,
    goodput,
    hidden,
    redis,
    reserves,
    task_recovery,
    task_sharing,
    task_storm,
    tasks,
)
from bench.strategies import STRATEGIES
from click.testing import CliRunner

from bench import ours, queues, served
from cross_instance.cli.demo import hidden as demo_hidden
from cross_instance.cli.demo.scene import HIDDEN_PARTS, PARTS

if TYPE_CHECKING:
    from pathlib import Path

TINY = Scale(
    samples=3,
    seconds=0.05,
    waiters=5,
    queue_samples=3,
    wakes=2,
    kills=1,
    goodput_seconds=1.5,
    hidden_seconds=0.3,
    tasks=20,
    starts=2,
    bulk_tasks=1_000,
    patience=60.0,
    storm_tasks=60,
    storm_seconds=0.5,
    uneven_seconds=1.0,
    fleets=(2,),
    fleet_seconds=0.1,
    idle_seconds=0.1,
)
MACHINE = Machine("a processor", 2, 8.0, "Linux 6", "ext4", "CPython 3.11", "3.40", {"lmdb": "1.5"}, (0.1, 0.9))


@pytest.fixture
def few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what only repeats the same code with another start of Python: strategies, agents, contenders."""
    monkeypatch.setattr(goodput, "STRATEGIES", STRATEGIES[:1])
    monkeypatch.setattr(goodput, "PARTS", PARTS[:2])
    monkeypatch.setattr(reserves, "CREWS", (reserves.CREWS[0][:1],))
    monkeypatch.setattr(reserves, "WAYS", reserves.WAYS[:1])
    for module in (hidden, demo_hidden):
        monkeypatch.setattr(module, "HIDDEN_PARTS", HIDDEN_PARTS[:1])
    monkeypatch.setattr(contention, "CONTENDERS", (FLOOR, ours.RUNTIME))
    monkeypatch.setattr(redis, "TOGETHER", (served.FLOOR_OF_BOTH, served.RUNTIME))
    monkeypatch.setattr(redis, "SIZES", (1, 2))
    for row in (tasks, task_recovery):
        monkeypatch.setattr(row, "QUEUES", queues.OURS[:1])
    for row in (tasks, task_storm):
        monkeypatch.setattr(row, "WORKERS", 2)
    monkeypatch.setattr(task_sharing, "WORKERS", task_sharing.WORKERS[:2])


@pytest.mark.usefixtures("few_processes")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_measures_what_its_targets_need(row: Row, tmp_path: Path) -> None:
    result = measure(row, TINY, 1, tmp_path)
    assert {Role.OURS, Role.FLOOR} <= {measurement.role for measurement in result.measurements}
    assert all(len(measurement.values) == 1 for measurement in result.measurements)
    assert all(math.isfinite(value) and value >= 0 for one in result.measurements for value in one.values)
    judged = {verdict.target for verdict in result.verdicts()}
    assert judged == set(row.targets)
    assert shown(result)


def test_every_subject_is_measured_once_per_round_in_a_turning_order() -> None:
    said: list[str] = []

    def subject(name: str, role: Role) -> Subject:
        def run() -> dict[str, float]:
            said.append(name)
            return {"µs": float(len(said))}

        return Subject(name, role, run)

    measured = interleave([subject("a", Role.FLOOR), subject("b", Role.OURS)], 2, lambda _: None)
    assert said == ["a", "b", "b", "a"]
    assert [(one.subject, one.values) for one in measured] == [("a", (1.0, 4.0)), ("b", (2.0, 3.0))]


def row_of(*measurements: Measurement, targets: tuple[Target, ...] = ()) -> RowResult:
    return RowResult(
        "name", "A title", "How.", len(measurements[0].values), "µs", targets, measurements, ("a peer",), "so it is."
    )


BELOW = Measurement("", "floor", Role.FLOOR, "µs", (1.0, 10.0, 2.0))
OURS = Measurement("", "ours", Role.OURS, "µs", (3.0, 20.0, 8.0))


def test_a_ratio_is_taken_within_each_round() -> None:
    ratio = row_of(BELOW, OURS).ratio(OURS)
    assert ratio is not None
    assert ratio.values == (3.0, 2.0, 4.0)
    assert ratio.median == 3.0


def test_the_floor_has_no_ratio_and_neither_has_what_is_compared_with_nothing() -> None:
    row = row_of(BELOW, msgspec.structs.replace(OURS, case="other"))
    assert [row.ratio(measurement) for measurement in row.measurements] == [None, None]


def test_a_floor_of_zero_gives_no_ratio() -> None:
    row = row_of(msgspec.structs.replace(BELOW, values=(0.0, 0.0, 0.0)), OURS)
    assert row.ratio(OURS) is None


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (Target("µs", "at most", 8), True),
        (Target("µs", "at most", 7.9), False),
        (Target("µs", "at least", 8.1), False),
        (Target("µs", "at most", 3, of_floor=True), True),
        (Target("µs", "at most", 2.9, of_floor=True), False),
    ],
)
def test_a_target_judges_the_median_of_figures_or_ratios(target: Target, reached: bool) -> None:
    assert [verdict.reached for verdict in row_of(BELOW, OURS, targets=(target,)).verdicts()] == [reached]


def test_latencies_are_told_in_microseconds() -> None:
    assert latencies([3_000, 1_000, 2_000]) == {"p50 µs": 2.0, "p99 µs": 3.0}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.3, "0.3"), (12.34, "12.3"), (999.4, "999"), (123_456.0, "123,000")]
)
def test_numbers_have_three_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


@pytest.fixture
def results() -> Results:
    row = row_of(BELOW, OURS, targets=(Target("µs", "at most", 2, of_floor=True),))
    return Results("2026-11-21T10:00+00:00", 3.0, MACHINE, (row,))


def test_the_report_tells_targets_figures_ratios_and_who_is_missing(results: Results) -> None:
    text = markdown(results)
    assert "| A title | ours | µs | ≤ 2 x floor | 3 (2-4) x floor | **no** |" in text
    assert "| **ours** | 8 (3-20) **3x** |" in text
    assert "| *floor: floor* | 2 (1-10) |" in text
    assert "Not measured: a peer." in text
    assert "Why a target is missed: so it is." in text
    assert "0.1 before the run, 0.9 at its end" in text


def test_the_results_are_written_and_can_be_read_again(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path / "new")
    assert (tmp_path / "new" / "RESULTS.md").read_text(encoding="utf-8") == markdown(results)
    assert msgspec.json.decode((tmp_path / "new" / "results.json").read_bytes(), type=Results) == results


def test_an_unknown_row_is_refused_with_the_known_ones() -> None:
    done = CliRunner().invoke(main, ["--only", "permit,speed"])
    assert done.exit_code == 2
    assert f"speed; known: {', '.join(row.name for row in ROWS)}" in done.output


def test_a_choice_of_rows_is_printed_and_written_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.__main__.QUICK", TINY)
    done = CliRunner().invoke(main, ["--only", "waiters", "--rounds", "1", "--quick", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8").strip() == done.stdout.strip()


def test_rows_measured_apart_take_their_places_and_say_so(results: Results) -> None:
    again = msgspec.structs.replace(results.rows[0], title="Anew")
    later = msgspec.structs.replace(again, name="later", title="Later")
    together = merged(results, msgspec.structs.replace(results, started="2026-11-22", rows=(later, again)))
    assert [row.title for row in together.rows] == ["Anew", "Later"]
    assert together.started == results.started
    assert (
        markdown(together).count(
            "**Measured apart from the rest (2026-11-22), beside other work: a load average of 0.1"
        )
        == 2
    )
    assert "Measured apart" not in markdown(results)


def test_a_choice_of_rows_is_merged_where_it_is_asked_for(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.__main__.QUICK", TINY)
    write(results, tmp_path)
    arguments = ["--only", "waiters", "--rounds", "1", "--quick", "--merge", "--output", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    kept = msgspec.json.decode((tmp_path / "results.json").read_bytes(), type=Results)
    assert [row.name for row in kept.rows] == ["name", "waiters"]
