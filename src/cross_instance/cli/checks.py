"""The doctor's checks, each a function of what it looks at that gives its findings.

1. A check says what it found and, unless all is well, how to mend it.
2. Nothing is made or mended: a store is looked at by the laws of `looking`, after its folder was found in order.
3. A check whose ground is missing (no store, since its folder cannot be used) is left out: the cause was told.
"""

from __future__ import annotations

import os
import platform
import stat
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cross_instance._version import __version__
from cross_instance.cli.looking import look, notices_of
from cross_instance.config import load_settings, without_password
from cross_instance.errors import ConfigError, StoreBusy, StoreUnavailable
from cross_instance.membership.lookout import is_alive
from cross_instance.membership.presence import SUFFIX, read_card, this_boot
from cross_instance.rules.operations import SECOND
from cross_instance.stores.folder import NETWORK, WAY_OUT, filesystem_of, may_be_closed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.config import Settings
    from cross_instance.membership.presence import Card
    from cross_instance.rules.operations import World

Level = Literal["ok", "warn", "fail"]

SDKS = {"openai": ((2, "httpx"), (3, "httpx2")), "anthropic": ((0, "httpx"), (1, "httpx2")), "google-genai": ()}
"""From which major on an SDK takes clients of which library (provider SDKs' own requirements)."""

BUILT = 1_700_000_000
"""A Unix time before this package was made: a clock that shows less is not set."""
MOST_NAMED = 5
"""Instances that a finding names."""
SKEW = 2 * SECOND
"""µs that the store's clock may differ from this machine's."""


class Check(NamedTuple):
    """One finding; `mend` says what to do about it."""

    name: str
    level: Level
    finding: str
    mend: str = ""


def every(store: str | None = None) -> Iterator[Check]:
    """All checks, in the order in which one rests on the other; `store` in place of the one that is set."""
    yield _system()
    yield from _sdks()
    try:
        settings = load_settings() if store is None else load_settings(store=store)
    except ConfigError as error:
        yield Check("configuration", "fail", str(error), "see docs/reference/configuration.md for what is accepted")
        return
    yield from _configuration(settings)
    folder = list(_folder(settings.runtime_dir))
    yield from folder
    if all(check.level != "fail" for check in folder):
        yield from _elsewhere(settings)
    if settings.store is None and any(check.name == "folder" and check.level != "ok" for check in folder):
        return
    yield from _store(settings)


def _system() -> Check:
    name = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return Check("system", "ok", f"{name}, cross-instance-runtime {__version__}")


def _sdks() -> Iterator[Check]:
    found = {name: version for name in (*SDKS, "httpx", "httpx2") if (version := _installed(name))}
    sdks = {name: found[name] for name in SDKS if name in found}
    if not sdks:
        yield Check("sdks", "ok", "none installed; permit() works without one")
    for name, version in sdks.items():
        needed = [library for major, library in SDKS[name] if _major(version) >= major][-1:]
        missing = [library for library in needed if library not in found]
        if missing:
            mend = f"install the package with its extra `{missing[0]}`"
            yield Check("sdks", "warn", f"{name} {version} without {missing[0]}: http_client() cannot serve it", mend)
        else:
            yield Check("sdks", "ok", f"{name} {version}{''.join(f', with {library}' for library in needed)}")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdecimal() else 0


def _configuration(settings: Settings) -> Iterator[Check]:
    origins = {entry.origin.rsplit(":", 1)[0] if "/" in entry.origin else entry.origin for entry in settings.entries()}
    sources = sorted(origins - {"default", "preset", "guess"})
    yield Check("configuration", "ok", f"from {', '.join(sources)}" if sources else "nothing is set: defaults")
    idle = sorted({entry.key.partition(".")[0] for entry in settings.entries() if entry.reserved})
    if idle:
        yield Check("configuration", "ok", f"this version does not act on {', '.join(idle)}, whatever they say")
    for entry in settings.reserved():
        mend = "none needed: this version accepts it and does not act on it"
        yield Check("configuration", "warn", f"{entry.place} has no effect", mend)
    if not settings.enabled:
        origin = settings.origin_of("enabled")
        yield Check("configuration", "warn", f"coordination is switched off ({origin})", "set enabled to true")


def _folder(folder: Path) -> Iterator[Check]:
    """Whether the runtime folder can be used, or made."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        yield from _parent(folder)
        return
    except OSError as error:
        yield Check("folder", "fail", f"{folder} cannot be reached: {error.strerror}", WAY_OUT)
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Check("folder", "fail", f"{folder} is not a folder", WAY_OUT)
    elif found.st_uid != os.geteuid():
        yield Check("folder", "fail", f"{folder} belongs to the user with id {found.st_uid}", WAY_OUT)
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Check("folder", "fail", f"{folder} cannot be read and written", f"chmod 700 {folder}")
    else:
        yield _mode(folder, found.st_mode)
        yield from _file_system(folder)
        yield from _damaged(folder)


def _parent(folder: Path) -> Iterator[Check]:
    """Whether a folder that does not exist can be made."""
    parent = next(path for path in folder.parents if path.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        yield Check("folder", "ok", f"{folder} will be made at the first use")
    else:
        yield Check("folder", "fail", f"{folder} cannot be made: {parent} is not writable", WAY_OUT)
    yield from _file_system(parent)


def _mode(folder: Path, mode: int) -> Check:
    if mode & 0o077:
        return _open_to_others(folder, mode)
    return Check("folder", "ok", f"{folder}, mode 700")


def _open_to_others(folder: Path, mode: int) -> Check:
    """The store closes a folder of its own; it leaves others as they are, and refuses them."""
    names = {path.name for path in folder.iterdir()}
    finding = f"{folder} is open to others (mode {stat.S_IMODE(mode):o})"
    if not may_be_closed(mode, names):
        return Check("folder", "fail", f"{finding} and holds other things", WAY_OUT)
    return Check("folder", "warn", finding, f"it is closed at the next use; now: chmod 700 {folder}")


def _file_system(folder: Path) -> Iterator[Check]:
    kind = filesystem_of(folder)
    if kind in NETWORK:
        yield Check("file system", "fail", f"{folder} is on a network file system ({kind})", WAY_OUT)
    else:
        yield Check("file system", "ok", kind or "of unknown type")


def _damaged(folder: Path) -> Iterator[Check]:
    """What was set aside, by the processes that met it."""
    mend = "nothing rests on them: look what wrote there, then remove them"
    for name, pattern in (("instances", "instances/*.corrupt-*"), ("store", "*.damaged-*")):
        aside = sorted(folder.glob(pattern))
        if aside:
            what = "instance files" if name == "instances" else "files of the store"
            yield Check(name, "warn", f"{len(aside)} damaged {what} were set aside, the last one is {aside[-1]}", mend)


def _elsewhere(settings: Settings) -> Iterator[Check]:
    """Live instances of this machine that share their limits at another store."""
    others = [card for card in _living(settings) if card.store not in {"", address_of(settings)}]
    if others:
        finding = ", ".join(f"{card.instance_id} ({card.store})" for card in others[:MOST_NAMED])
        mend = "where they use the same accounts, give all processes the same store (PI_STORE)"
        yield Check("instances", "warn", f"{len(others)} live here at another store: {finding}", mend)


def _apart(settings: Settings, world: World | None) -> Iterator[Check]:
    """Live instances of this machine that say to be at this store, and are not in what this version reads of it."""
    known = {instance.instance_id for instance in world.instances} if world is not None else set()
    cards = [card for card in _living(settings) if card.store == address_of(settings)]
    others = [card for card in cards if card.instance_id not in known]
    if others:
        named = ", ".join(f"{card.instance_id} (version {card.version})" for card in others[:MOST_NAMED])
        mend = "if it stays so: another version keeps its own records and takes the whole limit again; run one version"
        yield Check("instances", "warn", f"{len(others)} live here at this store, not in its records: {named}", mend)


def _living(settings: Settings) -> Iterator[Card]:
    """What the live instances of this machine tell of themselves."""
    folder = settings.runtime_dir / "instances"
    cards = (card for path in sorted(folder.glob(f"*{SUFFIX}")) if (card := read_card(path)) is not None)
    return (card for card in cards if is_alive(folder, card.instance_id))


def address_of(settings: Settings) -> str:
    """The store's address as instances tell it."""
    address = settings.store or str(settings.runtime_dir)
    return without_password(address) if "://" in address else str(Path(address).resolve())


def _store(settings: Settings) -> Iterator[Check]:
    address = without_password(settings.store or str(settings.runtime_dir))
    try:
        begun = time.time_ns()
        world = look(settings)
    except StoreBusy as error:
        mend = (
            f"let it go on (kill -CONT {error.pid}) or end it"
            if error.pid
            else "try again, or start fewer processes at a time"
        )
        yield Check("store", "fail", str(error), mend)
    except (StoreUnavailable, ConfigError) as error:
        yield Check("store", "fail", str(error), "what it says; then run this again")
    else:
        if world is None:
            yield Check("store", "ok", f"{address} is not in use yet")
            yield from _apart(settings, world)
            yield from _clock(time.time_ns() // 1000)
            return
        held = (time.time_ns() - begun) / 1e6
        yield Check("store", "ok", f"{address}, opened and read in {held:.0f} ms, {len(world.instances)} instances")
        if settings.store is not None and "://" in settings.store:
            yield from _server(settings.store)
        yield from _clock(world.at.wall)
        yield from _beats(world)
        yield from _files(settings, world)
        yield from _apart(settings, world)
        yield from _notices(world)
        yield from _limits(settings, world)


def _limits(settings: Settings, world: World) -> Iterator[Check]:
    from cross_instance.cli.limit_checks import findings

    yield from findings(settings, world)


def _server(url: str) -> Iterator[Check]:
    from cross_instance.cli.server_checks import findings  # needs the extra `redis`

    try:
        yield from findings(url)
    except (StoreUnavailable, ConfigError) as error:
        yield Check("server", "fail", str(error), "what it says; then run this again")


def _clock(store_wall: int) -> Iterator[Check]:
    """Wall time dates what is learned and daily limits; decisions within a boot do not rest on it."""
    now = time.time_ns() // 1000
    if now < BUILT * SECOND:
        yield Check("clock", "fail", "this machine's clock is not set", "set it, by NTP best")
    elif abs(now - store_wall) > SKEW:
        finding = f"this machine's clock is {(now - store_wall) / SECOND:+.1f} s off the store's"
        yield Check("clock", "warn", finding, "set both by NTP")
    else:
        yield Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now / SECOND)))


def _beats(world: World) -> Iterator[Check]:
    ahead = [instance.instance_id for instance in world.instances if instance.beat_at > world.at.wall + SKEW]
    if ahead:
        yield Check("clock", "warn", f"the clock was set back since {', '.join(ahead)} last beat", "none needed")


def _files(settings: Settings, world: World) -> Iterator[Check]:
    """Whether each instance of this machine has the file by which others see that it lives."""
    folder = settings.runtime_dir / "instances"
    ours = [instance.instance_id for instance in world.instances if instance.machine.startswith(this_boot())]
    missing = [name for name in ours if is_alive(folder, name) is None]
    if missing:
        finding = f"{', '.join(missing)} without a file in {folder}: was the folder removed? Then a permit held before"
        mend = "each process writes its own again at its next beat; leave the folder alone while any runs"
        yield Check("instances", "warn", f"{finding} may not be counted", mend)


def _notices(world: World) -> Iterator[Check]:
    for notice in notices_of(world):
        mend = "make the configuration of all processes the same" if "conflict" in notice.topic else ""
        yield Check("notice", "warn", f"{notice.topic}: {notice.text}", mend)
