"""What the errors of servers and connections mean; the one place where they are translated.

1. A *passing* fault may be gone in a moment, and every operation may be sent twice: the call is repeated until its
   time is over. Others stay until somebody mends them, and are told at once.
2. Before a store has had its first answer, a fault of its settings (password, database, rights) is a `ConfigError`;
   afterwards somebody has changed the server, and it is a `StoreUnavailable`: what runs goes on trying.
3. Messages name the server without its password, and say what to do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from redis import exceptions

from cross_instance.errors import ConfigError, CrossInstanceError, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from cross_instance.stores.redis.servers import Target

ERRORS = (exceptions.RedisError, OSError)
"""What redis-py raises for everything that goes wrong with a server."""


class Meaning(NamedTuple):
    """What a code means. `elsewhere`: the server to ask may be another one by now."""

    says: str
    passing: bool = False
    elsewhere: bool = False
    error: type[CrossInstanceError] = StoreUnavailable


_WRONG_ACCOUNT = "it refuses the user or password: give them as redis://user:password@host, or set PI_STORE"
_NO_RIGHT = (
    "the user lacks a right: it needs +evalsha +script|load +publish +subscribe +time and the commands in the scripts "
    "(ACL: ~{cir:* &{cir:* +@read +@write +@scripting +@pubsub +@connection)"
)
_REPLICA = "it is a read-only replica; after a failover it takes a moment until the new primary is found"
_FULL = "it has reached its `maxmemory`: raise it, or keep this data apart from caches"

MEANINGS: dict[str, Meaning] = {
    "WRONGPASS": Meaning(_WRONG_ACCOUNT, error=ConfigError),
    "NOAUTH": Meaning("it wants a password: redis://:password@host", error=ConfigError),
    "NOPERM": Meaning(_NO_RIGHT, error=ConfigError),
    "DENIED": Meaning("it is in protected mode: set a password there, or let it listen on loopback", error=ConfigError),
    "DATABASE": Meaning("it has no such database; its `databases` setting says how many there are", error=ConfigError),
    "CERTIFICATE": Meaning(
        "its certificate is not trusted: name the authority's file, ?ssl_ca_certs=…", error=ConfigError
    ),
    "CROSSSLOT": Meaning("it is a Cluster that does not honour hash tags"),
    "WRONGTYPE": Meaning(
        "another program keeps something else under this namespace's keys: choose another one with ?namespace=NAME, "
        "or another database"
    ),
    "OOM": Meaning(_FULL, error=StoreFull),
    "MISCONF": Meaning("it cannot save to its disk and so refuses to write; its log says why", error=StoreFull),
    "READONLY": Meaning(_REPLICA, passing=True, elsewhere=True),
    "MASTERDOWN": Meaning(_REPLICA, passing=True, elsewhere=True),
    "LOADING": Meaning("it is still loading its data after a start", passing=True),
    "BUSY": Meaning("it is busy with somebody's script", passing=True),
    "NOREPLICAS": Meaning("too few of its replicas are connected (min-replicas-to-write)", passing=True),
    "CLUSTERDOWN": Meaning("the Cluster does not serve this namespace's slot at the moment", True, elsewhere=True),
    "MOVED": Meaning("the namespace's slot is served by another node", passing=True, elsewhere=True),
    "ASK": Meaning("the namespace's slot is being moved to another node", passing=True),
    "TRYAGAIN": Meaning("the namespace's slot is being moved to another node", passing=True),
    "CLIENTS": Meaning("it has reached its `maxclients`", passing=True),
    "UNBLOCKED": Meaning("its role has changed", passing=True, elsewhere=True),
    "NOSCRIPT": Meaning("it does not know the script", passing=True),
}
"""By the code that begins a server's error, and some of our own for errors without one."""

_CODE = re.compile(rf"\b({'|'.join(MEANINGS)})\b")
_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.NoScriptError, "NOSCRIPT"),
    (exceptions.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
)
"""redis-py takes the code off the text of these; a subclass stands before its base."""

_BY_TEXT = (
    (re.compile(r"DB index is out of range|invalid DB index|SELECT is not allowed|Invalid Database"), "DATABASE"),
    (re.compile(r"max number of clients"), "CLIENTS"),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED"), "CERTIFICATE"),
    (re.compile(r"Authentication required", re.IGNORECASE), "NOAUTH"),
)

_PREFIX = re.compile(r"^Error (-?\d+ )?(?=connecting|while)")
"""What redis-py writes in front of a cause; the text after it says the same for people."""
_MOVED_TO = re.compile(r"\d+ (?P<host>\S*):(?P<port>\d+)")


class Fault(NamedTuple):
    """An error with its meaning."""

    cause: BaseException
    code: str
    passing: bool
    elsewhere: bool

    def told(self, shown: str, *, proven: bool) -> CrossInstanceError:
        """The error for callers; `shown` names the server, `proven` says whether it has answered before."""
        meaning = MEANINGS.get(self.code)
        if meaning is None:
            return StoreUnavailable(
                f"{shown} cannot be reached: {self._cause()}" if self.passing else self._said(shown)
            )
        text = f"{shown}: {meaning.says} ({self._cause()})"
        if meaning.error is ConfigError:
            return StoreUnavailable(text) if proven else ConfigError(text, key="store")
        return meaning.error(text)

    def _said(self, shown: str) -> str:
        return f"{shown} answered with an error: {self._cause()}"

    def _cause(self) -> str:
        text = _PREFIX.sub("", " ".join(str(self.cause).split()))
        return text or ("no answer in time" if isinstance(self.cause, TimeoutError) else type(self.cause).__name__)

    @property
    def moved_to(self) -> Target | None:
        """Host and port of the node that a Cluster names instead; an empty host means the one that was asked."""
        match = _MOVED_TO.search(str(self.cause)) if self.code == "MOVED" else None
        return None if match is None else (match["host"].strip("[]"), int(match["port"]))


def fault_of(error: BaseException) -> Fault:
    """What an error means."""
    code = _code(error)
    meaning = MEANINGS.get(code)
    if meaning is not None:
        return Fault(error, code, meaning.passing, meaning.elsewhere)
    lost = isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError)
    return Fault(error, code, passing=lost, elsewhere=lost)


def _code(error: BaseException) -> str:
    text = str(error)
    for pattern, code in _BY_TEXT:
        if pattern.search(text):
            return code
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    found = _CODE.search(text) if isinstance(error, exceptions.ResponseError) else None
    return found[1] if found else ""
