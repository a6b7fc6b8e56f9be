"""One environment for each process and folder, however many stores: LMDB must not open a file twice.

1. Whoever opens a store shares the environment; the last who closes one closes it.
2. A fork waits until no thread is inside an operation. The child closes its copies and starts without any.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from cross_instance.stores.environment import Environment

if TYPE_CHECKING:
    from pathlib import Path

_guard = threading.RLock()
_environments: dict[Path, Environment] = {}
"""By their folders, in full and without links: the process may go elsewhere, and has several names for one."""
_held: list[Environment] = []


def share(folder: Path, patience: float) -> Environment:
    """The environment of a folder; opens it where this process has not. Raises `StoreUnavailable`."""
    key = folder.resolve()
    with _guard:
        environment = _environments.get(key)
        if environment is None:
            environment = _environments[key] = Environment(key, patience)
        environment.users += 1
        return environment


def give_back(environment: Environment) -> None:
    """End one use of an environment."""
    with _guard:
        environment.users -= 1
        if environment.users:
            return
        for key, known in list(_environments.items()):
            if known is environment:
                del _environments[key]
    environment.close()


def _before_fork() -> None:
    _guard.acquire()
    _held.extend(environment for environment in _environments.values() if environment.hold())


def _after_fork() -> None:
    while _held:
        _held.pop().let_go()
    _guard.release()


def _after_fork_in_child() -> None:
    for environment in _environments.values():
        environment.abandon()
    _environments.clear()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
