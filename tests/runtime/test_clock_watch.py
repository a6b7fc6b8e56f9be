"""Clock trouble is noticed: by how much a wall clock was set, or the store's clock ran back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.runtime.doubles import Timeline, one_at_a_time

from cross_instance import Runtime, events as kinds
from cross_instance.clocks import JUMP, ClockWatch, Jump, steady_seconds
from cross_instance.rules.operations import SECOND, Instant

if TYPE_CHECKING:
    from pathlib import Path


class Clocks:
    def __init__(self) -> None:
        self.wall, self.steady = 1e9, 50.0
        self.watch = ClockWatch(lambda: self.wall, lambda: self.steady)

    def after(self, seconds: float, wall: float) -> Jump:
        """What is seen when so much time has passed, by the wall clock `wall`."""
        self.steady += seconds
        self.wall += wall
        return self.watch.look(Instant(round(self.steady * SECOND), 0))


@pytest.mark.parametrize("jump", [JUMP + 1, -JUMP - 1, 86_400.0 * 400, -3600.0])
def test_a_jump_is_told_once_with_its_size(jump: float) -> None:
    clocks = Clocks()
    assert clocks.after(15, 15) == Jump()
    assert clocks.after(15, 15 + jump).wall == pytest.approx(jump)
    assert clocks.after(15, 15) == Jump()


def test_slewing_and_sleep_are_no_jumps() -> None:
    clocks = Clocks()
    assert clocks.after(60, 60.03) == Jump()
    assert clocks.after(8 * 3600, 8 * 3600) == Jump()
    assert abs(steady_seconds() - steady_seconds()) < JUMP


def test_a_store_whose_clock_runs_back_is_told() -> None:
    clocks = Clocks()
    clocks.after(15, 15)
    assert clocks.watch.look(Instant(clocks.watch._at - 250_000, 0)).store == 0.25
    assert clocks.after(15, 15) == Jump()


def test_the_heartbeat_looks_at_the_clocks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timeline = Timeline()
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        pulse = runtime._membership._pulse
        assert pulse is not None
        clocks = Clocks()
        pulse._clocks = clocks.watch
        pulse.beat()
        clocks.wall += 3600.0
        timeline.clock.mono -= SECOND // 2
        pulse.beat()
        told = {event.kind: event.fields["seconds"] for event in runtime.status().events}
    assert told == {kinds.CLOCK_JUMPED: pytest.approx(3600.0), kinds.CLOCK_BACKWARDS: 0.5}
    assert "the wall clock was set by +3600 s" in caplog.text
