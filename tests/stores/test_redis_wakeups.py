"""Wake-ups over pub/sub: across processes, after a broken connection, and with few connections."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.looking import until
from tests.stores.redis_proxy import Proxy
from tests.stores.redis_server import PATIENCE, Server, serving

from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Kind,
    Leave,
    LimitSpec,
    Settle,
    Waiting,
    Wake,
)
from cross_instance.stores.redis import wakeups
from cross_instance.stores.redis.store import AsyncRedisStore, RedisStore
from cross_instance.stores.redis.wire import decode_wake

ROOT = Path(__file__).parents[2]
ACCOUNT = "openai:main"
SLOT = AccountSpec((LimitSpec(Kind.CONCURRENCY, 1, period=0),))


class Member:
    """An instance at a store of its own."""

    def __init__(self, store: RedisStore, name: str) -> None:
        self.store = store
        joined = store.run(Join(name, f"nonce-{name}", 1, "here", "here.example"))
        assert isinstance(joined, Joined)
        self.incarnation = joined.incarnation
        self.publish()

    def publish(self) -> None:
        published = self.store.run(Configure(self.incarnation, ACCOUNT, SLOT))
        assert isinstance(published, Configured)
        self.revision = published.revision

    def ask(self, seq: int) -> object:
        return self.store.run(Acquire(self.incarnation, seq, ACCOUNT, revision=self.revision))

    def channels(self, server: Server) -> list[bytes]:
        """The channels of wake-ups that the server knows."""
        with server.client() as client:
            found: list[bytes] = client.pubsub_channels()
            return found


def is_waiting(store: RedisStore) -> bool:
    return bool(store._shared.mailboxes._waiters)


def test_a_release_wakes_a_waiter_at_another_address(server: Server) -> None:
    """Two URLs of one server stand for two processes: nothing but the server connects them."""
    with closing(RedisStore(server.url())) as one, closing(RedisStore(server.socket_url())) as other:
        holder, waiter = Member(one, "holder"), Member(other, "waiter")
        holder.publish()
        assert isinstance(holder.ask(1), Granted)
        waiter.publish()
        assert isinstance(waiter.ask(1), Waiting)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(other.wait, (waiter.incarnation, 1), PATIENCE)
            one.run(Settle(holder.incarnation, 1))
            wake = waiting.result()
        assert wake is not None
        assert (wake.incarnation, wake.seq) == (waiter.incarnation, 1)
        assert isinstance(waiter.ask(1), Granted)


def test_joining_opens_the_channel_of_an_incarnation_and_leaving_closes_it(server: Server) -> None:
    with closing(RedisStore(server.url())) as store:
        member = Member(store, "a")
        until(lambda: member.channels(server) == [b"{cir:v2:default}:wake:%d" % member.incarnation])
        member.ask(1)
        store.run(Leave(member.incarnation))
        until(lambda: member.channels(server) == [])
    until(lambda: server.connections() == 0)


def test_who_has_joined_asks_without_waiting_for_the_channel(server: Server) -> None:
    with closing(RedisStore(server.url())) as store:
        member, shared = Member(store, "a"), store._shared
        ask = Acquire(member.incarnation, 1, ACCOUNT, revision=member.revision)
        until(lambda: not shared.unheard(ask))
        assert shared.unheard(Acquire(member.incarnation + 1, 1, ACCOUNT)) == member.incarnation + 1
        store.run(Leave(member.incarnation))
        assert shared.unheard(ask) == member.incarnation


def test_a_server_that_does_not_confirm_is_waited_for_once(server: Server) -> None:
    with closing(RedisStore(server.url("x", "timeout=0.05"))) as store, server.stopped():
        ask, shared = Acquire(7, 1, ACCOUNT), store._shared
        assert shared.unheard(ask) == 7
        shared.listen(7)
        assert shared.unheard(ask) == 0


def test_a_broken_connection_is_made_anew_and_rouses_who_waits(server: Server) -> None:
    with Proxy(server.port) as proxy, closing(RedisStore(proxy.url())) as store, ThreadPoolExecutor(1) as threads:
        member = Member(store, "a")
        assert isinstance(member.ask(1), Granted)
        assert isinstance(member.ask(2), Waiting)
        waiting = threads.submit(store.wait, (member.incarnation, 2), PATIENCE)
        until(lambda: is_waiting(store))
        proxy.cut()
        wake = waiting.result()
        assert wake == Wake(member.incarnation, 2, 0)
        until(lambda: len(member.channels(server)) == 1)
        store.run(Heartbeat(member.incarnation))


def test_a_connection_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "QUIET", 0.05)
    with closing(RedisStore(server.url("x", "connect_timeout=0.2"))) as store, ThreadPoolExecutor(1) as threads:
        member = Member(store, "a")
        member.ask(1)
        member.ask(2)
        waiting = threads.submit(store.wait, (member.incarnation, 2), PATIENCE)
        until(lambda: is_waiting(store))
        with server.stopped():
            until(lambda: store._shared._listener._connection is None)
        assert waiting.result() == Wake(member.incarnation, 2, 0)


def test_without_the_server_closing_does_not_hang() -> None:
    with serving() as server, Proxy(server.port) as proxy:
        store = RedisStore(proxy.url())
        member = Member(store, "a")
        member.ask(1)
        server.kill()
        proxy.cut()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(store.wait, (member.incarnation, 1), PATIENCE)
            until(lambda: is_waiting(store))
            store.close()
            with pytest.raises(StoreUnavailable, match="closed"):
                waiting.result()


def test_a_thread_and_a_loop_share_what_listens(server: Server) -> None:
    """As in `AsyncRuntime`: the instance joins through one store, and waits at the other."""

    async def main(member: Member) -> None:
        store = AsyncRedisStore(server.url())
        assert isinstance(member.ask(1), Granted)
        ask = Acquire(member.incarnation, 2, ACCOUNT, revision=member.revision)
        assert isinstance(await store.run(ask), Waiting)
        waiting = asyncio.create_task(store.wait((member.incarnation, 2), PATIENCE))
        await asyncio.to_thread(member.store.run, Settle(member.incarnation, 1))
        assert await waiting is not None
        assert server.connections() == 3
        await store.close()

    with closing(RedisStore(server.url())) as sync:
        asyncio.run(main(Member(sync, "a")))


@pytest.mark.parametrize("data", [b"", b"1", b"1 2 3", b"one two"])
def test_what_others_publish_is_not_for_us(data: bytes) -> None:
    assert decode_wake(b"{cir:v2:x}:wake:7", data) is None
    assert decode_wake(b"{cir:v2:x}:wake:7", b"1 2") == Wake(7, 1, 2)


FORK = """\
import os, sys
from cross_instance.errors import StoreUnavailable
from cross_instance.rules.operations import Heartbeat, Join, Snapshot
from tests.stores.test_redis_wakeups import Member
from cross_instance.stores.redis.store import RedisStore

store = RedisStore(sys.argv[1])
member = Member(store, "parent")
member.ask(1)
child = os.fork()
if not child:
    for call in (lambda: store.run(Snapshot()), lambda: store.wait((1, 1), 0.0)):
        try:
            call()
        except StoreUnavailable as error:
            assert "before a fork" in str(error), error
        else:
            raise AssertionError("the child used its parent's store")
    store.close()
    own = RedisStore(sys.argv[1])
    Member(own, "child").ask(1)
    print([one.instance_id for one in own.run(Snapshot()).instances], flush=True)
    own.close()
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(type(store.run(Heartbeat(member.incarnation))).__name__, len(store._shared._listener._wanted))
store.close()
"""


def test_a_forked_child_opens_its_own(server: Server) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", FORK, server.url()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["['parent', 'child']", "Beaten 1"]
    until(lambda: server.connections() == 0)


ASYNC_FORK = """\
import asyncio, os, sys
from cross_instance.rules.operations import Snapshot
from cross_instance.stores.redis.store import AsyncRedisStore

async def main():
    store = AsyncRedisStore(sys.argv[1])
    await store.run(Snapshot())
    child = os.fork()
    if not child:
        os.read(0, 1)
        os._exit(0)
    await store.run(Snapshot())
    await store.close()
    print("closed", flush=True)
    os.waitpid(child, 0)

asyncio.run(main())
"""


def test_a_child_does_not_keep_its_parent_s_connection(server: Server) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", ASYNC_FORK, server.url()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "closed\n"
    until(lambda: server.connections() == 0)
    process.communicate("x")
    assert process.returncode == 0
