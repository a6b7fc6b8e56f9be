"""Clock trouble is noticed: by how much a wall clock was set, or the store's clock ran back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.runtime.doubles import Timeline, one_at_a_time

from cross_instance import Runtime, events as kinds
from cross_instance.membership.clocks import JUMP, NAP, ClockWatch, Jump, steady_seconds
from cross_instance.rules.operations import FOREVER, SECOND, Instant

if TYPE_CHECKING:
    from pathlib import Path


class Clocks:
    def __init__(self) -> None:
        self.wall, self.steady, self.awake = 1e9, 50.0, 20.0
        self.watch = ClockWatch(lambda: self.wall, lambda: self.steady, lambda: self.awake)

    def sleep(self, seconds: float) -> None:
        """Let time pass for all but the machine."""
        self.wall += seconds
        self.steady += seconds

    def after(self, seconds: float, wall: float) -> Jump:
        """What is seen when so much time has passed, by the wall clock `wall`."""
        self.steady += seconds
        self.awake += seconds
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
    clocks.sleep(8 * 3600)
    assert clocks.after(15, 15) == Jump(slept=8 * 3600)
    assert clocks.after(15, 15) == Jump()
    assert abs(steady_seconds() - steady_seconds()) < JUMP


def test_who_has_never_slept_has_always_been_awake() -> None:
    clocks = Clocks()
    clocks.after(15, 15)
    assert clocks.watch.awake_for() == FOREVER


def test_from_waking_on_the_time_awake_is_counted() -> None:
    clocks = Clocks()
    clocks.sleep(100)
    assert clocks.watch.awake_for() == 0
    clocks.after(15, 15)
    assert clocks.watch.awake_for() == 15 * SECOND
    clocks.sleep(NAP / 2)
    assert clocks.watch.awake_for() == 15 * SECOND, "clocks are not read at once"
    clocks.sleep(NAP)
    assert clocks.watch.awake_for() == 0, "short naps add up"


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
