"""When an idle worker looks for work, and how much it takes to rob somebody."""

from __future__ import annotations

from cross_instance.tasks.pace import ASKS_NOTHING, FIRST_GAIN, FIRST_LOOK, LAST_LOOK, Pace

NOW = 1_000_000


def test_looks_become_rare_and_modest() -> None:
    pace = Pace(draw=lambda: 1.0)
    gains, looks, now = [], [], NOW
    for _ in range(ASKS_NOTHING + 5):
        gains.append(pace.min_gain)
        look = pace.nothing(now)
        looks.append(look - now)
        now = look
    assert gains[0] == FIRST_GAIN
    assert gains == sorted(gains, reverse=True)
    assert gains[ASKS_NOTHING:] == [0] * 5
    assert looks[:3] == [FIRST_LOOK, 2 * FIRST_LOOK, 4 * FIRST_LOOK]
    assert looks[-1] == LAST_LOOK


def test_wakes_that_bring_nothing_change_nothing() -> None:
    pace = Pace()
    look = pace.nothing(NOW)
    gain = pace.min_gain
    assert [pace.nothing(now) for now in range(NOW, look, 1_000)] == [look] * len(range(NOW, look, 1_000))
    assert pace.min_gain == gain
    assert pace.nothing(look) > look
    assert pace.min_gain < gain


def test_work_makes_it_demanding_again() -> None:
    pace, now = Pace(), NOW
    for _ in range(10):
        now = pace.nothing(now)
    pace.found()
    assert pace.min_gain == FIRST_GAIN
    assert pace.nothing(now) <= now + FIRST_LOOK


def test_looks_are_spread() -> None:
    draws = iter((0.0, 0.5, 1.0))
    looks = [Pace(draw=lambda: next(draws)).nothing(NOW) - NOW for _ in range(3)]
    assert looks == [50_000, 75_000, 100_000]
