"""The feed: each instance's events in order, across processes, past rotation and damage, and without harm."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.named.forks import idle_child, reaped

from cross_instance.events import Event, Events
from cross_instance.watching.feed import FeedReader, FeedWriter, feed_path
from cross_instance.watching.shared_file import SharedFile


def event(seq: int, name: str = "one", **fields: object) -> Event:
    return Event("something", 1.5, name, "told", MappingProxyType(fields), seq)


def everything(path: Path, *, whole: bool = True) -> list[Event]:
    reader = FeedReader(path, whole=whole)
    try:
        return list(reader.read())
    finally:
        reader.close()


def test_what_is_told_is_read_as_it_was_told(tmp_path: Path) -> None:
    path = feed_path(tmp_path, "redis://somewhere")
    reader, writer = FeedReader(path), FeedWriter(path)
    assert list(reader.read()) == []
    told = [event(1, figure=7, text="é\n\u2028"), event(2, nothing=None)]
    writer.write(told)
    assert list(reader.read()) == told
    assert list(reader.read()) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert everything(path, whole=False) == []
    assert everything(path) == told
    reader.close()
    writer.close()


def test_stores_have_feeds_of_their_own(tmp_path: Path) -> None:
    assert feed_path(tmp_path, "redis://one") != feed_path(tmp_path, "redis://two")


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    path = feed_path(tmp_path, "x")
    writer = FeedWriter(path)
    writer.write([event(1)])
    with path.open("ab") as file:
        file.write(b'{"kind":\n[]\n{"kind": "x", "at": "soon"}\nnull\n\xff\n')
    writer.write([event(2)])
    assert [one.seq for one in everything(path)] == [1, 2]
    writer.close()


def test_who_reads_along_misses_nothing_when_the_file_is_moved_aside(tmp_path: Path) -> None:
    path = feed_path(tmp_path, "x")
    reader, writer, heard = FeedReader(path), FeedWriter(path, longest=2_000), list[int]()
    for seq in range(1, 201):
        writer.write([event(seq)])
        if not seq % 7:
            while told := [one.seq for one in reader.read()]:
                heard += told
    while told := [one.seq for one in reader.read()]:
        heard += told
    assert heard == list(range(1, 201))
    assert len(list(path.parent.glob("*.jsonl*"))) <= 3  # with the one moved aside, and the lock
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 4_000
    reader.close()
    writer.close()


WRITER = """
import sys
from pathlib import Path
from cross_instance.events import Events
from cross_instance.watching.feed import FeedWriter
events, writer = Events(sys.argv[2]), FeedWriter(Path(sys.argv[1]), longest=60_000)
collected = events.collect(lambda: None)
for place in range(300):
    events.tell("something", "x" * 50, None)
    writer.write(collected.take())
writer.close()
"""


def test_the_events_of_each_process_are_heard_in_order(tmp_path: Path) -> None:
    path = feed_path(tmp_path, "x")
    path.parent.mkdir()
    reader, heard = FeedReader(path), dict[str, list[int]]()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abcd"]
    while any(writer.poll() is None for writer in writers) or not heard:
        for one in reader.read():
            heard.setdefault(one.instance_id, []).append(one.seq)
    while told := list(reader.read()):
        for one in told:
            heard.setdefault(one.instance_id, []).append(one.seq)
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert sorted(heard) == list("abcd")
    assert all(seqs == sorted(seqs) and len(seqs) == len(set(seqs)) for seqs in heard.values())
    reader.close()


def test_a_folder_that_cannot_be_used_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "events").write_text("a file")
    writer = FeedWriter(feed_path(tmp_path, "x"))
    writer.write([event(1)])
    writer.write([event(2)])
    assert caplog.text.count("cannot be written") == 1


FULL = """
import resource, sys
from pathlib import Path
from cross_instance.watching.shared_file import SharedFile
file = SharedFile(Path(sys.argv[1]))
file.write("first")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    file.write("second, which is cut")
except OSError:
    print("told")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write("third")
file.close()
"""


def test_what_a_full_disk_cut_does_not_spoil_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "told\n"
    assert path.read_text() == "first\nseco\nthird\n"


def test_events_are_numbered_and_those_in_passing_are_for_who_wants_all() -> None:
    events = Events("one")
    collected = events.collect(lambda: None)
    events.tell("a", "", None)
    events.tell("b", "", None, kept=False)
    events.relay(event(1, "other"))
    assert [(one.kind, one.seq) for one in collected.take()] == [("a", 1), ("b", 2)]
    assert [one.kind for one in events.recent] == ["a"]


def test_a_file_s_lock_is_held_only_while_it_is_moved(tmp_path: Path) -> None:
    one, two = SharedFile(tmp_path / "a.log", longest=40), SharedFile(tmp_path / "a.log", longest=40)
    for place in range(10):
        (one if place % 2 else two).write(f"line {place:020}")
    one.close()
    two.close()
    found = sorted(line for file in tmp_path.glob("a.log*") for line in file.read_text().splitlines())
    assert found[-1] == f"line {9:020}"


def test_a_child_forked_meanwhile_does_not_keep_the_file_s_lock(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "a.log", longest=40)
    with reaped() as children:

        def forking(name: str) -> str:
            children.append(idle_child())
            return name

        file.namer = forking
        for place in range(6):
            file.write(f"line {place:020}")
        file.close()
        assert len((tmp_path / "a.log").read_text()) <= 40
        assert len(children) > 1


@pytest.mark.parametrize(
    "damage", ['"seq":1e999', '"at":1e999', '"at":1e300', '"at":-1e18', f'"at":1{400 * "0"}', f'"fields":{9999 * "["}']
)
def test_a_line_that_makes_no_sense_is_passed_over(tmp_path: Path, damage: str) -> None:
    path = feed_path(tmp_path, "redis://somewhere")
    writer = FeedWriter(path)
    writer.write([event(1)])
    with path.open("a") as file:
        file.write('{"kind":"a","instanceId":"b","message":"c","fields":{},"seq":2,"at":1,' + damage + "}\n")
    writer.write([event(3)])
    writer.close()
    assert [one.seq for one in everything(path)] == [1, 3]
