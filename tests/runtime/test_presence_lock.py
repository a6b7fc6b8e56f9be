"""Lock files with real processes: who holds one lives, who died does not."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from cross_instance import ConfigError, DuplicateInstance
from cross_instance.membership import presence
from cross_instance.membership.lookout import FORGOTTEN_AFTER, ON_ITS_WAY, Lookout, is_alive
from cross_instance.membership.presence import (
    SUFFIX,
    Card,
    Presence,
    file_name,
    instances_folder,
    machine_of,
    read_card,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from tests.runtime.test_presence_lock import card
from cross_instance.membership.presence import Presence
held = Presence.take(Path(sys.argv[1]), card(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
held.release(remove=True)
"""


def card(instance_id: str, store: str = "") -> Card:
    return Card(instance_id, os.getpid(), "session", "2026-01-01T00:00:00Z", "/work", "host", store)


@contextmanager
def holding(folder: Path, instance_id: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds an instance's lock until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder), instance_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return instances_folder(tmp_path)


def test_the_folder_is_for_its_owner_only(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_file_tells_people_who_it_is(folder: Path) -> None:
    held = Presence.take(folder, card("worker-1"))
    told = msgspec.json.decode((folder / "worker-1.lock").read_bytes())
    assert (told["instanceId"], told["pid"], told["startedAt"]) == ("worker-1", os.getpid(), "2026-01-01T00:00:00Z")
    held.release(remove=True)
    assert list(folder.iterdir()) == []


def test_another_process_cannot_hold_the_same_id(folder: Path) -> None:
    with holding(folder, "worker-1") as process:
        with pytest.raises(DuplicateInstance, match=f"live process {process.pid}") as caught:
            Presence.take(folder, card("worker-1"))
        assert (caught.value.pid, caught.value.instance_id) == (process.pid, "worker-1")


def test_one_process_shares_the_lock_until_its_last_holder_lets_go(folder: Path) -> None:
    first, second = Presence.take(folder, card("worker-1")), Presence.take(folder, card("worker-1"))
    first.release(remove=True)
    assert is_alive(folder, "worker-1") is True
    second.release(remove=True)
    assert is_alive(folder, "worker-1") is None


def test_a_lock_whose_file_was_removed_is_taken_anew(folder: Path) -> None:
    held = Presence.take(folder, card("worker-1"))
    held.renew(card("worker-1"))
    (folder / "worker-1.lock").unlink()
    held.renew(card("worker-1"))
    assert is_alive(folder, "worker-1") is True
    (folder / "worker-1.lock").unlink()
    with holding(folder, "worker-1"), pytest.raises(DuplicateInstance):
        held.renew(card("worker-1"))
    held.release(remove=False)


def test_the_lock_of_a_killed_process_is_free_at_once(folder: Path) -> None:
    with holding(folder, "worker-1") as process:
        assert is_alive(folder, "worker-1") is True
        process.kill()
        process.wait()
        assert is_alive(folder, "worker-1") is False
    Presence.take(folder, card("worker-1")).release(remove=True)


def test_a_stopped_process_is_alive(folder: Path) -> None:
    with holding(folder, "worker-1") as process:
        process.send_signal(signal.SIGSTOP)
        assert is_alive(folder, "worker-1") is True


def test_looking_does_not_make_a_joiner_believe_in_a_rival(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "worker-1.lock").touch()
    descriptor = os.open(folder / "worker-1.lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(descriptor, fcntl.LOCK_UN))
    held = Presence.take(folder, card("worker-1"))
    assert is_alive(folder, "worker-1") is True
    held.release(remove=True)
    os.close(descriptor)


@pytest.mark.parametrize(
    "instance_id", ["a/b", "..", ".", "with space", "ウサギ", "x" * 300, "100%", "\n", "CON:1", "-rf", "é" * 90]
)
def test_any_text_is_an_id(folder: Path, instance_id: str) -> None:
    held = Presence.take(folder, card(instance_id))
    assert [path.parent for path in folder.iterdir()] == [folder]
    assert len(file_name(instance_id)) < 255
    assert is_alive(folder, instance_id) is True
    held.release(remove=True)


def test_long_ids_that_begin_alike_differ() -> None:
    assert file_name("x" * 300) != file_name("x" * 301)


@pytest.mark.parametrize("instance_id", ["", "a\0b", "\udc80"])
def test_what_is_no_text_is_no_id(folder: Path, instance_id: str) -> None:
    with pytest.raises(ConfigError, match="instanceId"):
        Presence.take(folder, card(instance_id))


def test_a_damaged_file_is_reported_and_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "worker-1.lock"
    path.write_bytes(b'{"instanceId": "wor')
    held = Presence.take(folder, card("worker-1"))
    assert "worker-1.lock was damaged" in caplog.text
    assert [p.read_bytes() for p in folder.glob("worker-1.corrupt-*")] == [b'{"instanceId": "wor']
    assert [p.stat().st_mode & 0o777 for p in folder.glob("worker-1.corrupt-*")] == [0o600]
    assert read_card(path) == card("worker-1")
    held.release(remove=True)


def test_a_damaged_file_of_a_live_process_only_hides_its_pid(folder: Path) -> None:
    with holding(folder, "worker-1"):
        (folder / "worker-1.lock").write_bytes(b"\xff\xfe")
        with pytest.raises(DuplicateInstance, match="live process 0"):
            Presence.take(folder, card("worker-1"))


def test_a_forked_child_does_not_keep_its_parents_lock(folder: Path) -> None:
    """The parent lets go while its child lives on."""
    held = Presence.take(folder, card("worker-1"))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0 if is_alive(folder, "worker-1") is False else 1)
    held._holders = 1
    os.close(held._descriptor)  # as if the process had died: nothing is unlocked by hand
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    del presence._held[held.path]


def test_processes_that_see_each_others_locks_are_on_one_machine(tmp_path: Path) -> None:
    one, other = instances_folder(tmp_path / "one"), instances_folder(tmp_path / "other")
    assert machine_of(one) == machine_of(one)
    assert machine_of(one) != machine_of(other)


# --- the lookout -----------------------------------------------------------------------------------------------


def seen(folder: Path, lookout: Lookout) -> list[str]:
    return [trace.name for trace in lookout.look()]


def test_only_the_dead_are_seen(folder: Path) -> None:
    lookout = Lookout(folder, "store", interval=0)
    mine = Presence.take(folder, card("mine"))
    with holding(folder, "alive"), holding(folder, "dead") as dying:
        assert seen(folder, lookout) == []
        dying.kill()
        dying.wait()
        assert seen(folder, lookout) == ["dead.lock"]
    mine.release(remove=True)


def test_a_death_is_dealt_with_once_and_its_file_goes_with_the_store_it_names(folder: Path) -> None:
    ours, theirs = (Lookout(folder, store, interval=0) for store in ("ours", "theirs"))
    for store in ("ours", "theirs"):
        Presence.take(folder, card(f"of-{store}", store)).release(remove=False)
    for lookout, left in ((ours, ["of-theirs.lock"]), (theirs, [])):
        for trace in lookout.look():
            lookout.done(trace, known=True)
        assert seen(folder, lookout) == []
        assert [path.name for path in folder.glob(f"*{SUFFIX}")] == left


def test_a_file_is_as_old_as_the_last_beat(folder: Path) -> None:
    """One that ran for hours and has just died is still left to the store it names."""
    lookout = Lookout(folder, "ours", interval=0)
    held = Presence.take(folder, card("worker-1", "theirs"))
    os.utime(held.path, (0, 0))
    held.renew(card("worker-1", "theirs"))
    held.release(remove=False)
    (trace,) = lookout.look()
    lookout.done(trace, known=True)
    assert held.path.exists()


def test_the_next_death_of_an_instance_is_seen_again(folder: Path) -> None:
    lookout = Lookout(folder, "store", interval=0)
    for _ in range(2):
        Presence.take(folder, card("worker-1")).release(remove=False)
        (trace,) = lookout.look()
        lookout.done(trace, known=True)
        assert lookout.look() == []


def test_the_file_of_somebody_who_came_back_stays(folder: Path) -> None:
    lookout = Lookout(folder, "store", interval=0)
    Presence.take(folder, card("worker-1")).release(remove=False)
    (trace,) = lookout.look()
    back = Presence.take(folder, card("worker-1"))
    lookout.done(trace, known=True)
    assert is_alive(folder, "worker-1") is True
    back.release(remove=True)


def test_what_nobody_knows_is_removed_after_an_hour(folder: Path) -> None:
    lookout = Lookout(folder, "store", interval=0)
    Presence.take(folder, card("worker-1")).release(remove=False)
    path = folder / "worker-1.lock"
    long_ago = path.stat().st_mtime - FORGOTTEN_AFTER - 1
    os.utime(path, (long_ago, long_ago))
    (trace,) = lookout.look()
    lookout.done(trace, known=True)
    assert not path.exists()


def test_a_server_may_get_the_join_of_the_dead_later(folder: Path) -> None:
    """Who was killed right after he had asked to join is in the registry only then: his file tells of his end."""
    address = "redis://cache:6379"
    lookout = Lookout(folder, address, interval=0)
    Presence.take(folder, card("worker-1", address)).release(remove=False)
    (trace,) = lookout.look()
    lookout.done(trace, known=False)
    assert lookout.look() == [trace], "to be looked up again"
    long_ago = (folder / trace.name).stat().st_mtime - ON_ITS_WAY - 1
    os.utime(folder / trace.name, (long_ago, long_ago))
    (trace,) = lookout.look()
    lookout.done(trace, known=False)
    assert not (folder / trace.name).exists()


def test_who_had_not_joined_yet_or_left_already_leaves_no_file(folder: Path) -> None:
    lookout = Lookout(folder, "store", interval=0)
    Presence.take(folder, card("worker-1", "store")).release(remove=False)
    (trace,) = lookout.look()
    lookout.done(trace, known=True)
    assert not (folder / "worker-1.lock").exists()


def test_what_is_no_file_is_no_instance(folder: Path) -> None:
    (folder / "folder.lock").mkdir()
    (folder / "link.lock").symlink_to(folder)
    os.mkfifo(folder / "pipe.lock")
    assert seen(folder, Lookout(folder, "store", interval=0)) == []


def test_a_damaged_file_of_the_dead_is_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "worker-1.lock").write_bytes(b"not json")
    lookout = Lookout(folder, "store", interval=0)
    (trace,) = lookout.look()
    lookout.done(trace, known=True)
    assert "damaged" in caplog.text
    assert [path.suffix for path in folder.iterdir() if path.name.startswith("worker")] != [SUFFIX]


def test_processes_of_one_store_share_the_looking(folder: Path) -> None:
    first, second = Lookout(folder, "store", interval=3600), Lookout(folder, "store", interval=3600)
    elsewhere = Lookout(folder, "another store", interval=3600)
    Presence.take(folder, card("dead")).release(remove=False)
    assert seen(folder, first) == ["dead.lock"]
    assert seen(folder, second) == []
    assert seen(folder, elsewhere) == ["dead.lock"]
