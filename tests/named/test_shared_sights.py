"""One process looks for all: each news is told once, whoever looked before, and nobody looks who cannot share it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from tests.named.forks import idle_child, reaped
from tests.named.test_sights import instance, node, world

from cross_instance.rules.operations import Instant, World
from cross_instance.watching.shared_sights import SharedSights


class Store:
    """A store that is seen differently with each look."""

    def __init__(self, *worlds: World) -> None:
        self.left = list(worlds)
        self.looks = 0

    def look(self) -> World | None:
        self.looks += 1
        return self.left.pop(0) if self.left else None


def at(moment: int, used: int = 0, *names: str) -> World:
    seen = world(node(used), there=tuple(instance(name, place) for place, name in enumerate(names)))
    return World(at=Instant(moment, 0), instances=seen.instances, nodes=seen.nodes)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand."""
    now = [1_000.0]
    monkeypatch.setattr("cross_instance.watching.shared_sights.time.monotonic", lambda: now[0])
    return now


def two(path: Path | None, store: Store) -> tuple[SharedSights, SharedSights]:
    return SharedSights(path, store.look), SharedSights(path, store.look)


def test_one_looks_and_the_other_reads_what_it_saw(tmp_path: Path, hands: list[float]) -> None:
    store = Store(at(1, 7, "a"), at(2, 9, "a", "b"))
    one, other = two(tmp_path / "events" / "x.seen", store)
    assert one.look() == []
    assert other.look() is None
    assert (store.looks, other.usage) == (1, {"openai/default": (7, 100)})
    hands[0] += 1
    assert [kind for kind, _, _ in other.look() or []] == ["instance-connected"]
    assert one.look() is None
    assert (store.looks, one.usage) == (2, {"openai/default": (9, 100)})
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "events").iterdir()] == [0o600, 0o600]


def test_who_was_seen_by_anothers_look_needs_none(tmp_path: Path, hands: list[float]) -> None:
    store = Store(at(1, 7, "a"), at(2, 9, "a", "b"))
    one, other = two(tmp_path / "x.seen", store)
    noted = hands[0]
    assert one.look(noted) == []
    assert other.look(noted) == []
    assert other.look(noted + 0.1) is None, "that was after the look"
    hands[0] += 1
    assert [kind for kind, _, _ in one.look(noted) or []] == ["instance-connected"], "a look that is due is taken"
    assert other.look(noted + 0.1) == []
    assert store.looks == 2


def test_a_warning_is_told_once_whoever_looks(tmp_path: Path, hands: list[float]) -> None:
    store = Store(*(at(moment, used) for moment, used in enumerate((70, 85, 90, 95, 60, 85))))
    both, told = two(tmp_path / "x.seen", store), list[int]()
    for place in range(6):
        told.append(len(both[place % 2].look() or []))
        hands[0] += 1
    assert told == [0, 1, 0, 0, 0, 1]


def test_looks_get_a_hundredth_of_the_time(tmp_path: Path, hands: list[float]) -> None:
    worlds = [at(moment) for moment in range(5)]

    def slow() -> World:
        hands[0] += 0.2
        return worlds.pop(0)

    one, other = SharedSights(tmp_path / "x.seen", slow), SharedSights(tmp_path / "x.seen", slow)
    assert one.look() == []
    hands[0] += 19.9
    assert (one.look(), other.look(), len(worlds)) == (None, None, 4)
    hands[0] += 0.2
    assert (other.look(), len(worlds)) == ([], 3)


def test_what_was_seen_long_ago_or_before_the_boot_is_no_beginning(tmp_path: Path, hands: list[float]) -> None:
    store = Store(at(9, 0, "a"), at(10, 0, "b"), at(1, 0, "c"), at(2, 0, "c", "d"))
    one, other = two(tmp_path / "x.seen", store)
    assert one.look() == []
    hands[0] += 100
    assert other.look() == []
    hands[0] = 5.0
    assert one.look() == []
    hands[0] += 1
    assert [fields["connected"] for _, _, fields in one.look() or []] == ["d"]


def test_who_does_not_get_the_file_does_without(tmp_path: Path, hands: list[float]) -> None:
    store = Store(at(1), at(2))
    one, other = two(tmp_path / "x.seen", store)
    one.look()
    hands[0] += 1
    with (tmp_path / "x.seen.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert (other.look(), store.looks) == (None, 1)
    assert other.look() == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"due": "soon"}', '{"due": 1000.0, "at": "long ago"}', '{"due": 1000.0, "sights": [1], "usage": 7}'],
)
def test_a_damaged_file_is_begun_anew(tmp_path: Path, hands: list[float], text: str) -> None:
    (tmp_path / "x.seen").write_text(text)
    store = Store(at(1), at(2))
    one, _ = two(tmp_path / "x.seen", store)
    assert one.look() == []
    hands[0] += 1
    assert one.look() == []


def test_without_a_file_that_can_be_written_nobody_looks(tmp_path: Path, hands: list[float]) -> None:
    (tmp_path / "events").write_text("a file")
    store = Store(at(1))
    one, _ = two(tmp_path / "events" / "x.seen", store)
    assert (one.look(), store.looks) == (None, 0)
    os.mkdir(tmp_path / "x.seen.new")  # noqa: PTH102
    other, _ = two(tmp_path / "x.seen", store)
    assert (other.look(), store.looks) == ([], 0)


def test_a_store_of_one_process_needs_no_file(hands: list[float]) -> None:
    store = Store(at(1), at(1, 90))
    only, _ = two(None, store)
    assert only.look() == []
    assert [kind for kind, _, _ in only.look(last=True) or []] == ["rate-limit-warning"]


def test_a_child_forked_meanwhile_does_not_keep_the_file_from_all(tmp_path: Path, hands: list[float]) -> None:
    store = Store(at(1), at(2))
    one, other = two(tmp_path / "x.seen", store)
    with reaped() as children:
        with one._seen():
            children.append(idle_child())
        assert other.look() == []
        hands[0] += 1
        assert (one.look(), store.looks) == ([], 2)
