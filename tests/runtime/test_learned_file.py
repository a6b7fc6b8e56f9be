"""What was learned is made durable by the heartbeat and shown in the project's file; removing that forgets."""

from __future__ import annotations

import fcntl
import json
from typing import TYPE_CHECKING

import pytest
from tests.runtime.doubles import Timeline, settings_in
from tests.runtime.nets import beat_by_hand, pulse_of

from cross_instance import Runtime, StoreUnavailable, events
from cross_instance.membership.learned import LearnedFile
from cross_instance.rules.operations import Keep, NodeState, Snapshot, Unlearn, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def runtime(timeline: Timeline, tmp_path: Path) -> Iterator[Runtime]:
    (tmp_path / ".pi").mkdir()
    with Runtime("one", store=timeline, settings=settings_in(tmp_path)) as runtime:
        beat_by_hand(runtime)
        yield runtime


def overload(runtime: Runtime) -> None:
    with runtime.permit("openai", "gpt-4o") as permit:
        permit.settle(status=429, headers={"retry-after": "0"})


def account(timeline: Timeline) -> NodeState:
    world: World = timeline.run(Snapshot())
    return next(node for node in world.nodes if node.node == "openai/default")


def file_of(runtime: Runtime) -> Path:
    return runtime.settings.project_dir / ".pi" / "data" / "adaptive-rate-state.json"


def test_a_beat_keeps_what_is_new_and_shows_it(timeline: Timeline, runtime: Runtime) -> None:
    pulse = pulse_of(runtime)
    with runtime.permit("openai", "gpt-4o"):
        pulse.beat()
    assert not [op for op, _ in timeline.ops if isinstance(op, Keep)]
    assert not file_of(runtime).exists()
    overload(runtime)
    pulse.beat()
    pulse.beat()
    assert len([op for op, _ in timeline.ops if isinstance(op, Keep)]) == 1
    shown = json.loads(file_of(runtime).read_text(encoding="utf-8"))
    assert shown["limits"]["openai/default"]["rejected"] == 1


def test_removing_the_file_forgets(timeline: Timeline, runtime: Runtime) -> None:
    pulse = pulse_of(runtime)
    overload(runtime)
    pulse.beat()
    file_of(runtime).unlink()
    pulse.beat()
    state = account(timeline).learned
    assert state is not None
    assert (state.rejected, state.rate) == (0, 500_000)
    told = [event for event in runtime.status().events if event.kind == events.LIMITS_RESET]
    assert [event.fields["nodes"] for event in told] == [["openai/default"]]
    pulse.beat()
    assert len([op for op, _ in timeline.ops if isinstance(op, Unlearn)]) == 1


def test_removing_the_file_forgets_also_where_its_writer_leaves_next(timeline: Timeline, tmp_path: Path) -> None:
    (tmp_path / ".pi").mkdir()
    with (
        Runtime("other", store=timeline, settings=settings_in(tmp_path / "elsewhere")),
        Runtime("one", store=timeline, settings=settings_in(tmp_path)) as runtime,
    ):
        overload(runtime)
        pulse = runtime._membership._pulse
        assert pulse is not None
        pulse._safely(pulse.beat)
        file_of(runtime).unlink()
    state = account(timeline).learned
    assert state is None or state.rejected == 0
    assert not file_of(runtime).exists()


def test_a_file_that_cannot_be_looked_at_is_no_trouble_with_the_store(runtime: Runtime) -> None:
    overload(runtime)
    pulse_of(runtime).beat()
    file_of(runtime).unlink()
    file_of(runtime).symlink_to(f"{300 * 'x'}")
    pulse_of(runtime).beat()
    assert runtime._membership.standing.trouble is None
    assert not [event for event in runtime.status().events if event.kind == events.LIMITS_RESET]


def test_who_never_wrote_the_file_resets_nobody(timeline: Timeline, runtime: Runtime) -> None:
    overload(runtime)
    LearnedFile(runtime._membership).look()
    pulse_of(runtime).beat()
    assert not [op for op, _ in timeline.ops if isinstance(op, Unlearn)]


def test_what_was_learned_last_is_kept_when_leaving(timeline: Timeline, tmp_path: Path) -> None:
    with Runtime("one", store=timeline, settings=settings_in(tmp_path)) as runtime:
        overload(runtime)
    assert len([op for op, _ in timeline.ops if isinstance(op, Keep)]) == 1
    assert not (tmp_path / ".pi").exists(), "a project without a folder .pi gets none"


def test_what_is_learned_is_told(runtime: Runtime) -> None:
    overload(runtime)
    told = [event for event in runtime.status().events if event.kind == events.LIMIT_LEARNED]
    assert len(told) == 1
    assert "openai/default" in told[0].message
    assert "first 429" in told[0].message


def test_where_learning_is_off_no_limit_changes(timeline: Timeline, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, adaptive_rate_control={"enabled": False})
    with Runtime("one", store=timeline, settings=settings) as runtime:
        overload(runtime)
        assert [limit.source for limit in runtime.limits()] == ["preset"]
        assert account(timeline).learned is None


def test_who_leaves_a_store_that_is_out_of_reach_does_not_wait_for_it_again_and_again(
    timeline: Timeline, tmp_path: Path
) -> None:
    asked: list[str] = []

    def cut(name: str) -> None:
        asked.append(name)
        raise StoreUnavailable("cut off")

    with Runtime("one", store=timeline, settings=settings_in(tmp_path, logging=False)) as runtime:
        overload(runtime)
        timeline.before = cut
        with pytest.raises(StoreUnavailable):
            runtime.run(Snapshot())
        asked.clear()
        runtime.close()
        timeline.before = lambda name: None
    assert (asked.count("Snapshot"), asked.count("Leave")) == (0, 1)


@pytest.fixture
def other(timeline: Timeline, runtime: Runtime) -> Iterator[LearnedFile]:
    """The copy of another instance of the same project."""
    with Runtime("other", store=timeline, settings=runtime.settings) as other:
        yield LearnedFile(other._membership)


def keep(runtime: Runtime) -> None:
    """What a beat does when something new was learned."""
    learned = pulse_of(runtime)._learned
    learned.look()
    learned.keep(runtime.incarnation)


def resets(runtime: Runtime) -> int:
    return sum(event.kind == events.LIMITS_RESET for event in runtime.status().events)


def test_removing_the_file_forgets_although_another_has_written_a_new_one_since(
    timeline: Timeline, runtime: Runtime, other: LearnedFile
) -> None:
    overload(runtime)
    pulse_of(runtime).beat()
    file_of(runtime).unlink()
    other._show({"openai/default": {}})
    pulse_of(runtime).beat()
    assert resets(runtime) == 1
    state = account(timeline).learned
    assert state is not None
    assert state.rejected == 0
    overload(runtime)
    pulse_of(runtime).beat()
    assert json.loads(file_of(runtime).read_text(encoding="utf-8"))["limits"]["openai/default"]["rejected"] == 1
    assert resets(runtime) == 1, "from now on the new file is its own"


def test_a_removal_is_not_lost_where_the_store_is_out_of_reach_just_then(timeline: Timeline, runtime: Runtime) -> None:
    overload(runtime)
    keep(runtime)
    file_of(runtime).unlink()

    def cut(name: str) -> None:
        if name == "Unlearn":
            raise StoreUnavailable("cut off")

    timeline.before = cut
    with pytest.raises(StoreUnavailable):
        keep(runtime)
    assert resets(runtime) == 0
    timeline.before = lambda name: None
    keep(runtime)
    assert resets(runtime) == 1


def test_a_file_removed_while_it_is_to_be_written_is_not_written(timeline: Timeline, runtime: Runtime) -> None:
    overload(runtime)
    keep(runtime)

    def remove(name: str) -> None:
        if name == "Keep":
            file_of(runtime).unlink()
            timeline.before = lambda name: None

    timeline.before = remove
    keep(runtime)
    assert resets(runtime) == 1
    assert not file_of(runtime).exists()


def test_those_who_write_it_by_turns_reset_nobody(runtime: Runtime, other: LearnedFile) -> None:
    overload(runtime)
    for _ in range(3):
        keep(runtime)
        other._show({"openai/default": {}})
        other.look()
    assert resets(runtime) == 0


@pytest.mark.parametrize("text", ["", '{"version": 1, "limits": {}}', "longer, and written by hand" * 9])
def test_a_file_without_an_id_was_not_removed_and_gets_one(runtime: Runtime, text: str) -> None:
    overload(runtime)
    keep(runtime)
    file_of(runtime).write_text(text)
    keep(runtime)
    assert resets(runtime) == 0
    shown = json.loads(file_of(runtime).read_text(encoding="utf-8"))
    assert shown["limits"]["openai/default"]["rejected"] == 1
    assert shown["id"]


def test_whoever_finds_another_writing_leaves_it_to_him(runtime: Runtime, other: LearnedFile) -> None:
    overload(runtime)
    pulse_of(runtime).beat()
    with file_of(runtime).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other._show({})
        other._show({"other/default": {}})
    assert "openai/default" in file_of(runtime).read_text(encoding="utf-8")
    assert not other._id
    other._show({"other/default": {}})
    assert "other/default" in file_of(runtime).read_text(encoding="utf-8")
    assert [path.name for path in other.path.parent.iterdir()] == [other.path.name]
