"""URLs of Redis servers: what they say, and what is refused."""

from __future__ import annotations

import pytest

from cross_instance.errors import ConfigError
from cross_instance.stores.redis.address import CLUSTER, SENTINEL, SERVER, SOCKET, Host, is_redis, parse
from cross_instance.stores.urls import REDIS


@pytest.mark.parametrize(
    ("url", "kind", "tls", "hosts"),
    [
        ("redis://", SERVER, False, [Host("localhost", 6379)]),
        ("redis://cache", SERVER, False, [Host("cache", 6379)]),
        ("rediss://cache:7000/3", SERVER, True, [Host("cache", 7000)]),
        ("redis://[::1]:7000", SERVER, False, [Host("::1", 7000)]),
        ("unix:///run/redis.sock", SOCKET, False, []),
        ("redis+sentinel://a,b:1/mine", SENTINEL, False, [Host("a", 26379), Host("b", 1)]),
        ("rediss+sentinel://a/mine/2", SENTINEL, True, [Host("a", 26379)]),
        ("redis+cluster://a,b:1", CLUSTER, False, [Host("a", 6379), Host("b", 1)]),
        ("rediss+cluster://a/", CLUSTER, True, [Host("a", 6379)]),
    ],
)
def test_where_a_url_leads(url: str, kind: str, tls: bool, hosts: list[Host]) -> None:
    address = parse(url)
    assert (address.kind, address.tls, address.hosts) == (kind, tls, tuple(hosts))
    assert address.shown == url
    assert is_redis(url)


def test_every_scheme_is_known_where_stores_are_opened() -> None:
    assert all(is_redis(f"{scheme}://localhost") for scheme in REDIS)
    assert not is_redis("http://localhost")


@pytest.mark.parametrize(
    ("url", "connection"),
    [
        ("redis://h/4", {"db": 4}),
        ("redis://h?db=4", {"db": 4}),
        ("redis://:se%40cret@h", {"password": "se@cret"}),
        ("redis://user:se:cret@h/1", {"username": "user", "password": "se:cret", "db": 1}),
        ("redis://h?username=user&password=a%26b", {"username": "user", "password": "a&b"}),
        ("unix://user:secret@/run/s?db=2", {"username": "user", "password": "secret", "db": 2}),
        ("redis+sentinel://:secret@a/mine/3", {"password": "secret", "db": 3}),
        (
            "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=false",
            {"ssl_ca_certs": "/etc/ca.pem", "ssl_cert_reqs": "required", "ssl_check_hostname": False},
        ),
    ],
)
def test_what_a_url_says_about_connections(url: str, connection: dict[str, object]) -> None:
    address = parse(url)
    assert address.connection == connection
    assert "cret" not in repr(address)


def test_what_a_url_says_about_the_store() -> None:
    address = parse("unix:///run/a%20b.sock?namespace=team-a&timeout=0.5&connect_timeout=1&patience=9")
    assert (address.path, address.namespace) == ("/run/a b.sock", "team-a")
    assert (address.timeout, address.connect_timeout, address.patience) == (0.5, 1.0, 9.0)
    assert "namespace=team-a" in address.shown


def test_sentinels_have_a_user_of_their_own() -> None:
    address = parse("redis+sentinel://:secret@a/mine?sentinel_username=watch&sentinel_password=other")
    assert (address.service, address.sentinel) == ("mine", {"username": "watch", "password": "other"})
    assert "other" not in repr(address)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:secret@h/x", "database is a number"),
        ("redis://:secret@h:0", "host:port"),
        ("redis://:secret@h:99999", "host:port"),
        ("redis://:secret@a,b", r"redis\+sentinel:// or redis\+cluster://"),
        ("redis://:secret@h?colour=secret", "option colour is not known"),
        ("redis://h?ssl_ca_certs=secret", "ssl_ca_certs is not known"),
        ("redis://h?secret", "name=value"),
        ("redis://:secret@h?db=1&db=2", "db is given twice"),
        ("redis://:secret@h?timeout=0", "timeout wants a number of seconds above 0"),
        ("redis://:secret@h?namespace={a}", "namespace wants 1 to 100"),
        ("rediss://:secret@h?ssl_cert_reqs=secret", "ssl_cert_reqs wants required, optional or none"),
        ("rediss://:secret@h?ssl_check_hostname=secret", "true or false"),
        ("redis://:secret@h?db=-1", "db wants a whole number"),
        ("unix://:secret@run/s", "absolute"),
        ("redis+sentinel://:secret@a", "name of the service is missing"),
        ("redis+cluster://:secret@a/1", "no databases but 0"),
        ("redis://h/0?password=top@secret", "percent-encoded"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(url)
    assert "secret" not in str(caught.value)
    assert caught.value.key == "store"
