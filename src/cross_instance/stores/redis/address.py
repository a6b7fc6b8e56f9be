"""Addresses of Redis and Valkey servers, read from URLs.

    redis://[user[:password]@]host[:port][/database]            one server
    rediss://…                                                  the same, over TLS
    unix://[user[:password]@]/path/to/socket                    one server, through a Unix socket
    redis+sentinel://host[:port],host[:port]/service[/database] the primary that these Sentinels name
    redis+cluster://host[:port],host[:port]                     the node of a Cluster that holds the namespace

1. `rediss+sentinel://` and `rediss+cluster://` are the same over TLS. User and password are percent-encoded.
2. Options follow `?`, each once: those of `OPTIONS`. What is not known is an error, never ignored.
3. An address never shows its password: `shown` is the form for messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, unquote_plus

from cross_instance.config import without_password
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PORT, SENTINEL_PORT = 6379, 26379
"""The servers' own defaults."""
TIMEOUT = 2.0
"""Seconds that connecting, and each call, may take."""
PATIENCE = 5.0
"""Seconds after which an operation that cannot be decided is given up; repeated until then."""

SERVER, SOCKET, SENTINEL, CLUSTER = "server", "socket", "sentinel", "cluster"
SCHEMES = {
    "redis": (SERVER, False),
    "rediss": (SERVER, True),
    "unix": (SOCKET, False),
    "redis+sentinel": (SENTINEL, False),
    "rediss+sentinel": (SENTINEL, True),
    "redis+cluster": (CLUSTER, False),
    "rediss+cluster": (CLUSTER, True),
}
"""What each scheme leads to, and whether over TLS."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+)(?::(?P<port>\d{1,5}))?")


class Host(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Address:
    """What a URL says. `connection` are the arguments of every connection to the servers themselves."""

    kind: str
    tls: bool
    hosts: tuple[Host, ...]
    """The server, the Sentinels, or some of the Cluster's nodes; empty for a socket."""
    path: str
    """Of the socket."""
    service: str
    """The name under which the Sentinels know the primary."""
    shown: str
    namespace: str = "default"
    timeout: float = TIMEOUT
    connect_timeout: float = TIMEOUT
    patience: float = PATIENCE
    connection: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """User and password of the Sentinels."""


def _text(value: str) -> str:
    if not value:
        raise ValueError("a text")
    return value


def _namespace(value: str) -> str:
    if not _NAMESPACE.fullmatch(value):
        raise ValueError("1 to 100 letters, digits and the characters _ . -")
    return value


def _number(value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise ValueError("a whole number")
    return int(value)


def _seconds(value: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value) or float(value) <= 0:
        raise ValueError("a number of seconds above 0")
    return float(value)


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise ValueError("true or false")
    return value == "true"


def _requirement(value: str) -> str:
    if value not in {"required", "optional", "none"}:
        raise ValueError("required, optional or none")
    return value


OWN: dict[str, Callable[[str], Any]] = {
    "namespace": _namespace,
    "timeout": _seconds,
    "connect_timeout": _seconds,
    "patience": _seconds,
}
CONNECTION: dict[str, Callable[[str], Any]] = {"db": _number, "username": _text, "password": _text}
TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _flag,
}
SENTINELS: dict[str, Callable[[str], Any]] = {"sentinel_username": _text, "sentinel_password": _text}
OPTIONS = {**OWN, **CONNECTION, **TLS, **SENTINELS}
"""Every option with what reads its value; those of connections are named as in redis-py."""


def is_redis(url: str) -> bool:
    """Whether a store's address is one of these URLs."""
    return url.partition("://")[0] in SCHEMES


def parse(url: str) -> Address:
    """Read a URL. Raises `ConfigError`, without the password, where it is none of the forms above."""
    shown = without_password(url)
    try:
        return _parse(url, shown)
    except ValueError as error:
        raise ConfigError(f"{shown}: {error}", key="store") from None


def _parse(url: str, shown: str) -> Address:
    scheme, _, rest = url.partition("://")
    kind, tls = SCHEMES[scheme]
    userinfo, _, place = rest.rpartition("@")
    if "?" in userinfo:
        message = "@ and ? in a user, a password or an option of the address are percent-encoded: %40, %3F"
        raise ConfigError(message, key="store")  # without the address: what is secret in it cannot be told
    place, _, query = place.partition("?")
    options = _options(query, kind, tls)
    user, _, password = userinfo.partition(":")
    connection = {name: options[name] for name in (*CONNECTION, *TLS) if name in options}
    connection |= {name: unquote(part) for name, part in (("username", user), ("password", password)) if part}
    hosts, path = _place(kind, place)
    service, database = _path(kind, path)
    if database is not None:
        connection["db"] = database
    if kind == CLUSTER and connection.get("db"):
        raise ValueError("a Cluster has no databases but 0; give each use a namespace instead: ?namespace=…")
    return Address(
        kind,
        tls,
        hosts,
        unquote(place) if kind == SOCKET else "",
        service,
        shown,
        **{name: options[name] for name in OWN if name in options},
        connection=connection,
        sentinel={name.removeprefix("sentinel_"): options[name] for name in SENTINELS if name in options},
    )


def _options(query: str, kind: str, tls: bool) -> dict[str, Any]:
    accepted = {**OWN, **CONNECTION, **(TLS if tls else {}), **(SENTINELS if kind == SENTINEL else {})}
    found: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError("options are written as name=value")
        if name not in accepted:
            raise ValueError(f"the option {name} is not known here; these are: {', '.join(accepted)}")
        if name in found:
            raise ValueError(f"the option {name} is given twice")
        try:
            found[name] = accepted[name](unquote_plus(value))
        except ValueError as error:
            raise ValueError(f"the option {name} wants {error}") from None
    return found


def _place(kind: str, place: str) -> tuple[tuple[Host, ...], str]:
    """The hosts, and the path after them."""
    if kind == SOCKET:
        if not place.startswith("/"):
            raise ValueError("a socket's path is absolute: unix:///path/to/socket")
        return (), ""
    hosts, _, path = place.partition("/")
    names = hosts.split(",")
    if kind == SERVER and len(names) > 1:
        raise ValueError("one server is expected; several are written as redis+sentinel:// or redis+cluster://")
    default = SENTINEL_PORT if kind == SENTINEL else PORT
    return tuple(_host(name or "localhost", default) for name in names), path


def _host(name: str, default: int) -> Host:
    match = _HOST.fullmatch(name)
    if match is None or not 1 <= int(match["port"] or default) <= 65_535:
        raise ValueError("a server is written as host:port, an IPv6 address in brackets")
    return Host(match["host"].strip("[]"), int(match["port"] or default))


def _path(kind: str, path: str) -> tuple[str, int | None]:
    """The Sentinels' service and the database, as far as the path names them."""
    service = ""
    if kind == SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("the name of the service is missing: redis+sentinel://host:26379/mymaster")
    path = path.removesuffix("/")
    if not path:
        return unquote(service), None
    if not re.fullmatch(r"\d{1,9}", path):
        raise ValueError("the database is a number: redis://host/0")
    return unquote(service), int(path)
