"""Events from machine to machine, by way of a real server: each instance's in order, bounded, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from tests.looking import DEADLINE
from tests.runtime.doubles import settings_in
from tests.stores.redis_fixtures import server as server, shared_server as shared_server
from tests.stores.redis_server import Server

from cross_instance import Event, Runtime, StoreUnavailable, events as kinds
from cross_instance.config import Settings
from cross_instance.stores.redis import feed as server_feed
from cross_instance.stores.redis.feed import ServerFeed
from cross_instance.stores.redis.store import RedisStore
from cross_instance.watching.feed import to_line
from cross_instance.watching.relay import (
    LONGEST,
    MOST_KNOWN,
    MOST_WAITING,
    RETRY_AFTER,
    SAME_FOR,
    Once,
    RelayReader,
    RelayWriter,
    Way,
)

PROVIDERS = {"acme": {"requestsPerMinute": 600, "burst": 10}}


def settings_at(server: Server, folder: Path, **settings: object) -> Settings:
    """Those of a process whose machine has this folder."""
    return settings_in(folder, store=server.url(), providers=PROVIDERS, **settings)


def event(seq: int, name: str = "one", message: str = "told", **fields: object) -> Event:
    return Event("odd", 1.5, name, message, fields, seq)


@contextmanager
def feed_at(server: Server, namespace: str = "default") -> Iterator[ServerFeed]:
    store = RedisStore(server.url(namespace))
    try:
        yield store.feed
    finally:
        store.close()


def way(feed: ServerFeed, machine: str) -> Way:
    return Way(feed, lambda: machine)


def everything(reader: RelayReader) -> list[int]:
    found: list[int] = []
    while told := reader.read():
        found += [one.seq for one in told]
    return found


# --- instances -----------------------------------------------------------------------------------------------------


def test_machines_that_share_a_server_hear_each_other(server: Server, tmp_path: Path) -> None:
    heard = SimpleQueue[Event]()
    with (
        Runtime("one", settings=settings_at(server, tmp_path / "here")) as one,
        Runtime("two", settings=settings_at(server, tmp_path / "there")) as two,
        one.subscribe(heard.put, everyone=True),
    ):
        for place in range(20):
            two._membership.events.tell("odd", f"odd {place}")
        told: list[Event] = []
        while len(told) < 20:
            found = heard.get(timeout=DEADLINE)
            told += [found] if found.kind == "odd" else []
    assert [found.message for found in told] == [f"odd {place}" for place in range(20)]
    assert {found.instance_id for found in told} == {"two"}
    assert [found.seq for found in told] == sorted({found.seq for found in told})


def test_who_comes_and_goes_elsewhere_is_heard_of_once(server: Server, tmp_path: Path) -> None:
    """Each machine sees it in the store: what the other saw is not told as well."""
    heard = SimpleQueue[str]()
    here, there = settings_at(server, tmp_path / "here"), settings_at(server, tmp_path / "there")
    with Runtime("one", settings=here) as one, Runtime("two", settings=there) as two:
        one.subscribe_coordinator_events(
            on_instance_connected=lambda name: heard.put(f"+{name}"),
            on_instance_disconnected=lambda name: heard.put(f"-{name}"),
        )
        two.subscribe(lambda _: None, everyone=True)
        for runtime in (one, two):  # somebody looks: that is where it begins
            runtime._membership.activity._safely()
        with Runtime("three", settings=there):
            assert heard.get(timeout=DEADLINE) == "+three"
        assert heard.get(timeout=DEADLINE) == "-three"
    assert heard.empty()


def test_one_that_switched_logging_off_is_not_heard_of(server: Server, tmp_path: Path) -> None:
    with Runtime("one", settings=settings_at(server, tmp_path, logging=False)) as one:
        one._membership.events.tell("odd", "told")
        one._membership.activity._safely()
    with server.client() as client:
        assert client.keys("*feed*") == []


# --- the feed on the server ----------------------------------------------------------------------------------------


def test_it_is_read_in_order_by_other_machines_only(server: Server) -> None:
    with feed_at(server) as feed:
        RelayWriter(way(feed, "there")).write([event(0)])
        whole, later = RelayReader(way(feed, "here"), whole=True), RelayReader(way(feed, "here"))
        own = RelayReader(way(feed, "there"), whole=True)
        writers = {name: RelayWriter(way(feed, "there")) for name in ("a", "b")}
        for seq in range(1, 301):  # more entries than are read at once
            for name, writer in writers.items():
                writer.write([event(seq, name, figure=7, text="é\n\u2028")])
        heard = {name: list[int]() for name in writers}
        while told := later.read():
            for one in told:
                if one.instance_id in heard:
                    heard[one.instance_id].append(one.seq)
                    assert one.fields == {"figure": 7, "text": "é\n\u2028"}
        assert set(map(tuple, heard.values())) == {tuple(range(1, 301))}
        assert everything(whole)[:3] == [0, 1, 1]
        assert own.read() == []


def test_it_is_bounded_and_expires(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_feed, "MOST", 10)
    with feed_at(server) as feed, server.client() as client:
        writer = RelayWriter(way(feed, "there"))
        for seq in range(25):
            writer.write([event(seq)])
        writer.write([event(25, message="x" * LONGEST)])
        assert client.xlen(feed._shared.feed_key) == 10
        lasts = client.pttl(feed._shared.feed_key)
        assert isinstance(lasts, int)
        assert 0 < lasts <= server_feed.LASTS
        assert everything(RelayReader(way(feed, "here"), whole=True)) == list(range(15, 25))


def test_namespaces_have_feeds_of_their_own_and_a_damaged_line_is_passed_over(server: Server) -> None:
    with feed_at(server) as feed, feed_at(server, "other") as other:
        RelayWriter(way(other, "there")).write([event(1)])
        feed.add("there", ["{", "null", to_line(event(2))])
        assert everything(RelayReader(way(feed, "here"), whole=True)) == [2]


def test_what_is_told_without_the_server_waits_for_it(server: Server) -> None:
    class Broken(ServerFeed):
        is_away = True

        def _call(self, command: bytes) -> object:
            if self.is_away:
                raise StoreUnavailable("cut off")
            return super()._call(command)

    now = [0.0]
    with feed_at(server) as good:
        feed = Broken(good._shared, good._connections)
        writer = RelayWriter(way(feed, "there"), clock=lambda: now[0])
        reader = RelayReader(way(feed, "here"), clock=lambda: now[0], whole=True)
        for seq in range(MOST_WAITING + 5):
            writer.write([event(seq)])
        assert reader.read() == []
        feed.is_away = False
        writer.write([])
        assert reader.read() == [], "it is too early to ask again"
        now[0] = RETRY_AFTER
        writer.write([event(MOST_WAITING + 5)])
        assert everything(reader) == list(range(6, MOST_WAITING + 6))


def test_nothing_is_asked_of_a_server_that_is_known_to_be_away(server: Server) -> None:
    with feed_at(server) as feed, server.client() as client:
        away = Way(feed, lambda: "there", is_cut_off=lambda: True)
        RelayWriter(away).write([event(1)])
        assert RelayReader(away, whole=True).read() == []
        assert client.exists(feed._shared.feed_key) == 0


# --- what several machines see --------------------------------------------------------------------------------------


def seen(kind: str, at: float = 0.0, **fields: object) -> Event:
    return Event(kind, at, "x", "", fields, 1)


def test_what_several_machines_see_passes_once() -> None:
    once = Once()
    came, went = seen(kinds.INSTANCE_CONNECTED, connected="a"), seen(kinds.INSTANCE_DISCONNECTED, disconnected="a")
    assert [once.is_news(one) for one in (came, came, went, went, came)] == [True, False, True, False, True]
    limits = [seen(kinds.LIMIT_CHANGED, node="n", new=new) for new in (5, 5, 6, 5)]
    assert [once.is_news(one) for one in limits] == [True, False, True, True]
    warned = [seen(kinds.RATE_LIMIT_WARNING, at, account="acme") for at in (0.0, 1.0, SAME_FOR)]
    assert [once.is_news(one) for one in warned] == [True, False, True]
    assert once.is_news(seen(kinds.RATE_LIMIT_WARNING, 1.0, account="other"))
    assert once.is_news(event(1))
    assert once.is_news(event(1))


def test_what_has_passed_is_remembered_within_bounds() -> None:
    once = Once()
    for number in range(MOST_KNOWN + 10):
        assert once.is_news(seen(kinds.INSTANCE_CONNECTED, connected=f"agent-{number}"))
    assert len(once._last) == MOST_KNOWN
    assert not once.is_news(seen(kinds.INSTANCE_CONNECTED, connected=f"agent-{number}"))


def test_entries_of_another_form_end_nothing(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = SimpleQueue[str]()
    with (
        Runtime("one", settings=settings_at(server, tmp_path / "one")) as one,
        Runtime("two", settings=settings_at(server, tmp_path / "two")) as two,
        feed_at(server) as feed,
        server.client() as client,
    ):
        one.subscribe(lambda event: heard.put(event.kind) if event.kind == "odd" else None, everyone=True)
        client.xadd(feed._shared.feed_key, {"a": "form that comes later"})
        two._membership.events.tell("odd", "")
        assert heard.get(timeout=DEADLINE) == "odd"
    assert "unexpected error" not in caplog.text
