"""What can go wrong around running processes: each time the others go on, and what is wrong is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.looking import names, node, waiting
from tests.processes import runtime_parts as parts
from tests.processes.runtime_herd import Herd, move_away, take_away
from tests.processes.runtime_parts import account

import cross_instance
from cross_instance import ConfigError, RateLimitExceeded, Runtime, StoreUnavailable
from cross_instance.errors import StoreFull
from cross_instance.rules.operations import MINUTE, Instant, LimitState, Snapshot
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.stores.environment import machine_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

NOBODY = 65_534
GUARD = 1
"""How much of a burst stays unspent (law 2)."""


def runtime_in(folder: Path, settings: dict[str, Any], name: str = "tester") -> Runtime:
    return Runtime(name, settings=parts.settings_for(str(folder), settings))


def slots(runtime: Runtime) -> LimitState:
    return node(runtime).limits[-1]


def holder(herd: Herd, folder: Path, name: str) -> int:
    """A process that holds a permit."""
    pid = herd.start(parts.puppet, folder=folder, settings=account(1), name=name)
    herd.tell(pid, "take acme")
    herd.hear("took", pid)
    return pid


# --- the folder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [take_away, move_away])
def test_everybody_joins_anew_where_the_folder_is_gone(
    tmp_path: Path, herd: Herd, lose: Callable[[Path], object]
) -> None:
    with runtime_in(tmp_path, account(1)) as runtime:
        waiter = herd.start(parts.puppet, folder=tmp_path, settings=account(1), name="waiter")
        with runtime.permit("acme", "m-1"):
            herd.tell(waiter, "take acme")
            herd.until(lambda: waiting(runtime) == 1)
            lose(tmp_path / "runtime")
            herd.hear("took", waiter)
            herd.until(lambda: waiting(runtime) == 0)  # it is where the waiter is: there nobody waits
        herd.kill(waiter)
        with runtime.permit("acme", "m-1"):
            assert names(runtime) == ["tester"]
        assert "was removed while in use" in herd.complaints()


@pytest.mark.parametrize("lose", [take_away, move_away])
def test_numbers_are_never_given_twice_although_the_folder_is_gone(
    tmp_path: Path, herd: Herd, lose: Callable[[Path], object]
) -> None:
    with runtime_in(tmp_path, account(1)) as runtime:
        lose(tmp_path / "runtime")
        holder(herd, tmp_path, "newcomer")
        herd.until(lambda: "newcomer" in names(runtime))
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m-1", timeout=0).acquire()


def test_junk_beside_and_inside_the_instances_files_hides_no_death(tmp_path: Path, herd: Herd) -> None:
    with runtime_in(tmp_path, account(1)) as runtime:
        pid = holder(herd, tmp_path, "holder")
        folder = tmp_path / "runtime" / "instances"
        (folder / "holder.lock").write_bytes(os.urandom(5_000))
        (folder / "junk.lock").write_bytes(b"{")
        (folder / "empty.lock").touch()
        (folder / "folder.lock").mkdir()
        (folder / "link.lock").symlink_to("/etc/passwd")
        os.mkfifo(folder / "pipe.lock")
        herd.kill(pid)
        with runtime.permit("acme", "m-1"):
            assert names(runtime) == ["tester"]
        with pytest.raises(StoreUnavailable, match=r"folder\.lock cannot be used"):
            runtime_in(tmp_path, account(1), "folder").join()


def test_another_user_is_refused_with_the_way_out(tmp_path: Path, herd: Herd) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    with runtime_in(tmp_path, account(1)):
        stranger = herd.start(parts.stranger, folder=tmp_path, settings=account(1), user=NOBODY)
        error, *text = herd.hear("refused", stranger).rest
        assert error == "StoreUnavailable"
        assert "PI_RUNTIME_DIR" in " ".join(text)
        assert herd.end(stranger) == 0


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """A file system with room for one store and little more."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_nobody_who_has_joined(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk, runtime_in(disk, account(1)) as runtime:
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(filler, bytes(4096)):
                pass
        for _ in range(100):
            runtime.permit("acme", "m-1", timeout=0).acquire().close()
        with pytest.raises(StoreFull, match="no room"):
            runtime_in(disk, account(1), "second").join()
        os.ftruncate(filler, 0)
        os.close(filler)
        with runtime_in(disk, account(1), "second"):
            assert names(runtime) == ["tester", "second"]


# --- other settings, other versions, other times ---------------------------------------------------------------


def test_the_strictest_settings_hold_while_their_process_lives(tmp_path: Path, herd: Herd) -> None:
    with runtime_in(tmp_path, account(3)) as runtime:
        runtime.permit("acme", "m-1").acquire().close()
        assert slots(runtime).amount == 3
        pid = holder(herd, tmp_path, "strict")
        assert slots(runtime).amount == 1
        assert any("acme/default" in notice.text for node in runtime.run(Snapshot()).nodes for notice in node.notices)
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m-1", timeout=0).acquire()
        herd.kill(pid)
        with runtime.permit("acme", "m-1"), runtime.permit("acme", "m-1"), runtime.permit("acme", "m-1"):
            assert slots(runtime).amount == 3


def test_wrong_settings_stop_only_who_has_them(tmp_path: Path) -> None:
    with runtime_in(tmp_path, account(1)) as runtime:
        config = tmp_path / ".pi" / "config.json"
        config.parent.mkdir()
        config.write_text('{"crossInstance": {"providers": {"acme": {"concurrency": 0}}}}')
        with pytest.raises(ConfigError, match=r"config\.json.*concurrency"):
            runtime_in(tmp_path, {}, "wrong")
        runtime.permit("acme", "m-1", timeout=0).acquire().close()
        assert names(runtime) == ["tester"]


def test_two_versions_share_the_limits(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(cross_instance.__file__).parent, other / "cross_instance")
    (other / "cross_instance" / "_version.py").write_text('"""Another version."""\n\n__version__ = "99.0"\n')
    with Herd(other) as herd, runtime_in(tmp_path, account(1)) as runtime:
        pid = holder(herd, tmp_path, "newer")
        versions = [instance.version for instance in runtime.run(Snapshot()).instances]
        assert versions == [cross_instance.__version__, "99.0"]
        with pytest.raises(RateLimitExceeded):
            runtime.permit("acme", "m-1", timeout=0).acquire()
        herd.tell(pid, "give acme")
        runtime.permit("acme", "m-1").acquire().close()


@pytest.mark.parametrize("jump", [-MINUTE * 60 * 24 * 400, MINUTE * 60 * 24 * 400])
def test_a_wall_clock_that_jumps_gives_nothing_away_and_takes_nothing(tmp_path: Path, jump: int) -> None:
    jumped = 0

    def clock() -> Instant:
        at = machine_clock()
        return Instant(at.mono, at.wall + jumped)

    store = EmbeddedStore(tmp_path / "runtime", clock=clock)
    settings = parts.settings_for(str(tmp_path), {"providers": {"acme": {"requestsPerMinute": 1, "burst": GUARD + 2}}})
    with Runtime("tester", store=store, settings=settings) as runtime:
        runtime.permit("acme", "m-1", timeout=0).acquire().close()
        jumped = jump
        runtime.permit("acme", "m-1", timeout=0).acquire().close()
        jumped = 0
        with pytest.raises(RateLimitExceeded) as refused:
            runtime.permit("acme", "m-1", timeout=0).acquire()
        assert 0 < refused.value.retry_after <= 120
        assert names(runtime) == ["tester"]
    store.close()
