"""Wake-ups through named pipes: who gets them, and what happens to those that nobody can get."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cross_instance.rules.operations import Wake
from cross_instance.stores import wakeups
from cross_instance.stores.wakeups import Post

ROOM_AND_MORE = 5_000
"""More wakes than a pipe holds."""
PATIENCE = 60.0
"""Seconds: longer than anything takes that is not broken."""


class Reader:
    """Receives at a post, in as many wakes as are awaited."""

    def __init__(self, folder: Path, *incarnations: int) -> None:
        self.wakes: list[Wake] = []
        self._arrived = threading.Condition()
        self.post = Post(folder, self.receive)
        for incarnation in incarnations:
            self.post.own(incarnation, self.post.seemingly_dead())

    def receive(self, wakes: Iterable[Wake]) -> None:
        with self._arrived:
            self.wakes += wakes
            self._arrived.notify_all()

    def await_wakes(self, count: int) -> list[Wake]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.wakes) >= count, PATIENCE)
        return self.wakes


@pytest.fixture
def posts(tmp_path: Path) -> Iterator[tuple[Reader, Reader]]:
    both = Reader(tmp_path / "wake", 1, 2), Reader(tmp_path / "wake", 3)
    yield both
    for reader in both:
        reader.post.close()


def test_wakes_go_to_the_owner_of_their_incarnation(posts: tuple[Reader, Reader]) -> None:
    one, other = posts
    one.post.send((Wake(1, 10, 5), Wake(3, 11, 6), Wake(2, 12, 7), Wake(3, 13, 1 << 52)))
    assert one.wakes == [Wake(1, 10, 5), Wake(2, 12, 7)], "its own take no pipe"
    assert other.await_wakes(2) == [Wake(3, 11, 6), Wake(3, 13, 1 << 52)]


def test_many_wakes_arrive_whole_and_in_order(posts: tuple[Reader, Reader]) -> None:
    one, other = posts
    wakes = tuple(Wake(3, seq, seq) for seq in range(4 * wakeups.AT_ONCE))
    one.post.send(wakes)
    assert other.await_wakes(len(wakes)) == [*wakes]


def test_senders_do_not_mix_their_records(posts: tuple[Reader, Reader]) -> None:
    one, other = posts
    wakes = [Wake(1, seq, seq) for seq in range(2_000)]
    threads = [
        threading.Thread(target=lambda part=part: [*map(other.post.send, zip(wakes[part::4], strict=False))])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.await_wakes(len(wakes)), key=lambda wake: wake.seq) == wakes


def test_a_reader_that_is_far_behind_costs_the_sender_nothing(tmp_path: Path) -> None:
    hold, reading = threading.Event(), threading.Event()
    arrived: list[Wake] = []

    def receive(wakes: Iterable[Wake]) -> None:
        arrived.extend(wakes)
        reading.set()
        hold.wait()

    slow, sender = Post(tmp_path, receive), Post(tmp_path, lambda _: None)
    slow.own(1)
    sender.send((Wake(1, 0, 0),))
    reading.wait()
    sender.send(tuple(Wake(1, seq, 0) for seq in range(ROOM_AND_MORE)))
    hold.set()
    slow.close()
    sender.close()
    assert 0 < len(arrived) <= ROOM_AND_MORE, "what the pipe had no room for was dropped"


def test_a_wake_for_nobody_is_dropped(posts: tuple[Reader, Reader], tmp_path: Path) -> None:
    one, other = posts
    one.post.send((Wake(99, 1, 1), Wake(3, 2, 2)))
    assert other.await_wakes(1) == [Wake(3, 2, 2)]


def test_an_incarnation_that_left_gets_no_more(posts: tuple[Reader, Reader], tmp_path: Path) -> None:
    one, other = posts
    one.post.disown(2)
    one.post.disown(2)
    other.post.send((Wake(2, 1, 1), Wake(1, 2, 2)))
    assert one.await_wakes(1) == [Wake(1, 2, 2)]
    assert not (tmp_path / "wake" / "2").is_symlink()


def test_few_pipes_of_others_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "OPEN_PIPES", 2)
    readers = [Reader(tmp_path, n) for n in range(1, 6)]
    sender = Reader(tmp_path)
    before = len([*Path("/dev/fd").iterdir()])
    for at in range(3):
        sender.post.send(tuple(Wake(n, 0, at) for n in range(1, 6)))
    for reader in readers:
        assert [wake.at for wake in reader.await_wakes(3)] == [0, 1, 2]
    assert len([*Path("/dev/fd").iterdir()]) == before + 2
    for reader in (*readers, sender):
        reader.post.close()


def test_what_the_dead_left_is_removed_and_the_living_stay(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe-of-the-dead")
    (tmp_path / "7").symlink_to("pipe-of-the-dead")
    (tmp_path / "8").symlink_to("nothing")
    living = Reader(tmp_path, 1)
    joining = Reader(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {"1", "2"}
    assert len([path for path in tmp_path.iterdir() if path.is_fifo() and not path.is_symlink()]) == 2
    joining.post.send((Wake(1, 1, 1),))
    assert living.await_wakes(1) == [Wake(1, 1, 1)]
    living.post.close()
    joining.post.close()
    assert [*tmp_path.iterdir()] == []


def test_what_only_seemed_dead_stays(tmp_path: Path) -> None:
    """A pipe that was found while it was being made is read by the time that its finder is inside the gate."""
    os.mkfifo(tmp_path / "pipe")
    post = Post(tmp_path, lambda _: None)
    found = post.seemingly_dead()
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    post.own(1, found)
    assert found == [tmp_path / "pipe"]
    assert found[0].exists()
    assert post.seemingly_dead() == [], "looked for once"
    post.close()
    os.close(reader)


def test_a_reader_that_dies_does_not_kill_a_process_with_the_system_s_sigpipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "1").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sender = Post(tmp_path, lambda _: None)
    sender.send((Wake(1, 1, 1),))
    assert wakeups.RECORD.unpack(os.read(reader, 100)) == (1, 1, 1)
    os.close(reader)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sender.send((Wake(1, 2, 2),))
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert not (tmp_path / "1").is_symlink()
    sender.close()
