"""The folder of the embedded store: private, local, and nobody else's."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from cross_instance.errors import ConfigError, StoreUnavailable
from cross_instance.rules.operations import Join, Snapshot
from cross_instance.stores import folder as folders
from cross_instance.stores.embedded import AsyncEmbeddedStore, EmbeddedStore
from cross_instance.stores.urls import open_async_store, open_store


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_it_is_made_for_its_owner_only_with_everything_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    store = EmbeddedStore(folder)
    store.run(Join("one", "nonce", 1, "machine", "host"))
    assert mode_of(folder) == mode_of(folder / folders.WAKE) == 0o700
    files = [path for path in folder.rglob("*") if not path.is_dir() and not path.is_symlink()]
    assert len(files) == 4  # gate, coordination, durable, pipe
    assert {mode_of(path) for path in files} == {0o600}
    store.close()


@pytest.mark.parametrize("content", [[], ["instances"], [folders.GATE, "something"]])
def test_a_folder_of_ours_that_is_too_open_is_mended(tmp_path: Path, content: list[str]) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    for name in content:
        (folder / name).touch()
    folder.chmod(0o775)
    EmbeddedStore(folder).close()
    assert mode_of(folder) == 0o700


@pytest.mark.parametrize(("mode", "content"), [(0o755, ["thesis.tex"]), (0o1777, []), (0o1777, [folders.GATE])])
def test_an_open_folder_that_serves_others_is_left_as_it_is(tmp_path: Path, mode: int, content: list[str]) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in content:
        (folder / name).touch()
    folder.chmod(mode)
    with pytest.raises(StoreUnavailable, match="PI_RUNTIME_DIR"):
        EmbeddedStore(folder)
    assert mode_of(folder) == mode
    assert sorted(path.name for path in folder.iterdir()) == sorted(content)


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = Path("/")
    if os.geteuid() == 0:
        folder = tmp_path / "theirs"
        folder.mkdir(mode=0o700)
        os.chown(folder, 65_534, -1)
    with pytest.raises(StoreUnavailable, match="belongs to the user with id"):
        EmbeddedStore(folder)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="is not a folder"):
        EmbeddedStore(tmp_path / "file")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        EmbeddedStore(tmp_path / "file" / "below")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(folders, "filesystem_of", lambda _: kind)
    with pytest.raises(StoreUnavailable, match=rf"network file system \({kind}\).*PI_RUNTIME_DIR.*local"):
        EmbeddedStore(tmp_path / "remote")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuse.gocryptfs", ""])
def test_local_file_systems_are_used_known_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(folders, "filesystem_of", lambda _: kind)
    store = EmbeddedStore(tmp_path / "local")
    assert store.run(Snapshot()).instances == ()
    store.close()


def test_the_system_tells_the_type_of_a_file_system() -> None:
    assert folders.filesystem_of(Path("/")) not in {"", *folders.NETWORK}


def test_mountinfo_is_read_with_its_escapes_and_optional_fields() -> None:
    text = (
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "31 22 0:27 / /home/my\\040files rw,nosuid shared:5 master:2 - nfs4 server:/export rw,vers=4.2\n"
    )
    assert folders.read_mountinfo(text) == [("/", "ext4"), ("/home/my files", "nfs4")]


def test_what_macos_does_not_call_local_is_a_network_file_system() -> None:
    text = (
        "/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n"
        "//ann@server/on (shared) on /Volumes/on (shared) (smbfs, nodev, nosuid, mounted by ann)\n"
    )
    assert folders.read_mount(text) == [("/", "apfs"), ("/Volumes/on (shared)", "nfs")]


def test_what_earlier_boots_left_is_removed_unread(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path / "store").close()
    folder = tmp_path / "store"
    old = [folder / f"{folders.COORDINATION}an-earlier-boot.mdb{suffix}" for suffix in ("", ".damaged-1")]
    later_layout = folder / "coordination-v999-an-earlier-boot.mdb"
    for path in (*old, later_layout):
        path.write_bytes(b"not a database")
    EmbeddedStore(folder).close()
    assert not any(path.exists() for path in old)
    assert later_layout.exists()
    assert folders.coordination_path(folder).exists()


def test_an_address_is_a_folder(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    assert isinstance(store, EmbeddedStore)
    assert isinstance(open_async_store(tmp_path / "store"), AsyncEmbeddedStore)
    store.close()


@pytest.mark.parametrize("address", ["redis+tls://:secret@localhost", "http://host:8765"])
def test_an_address_of_another_form_is_refused_without_showing_it(address: str) -> None:
    scheme = address.partition(":")[0]
    with pytest.raises(ConfigError, match=f"{re.escape(scheme)}:// address is not supported") as caught:
        open_store(address)
    assert address not in str(caught.value)
