"""What the heartbeat thread does, done here by hand: no time passes."""

from __future__ import annotations

import shutil
from fcntl import LOCK_SH, flock
from typing import TYPE_CHECKING

import pytest
from tests.runtime.doubles import Timeline, one_at_a_time
from tests.runtime.nets import beat_by_hand, pulse_of

from cross_instance import DuplicateInstance, InstanceFenced, RateLimitExceeded, Runtime, StoreUnavailable
from cross_instance.membership.lookout import is_alive
from cross_instance.membership.presence import Card, Presence, instances_folder, machine_of
from cross_instance.rules.operations import (
    SECOND,
    Cancel,
    Configure,
    Granted,
    Heartbeat,
    Join,
    Settle,
    Snapshot,
    Sweep,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def runtime(timeline: Timeline, tmp_path: Path) -> Iterator[Runtime]:
    with Runtime("one", store=timeline, settings=one_at_a_time(tmp_path)) as runtime:
        beat_by_hand(runtime)
        yield runtime


def dead_neighbour(runtime: Runtime, timeline: Timeline, instance_id: str) -> int:
    """An instance of this machine whose process has died, as its file says."""
    folder = instances_folder(runtime.settings.runtime_dir)
    Presence.take(folder, Card(instance_id, 1, "", "", "", "", store="by hand")).release(remove=False)
    joined = timeline.run(
        Join(instance_id=instance_id, nonce=instance_id, pid=1, machine=machine_of(folder), host="here")
    )
    incarnation: int = joined.incarnation
    return incarnation


def test_a_beat_keeps_the_instance_alive(timeline: Timeline, runtime: Runtime) -> None:
    incarnation, pulse = runtime.incarnation, pulse_of(runtime)
    for _ in range(10):
        timeline.clock.advance(50 * SECOND)
        pulse.beat()
    assert runtime.incarnation == incarnation


def test_an_instance_that_was_removed_joins_anew(
    timeline: Timeline, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    before = runtime.incarnation
    timeline.run(Sweep((before,)))
    pulse_of(runtime).beat()
    assert runtime.incarnation > before
    assert runtime.pi_instance_status()["coordinatorConnected"] is True
    assert "it joins anew" in caplog.text


def test_an_id_that_was_taken_over_cannot_join_anew(
    timeline: Timeline, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    timeline.run(Sweep((runtime.incarnation,)))
    timeline.run(Join(instance_id="one", nonce="x", pid=77, machine="elsewhere", host="elsewhere"))
    with pytest.raises(InstanceFenced, match="77 on elsewhere"):
        pulse_of(runtime).beat()
    for _ in range(3):
        pulse_of(runtime)._safely(pulse_of(runtime).beat)
    assert caplog.text.count("cannot join anew") == 1, "it is told once, as what it is"
    assert "cannot be used" not in caplog.text
    assert "77 on elsewhere" in (runtime.status().taken_over or "")
    assert runtime.status().degraded is None
    with pytest.raises(InstanceFenced):
        runtime.permit("acme", "m-1").acquire()


def test_an_id_in_use_on_another_machine_is_a_duplicate(timeline: Timeline, tmp_path: Path) -> None:
    timeline.run(Join(instance_id="one", nonce="x", pid=77, machine="elsewhere", host="elsewhere"))
    runtime = Runtime("one", store=timeline, settings=one_at_a_time(tmp_path))
    with pytest.raises(DuplicateInstance, match="process 77 on elsewhere"):
        runtime.join()
    assert list(instances_folder(runtime.settings.runtime_dir).glob("*.lock")) == []


def test_silent_neighbours_are_removed(timeline: Timeline, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    timeline.run(Join(instance_id="quiet", nonce="x", pid=77, machine="elsewhere", host="elsewhere"))
    timeline.clock.advance(59 * SECOND)
    pulse_of(runtime).beat()
    timeline.clock.advance(2 * SECOND)
    pulse_of(runtime).beat()
    assert [i.instance_id for i in timeline.run(Snapshot()).instances] == ["one"]
    assert "instance quiet is gone" in caplog.text


def test_what_the_dead_of_this_machine_held_comes_back(timeline: Timeline, runtime: Runtime, tmp_path: Path) -> None:
    with runtime.permit("acme", "m-1"):
        pass
    incarnation = dead_neighbour(runtime, timeline, "dead")
    pulse_of(runtime).look()
    assert [op for op, _ in timeline.ops if isinstance(op, Snapshot)] == [Snapshot(counts=False)], "a cheap look"
    swept = next(op for op, _ in timeline.ops if isinstance(op, Sweep) and op.dead)
    assert swept.dead == (incarnation,)
    assert [i.instance_id for i in timeline.run(Snapshot()).instances] == ["one"]
    assert [path.name for path in instances_folder(runtime.settings.runtime_dir).glob("*.lock")] == ["one.lock"]


def test_who_takes_the_id_of_the_dead_meanwhile_is_left_alone(timeline: Timeline, runtime: Runtime) -> None:
    dead_neighbour(runtime, timeline, "phoenix")
    folder = instances_folder(runtime.settings.runtime_dir)
    risen: list[Presence] = []

    def rise(name: str) -> None:
        if name == Snapshot.__name__ and not risen:
            risen.append(Presence.take(folder, Card("phoenix", 2, "", "", "", "")))

    timeline.before = rise
    pulse_of(runtime).look()
    assert [i.instance_id for i in timeline.run(Snapshot()).instances] == ["one", "phoenix"]
    risen[0].release(remove=True)


def test_what_is_noted_before_the_thread_dozes_keeps_it_awake(runtime: Runtime) -> None:
    """A nudge that comes while the thread is not dozing yet wakes nobody: it looks for itself."""
    pulse, work = pulse_of(runtime), runtime._membership.work
    assert not pulse._is_busy()
    pulse._dozing = False
    work.note_tasks(Workload(orchestrations=1))
    assert pulse._is_busy()
    work.tell_noted()
    assert not pulse._is_busy()


def test_who_lives_is_seen_to_live_although_the_folder_was_removed(timeline: Timeline, runtime: Runtime) -> None:
    folder = instances_folder(runtime.settings.runtime_dir)
    pulse = pulse_of(runtime)
    shutil.rmtree(folder)
    pulse.look()
    assert is_alive(folder, "one") is None
    pulse.beat()
    assert is_alive(folder, "one") is True
    timeline.run(Sweep((runtime.incarnation,)))
    shutil.rmtree(folder)
    pulse.beat()
    assert is_alive(folder, "one") is True
    (instance,) = timeline.run(Snapshot()).instances
    assert instance.machine == machine_of(folder)


def test_a_death_in_the_place_of_a_folder_that_is_gone_is_left_to_who_joins_there(
    timeline: Timeline, runtime: Runtime
) -> None:
    """The store in use may still be the one before: of what the other knows nobody may remove the sign."""
    folder = instances_folder(runtime.settings.runtime_dir)
    dead_neighbour(runtime, timeline, "phoenix")
    folder.rename(folder.with_name("aside"))
    again = instances_folder(runtime.settings.runtime_dir) / "phoenix.lock"
    Presence.take(again.parent, Card("phoenix", 1, "", "", "", "", store="by hand")).release(remove=False)
    pulse = pulse_of(runtime)
    pulse.look()
    assert again.exists()
    timeline.run(Sweep((runtime.incarnation,)))
    pulse.beat()
    assert not again.exists()


def test_an_instance_of_that_name_on_another_machine_is_left_alone(timeline: Timeline, runtime: Runtime) -> None:
    folder = instances_folder(runtime.settings.runtime_dir)
    Presence.take(folder, Card("far", 1, "", "", "", "")).release(remove=False)
    timeline.run(Join(instance_id="far", nonce="x", pid=77, machine="elsewhere", host="elsewhere"))
    pulse_of(runtime).look()
    assert [i.instance_id for i in timeline.run(Snapshot()).instances] == ["one", "far"]


def test_the_file_of_one_that_died_before_it_could_write_is_removed(runtime: Runtime) -> None:
    nameless = instances_folder(runtime.settings.runtime_dir) / "nameless.lock"
    nameless.touch()
    pulse_of(runtime).look()
    assert not nameless.exists()


def test_a_dead_file_that_somebody_looks_at_is_removed_the_next_time(runtime: Runtime, timeline: Timeline) -> None:
    dead_neighbour(runtime, timeline, "dead")
    path = instances_folder(runtime.settings.runtime_dir) / "dead.lock"
    pulse = pulse_of(runtime)
    with path.open("rb") as looked_at:
        flock(looked_at, LOCK_SH)
        pulse.look()
    assert [i.instance_id for i in timeline.run(Snapshot()).instances] == ["one"]
    pulse.look()
    assert not path.exists()


def test_without_deaths_looking_asks_the_store_nothing(timeline: Timeline, runtime: Runtime) -> None:
    asked = len(timeline.ops)
    pulse_of(runtime).look()
    assert len(timeline.ops) == asked


def test_what_is_handed_over_is_sent_in_order(timeline: Timeline, runtime: Runtime) -> None:
    pulse = pulse_of(runtime)
    pulse.later(Settle(1, 5))
    pulse.later(Cancel(1, 6))
    pulse._receive(0.0)
    pulse.flush()
    assert [op for op, _ in timeline.ops[-2:]] == [Settle(1, 5), Cancel(1, 6)]


def test_what_the_store_does_not_take_is_kept(
    timeline: Timeline, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def out_of_reach(name: str) -> None:
        raise StoreUnavailable("gone fishing")

    pulse = pulse_of(runtime)
    pulse.later(Settle(1, 5))
    pulse._receive(0.0)
    timeline.before = out_of_reach
    for _ in range(3):
        pulse._safely(pulse.flush)
        pulse._safely(pulse.tick)
    assert caplog.text.count("gone fishing") == 1, "trouble is told once"
    assert runtime.status().degraded == "gone fishing"
    timeline.before = lambda name: None
    pulse._safely(pulse.tick)
    pulse._receive(0.0)
    pulse._safely(pulse.flush)
    assert Settle(1, 5) in [op for op, _ in timeline.ops]
    assert caplog.text.count("can be used again") == 1
    assert runtime.status().degraded is None


def test_an_unexpected_error_stops_nothing(
    timeline: Timeline, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> None:
        if name == "Settle":
            raise ZeroDivisionError

    pulse = pulse_of(runtime)
    pulse.later(Settle(1, 5))
    pulse.later(Cancel(1, 6))
    pulse._receive(0.0)
    timeline.before = broken
    pulse._safely(pulse.flush)
    pulse._safely(pulse.flush)
    assert timeline.ops[-1][0] == Cancel(1, 6)
    assert "unexpected error" in caplog.text


def test_only_waiting_makes_it_look_often(timeline: Timeline, runtime: Runtime) -> None:
    seen: list[bool] = []
    timeline.meanwhile.append(lambda: seen.append(bool(runtime._membership.waiters)))
    with runtime.permit("acme", "m-1"):
        assert not runtime._membership.waiters
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m-1", timeout=1.0).acquire()
    assert seen == [True]
    assert not runtime._membership.waiters


def test_the_thread_itself_beats_until_the_runtime_closes(timeline: Timeline, tmp_path: Path) -> None:
    beaten: list[str] = []
    runtime = Runtime("one", store=timeline, settings=one_at_a_time(tmp_path, heartbeat_interval_ms=100))
    timeline.before = beaten.append
    runtime.join()
    thread = runtime._membership._pulse._thread  # type: ignore[union-attr]  # it has joined
    while beaten.count(Heartbeat.__name__) < 2:
        assert thread.is_alive()
    runtime.close()
    assert not thread.is_alive()


def test_what_settings_say_is_published_anew(timeline: Timeline, runtime: Runtime) -> None:
    with runtime.permit("acme", "m-1"):
        pass
    runtime._membership.republish()
    assert isinstance(timeline.ops[-1][0], Configure)
    with runtime.permit("acme", "m-1"):
        assert isinstance(timeline.ops[-1][1], Granted)
