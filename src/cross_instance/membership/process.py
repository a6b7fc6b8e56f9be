"""The memberships of this process: one for each identity, however many runtimes name it.

1. While a membership has users, its settings hold; who comes with others is told so.
2. At the end of the process every instance leaves. A forked child forgets what belongs to its parent.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from cross_instance.events import SETTINGS_IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.config import LiveSettings
    from cross_instance.membership.membership import Membership


class Identity(NamedTuple):
    """What makes two runtimes of one process the same instance."""

    runtime_dir: str
    address: str
    instance_id: str


def make_instance_id(session_id: str = "") -> str:
    """An id no other process has: the session's first 8 characters, the pid, and a part that sorts by time."""
    moment = f"{time.time_ns() // 1_000_000:011x}"
    return f"{(session_id or 'session')[:8]}-{os.getpid()}-{moment}{secrets.token_hex(4)}"


_shared: WeakValueDictionary[Identity, Membership] = WeakValueDictionary()
_sharing = threading.Lock()


def share(identity: Identity, live: LiveSettings, make: Callable[[], Membership]) -> Membership:
    """The one membership of this process with this identity; while it has no user, the newest settings hold."""
    with _sharing:
        found = _shared.get(identity)
        if found is None:
            found = _shared[identity] = make()
        elif not found.users:
            found.live = live
        elif found.settings != live.settings:
            text = f"instance {identity.instance_id} is in use with other settings in this process; those hold"
            found.events.tell(SETTINGS_IGNORED, text, settings=[])
        return found


def _leave_all() -> None:
    for membership in list(_shared.values()):
        membership.quit()


def _become_children() -> None:
    global _sharing  # a thread that does not exist in the child may have held it
    _sharing = threading.Lock()
    for membership in list(_shared.values()):
        membership.become_child()


atexit.register(_leave_all)
os.register_at_fork(after_in_child=_become_children)
