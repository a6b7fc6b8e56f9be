"""What was learned is made durable by the heartbeat and shown in the project's file; removing that forgets."""

from __future__ import annotations

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


def test_two_instances_of_a_process_show_it_side_by_side(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".pi").mkdir()
    settings = settings_in(tmp_path)
    with (
        Runtime("one", store=timeline, settings=settings) as one,
        Runtime("two", store=timeline, settings=settings) as two,
    ):
        first, second = LearnedFile(one._membership), LearnedFile(two._membership)
        write, begun = type(first.path).write_text, list[str]()

        def interrupted(path: Path, text: str, **how: str) -> int:
            written = write(path, text, **how)
            begun.append(path.name)
            if len(begun) == 1:
                second._show({"acme/default": {}})
            return written

        monkeypatch.setattr(type(first.path), "write_text", interrupted)
        first._show({"acme/default": {}})
    assert first._written
    assert second._written
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]
