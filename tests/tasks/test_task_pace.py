"""When an idle worker looks for work, and how much it takes to rob somebody."""

from __future__ import annotations

from cross_instance.tasks.pace import ASKS_NOTHING, FIRST_GAIN, FIRST_LOOK, LAST_LOOK, Pace


def test_looks_become_rare_and_modest() -> None:
    pace = Pace(draw=lambda: 1.0)
    gains, looks = [], []
    for _ in range(ASKS_NOTHING + 5):
        gains.append(pace.min_gain)
        looks.append(pace.next_look())
    assert gains[0] == FIRST_GAIN
    assert gains == sorted(gains, reverse=True)
    assert gains[ASKS_NOTHING:] == [0] * 5
    assert looks[:3] == [FIRST_LOOK, 2 * FIRST_LOOK, 4 * FIRST_LOOK]
    assert looks[-1] == LAST_LOOK


def test_work_makes_it_demanding_again() -> None:
    pace = Pace()
    for _ in range(10):
        pace.next_look()
    pace.found()
    assert pace.min_gain == FIRST_GAIN
    assert pace.next_look() <= FIRST_LOOK


def test_looks_are_spread() -> None:
    draws = iter((0.0, 0.5, 1.0))
    assert [Pace(draw=lambda: next(draws)).next_look() for _ in range(3)] == [50_000, 75_000, 100_000]
