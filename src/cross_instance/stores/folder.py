"""The folder of the embedded store: private, on a local file system, its files named after layout and boot.

1. The folder belongs to the user who runs the process and is open to nobody else. A folder of our own that is too
   open is mended; one that holds other things, or is another's, is refused and left as it was.
2. A network file system is refused: memory maps and file locks do not work across machines.
3. The layout's version is in the names of the files, so two versions of the package never read each other's; the
   coordination file also carries the boot, for nothing in it makes sense after one.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cross_instance.errors import StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger("cross_instance")

LAYOUT = "v2"
GATE = f"gate-{LAYOUT}"
WAKE = f"wake-{LAYOUT}"
DURABLE = f"durable-{LAYOUT}.mdb"
COORDINATION = f"coordination-{LAYOUT}-"
OURS = frozenset({GATE, WAKE, DURABLE, "instances"})
"""Names by which a folder is known to be one of ours; other modules keep `instances` there."""

NETWORK = frozenset(
    {
        "9p",
        "acfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "gfs",
        "gfs2",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs3",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
        "virtiofs",
        "webdav",
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.ceph",
        "fuse.cephfs",
        "fuse.curlftpfs",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.grpcfuse",
        "fuse.juicefs",
        "fuse.moosefs",
        "fuse.mfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.smbnetfs",
        "fuse.sshfs",
        "fuse.virtiofs",
        "fuse.webdavfs",
    }
)
"""Types of file systems whose files other machines may change, as /proc/self/mountinfo names them."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The ways in which a system says that there is no room: the disk, the user's quota, the process's limit."""

WAY_OUT = "set PI_RUNTIME_DIR to a folder of its own on a local disk"


def prepare(folder: Path) -> str:
    """Make the folder private, and check that it is local; the type of its file system.

    Raises `StoreUnavailable` with the way out where the folder cannot be used.
    """
    make_private(folder)
    kind = filesystem_of(folder)
    if kind in NETWORK:
        raise StoreUnavailable(f"{folder} is on a network file system ({kind}); {WAY_OUT}")
    return kind


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can enter, or check and mend the one that is there (law 1).

    Raises `StoreUnavailable` with the way out where it is another's, or holds other things and is open to others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except FileExistsError as error:
        raise StoreUnavailable(f"{folder} is not a folder; {WAY_OUT}") from error
    except OSError as error:
        raise StoreUnavailable(f"{folder} cannot be made: {error.strerror}; {WAY_OUT}") from error
    if found.st_uid != os.geteuid():
        raise StoreUnavailable(
            f"{folder} belongs to the user with id {found.st_uid}, this process runs as {os.geteuid()}; {WAY_OUT}"
        )
    if found.st_mode & 0o077:
        _mend(folder, found.st_mode)


def may_be_closed(mode: int, names: Collection[str]) -> bool:
    """Whether a folder that is open to others is one of ours, or empty, and nobody shares it on purpose (sticky)."""
    return not mode & stat.S_ISVTX and (not names or not OURS.isdisjoint(names))


def _mend(folder: Path, mode: int) -> None:
    names = {path.name for path in folder.iterdir()}
    if not may_be_closed(mode, names):
        raise StoreUnavailable(
            f"{folder} is open to other users (mode {stat.S_IMODE(mode):o}) and holds other things; {WAY_OUT}"
        )
    try:
        folder.chmod(0o700)
    except OSError as error:
        raise StoreUnavailable(f"{folder} is open to other users: {error.strerror}; {WAY_OUT}") from error
    if names - {"instances"}:
        log.warning("the folder %s was open to other users (mode %o); it no longer is", folder, stat.S_IMODE(mode))


def filesystem_of(folder: Path) -> str:
    """The type of the file system that holds a folder, as mountinfo names it ("" where it cannot be told)."""
    path = os.path.realpath(folder)
    best, kind = "", ""
    for point, found in _mounts():
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def _mounts() -> list[tuple[str, str]]:
    if sys.platform == "darwin":
        return read_mount(subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False).stdout)
    try:
        return read_mountinfo(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
    except OSError:
        return []


def read_mountinfo(text: str) -> list[tuple[str, str]]:
    """Mount points and types of /proc/self/mountinfo (proc(5)); spaces and the like are octal escapes there."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        mounts.append((point, after.split(" ")[0]))
    return mounts


def read_mount(text: str) -> list[tuple[str, str]]:
    """The same of macOS's `mount`, which says of each whether it is local: `/dev/disk1s1 on / (apfs, local)`."""
    mounts = []
    for line in text.splitlines():
        match = re.fullmatch(r".* on (/.*) \((.*)\)", line)
        if match:
            kind, *options = match[2].split(", ")
            mounts.append((match[1], kind if "local" in options else "nfs"))
    return mounts


@cache
def boot_id() -> str:
    """What names this boot of the machine's kernel; "" where the system does not tell (other than Linux and macOS)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        pass  # not Linux
    try:
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=True
        )
        return asked.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def coordination_path(folder: Path) -> Path:
    """The file of everything that ends with this boot. Raises `StoreUnavailable` where no boot can be told."""
    if not boot_id():
        raise StoreUnavailable(
            "this system does not tell one boot from another; the embedded store needs Linux or macOS"
        )
    return folder / f"{COORDINATION}{boot_id()}.mdb"


def remove_earlier_boots(folder: Path) -> None:
    """Remove what earlier boots left, unread."""
    current = coordination_path(folder).name
    for path in folder.glob(f"{COORDINATION}*"):
        if not path.name.startswith(current):
            path.unlink(missing_ok=True)


def describe(error: OSError, path: Path) -> StoreUnavailable:
    """What an operating system's error on a file of the store means to people."""
    if error.errno in FULL:
        return StoreFull(f"there is no room for {path} ({error.strerror}); nothing was lost: free some and go on")
    return StoreUnavailable(f"{path} cannot be used: {error.strerror}; {WAY_OUT}")
