"""Every fault of a server, on a real one: what callers are told, and that all is well afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import redis
from redis import exceptions
from tests.looking import until
from tests.stores.redis_proxy import Proxy
from tests.stores.redis_server import PATIENCE, Server, open_redis, serving

from cross_instance.errors import ConfigError, StoreFull, StoreUnavailable
from cross_instance.rules.operations import (
    AccountSpec,
    Acquire,
    Beaten,
    Configure,
    Configured,
    Fenced,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Kind,
    LimitSpec,
    Operation,
    Settle,
    Snapshot,
    Unlock,
    Waiting,
    World,
)
from cross_instance.stores.redis.calls import check_version
from cross_instance.stores.redis.connections import MOST
from cross_instance.stores.redis.faults import fault_of
from cross_instance.stores.redis.store import AsyncRedisStore, RedisStore
from cross_instance.testing import FakeClock

T = TypeVar("T")

ACCOUNT = "openai:main"
SLOT = AccountSpec((LimitSpec(Kind.CONCURRENCY, 1, period=0),))
IMPATIENT = ("patience=0.3", "timeout=0.1", "connect_timeout=0.1")
"""For calls that are to fail; those that are to work are made `eventually`, since a slow machine may need longer."""
PATIENT = ("patience=60", "timeout=30")


def joined(store: RedisStore, name: str = "a") -> int:
    result = store.run(Join(name, f"nonce-{name}", 1, "here", "here.example"))
    assert isinstance(result, Joined)
    return result.incarnation


def configured(store: RedisStore, incarnation: int) -> int:
    result = store.run(Configure(incarnation, ACCOUNT, SLOT))
    assert isinstance(result, Configured)
    return result.revision


def world(store: RedisStore) -> World:
    return store.run(Snapshot())


def eventually(call: Callable[[], T]) -> T:
    """What a call gives when it has worked."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise


def impatient(server: Server) -> closing[RedisStore]:
    return closing(eventually(lambda: RedisStore(server.url("x", *IMPATIENT))))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncRedisStore]:
    store = AsyncRedisStore(url)
    try:
        yield store
    finally:
        await store.close()


# --- the server goes away ------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with serving() as server:
        url = server.url("x", *IMPATIENT)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        RedisStore(url)


def test_restarted_without_its_data_everybody_joins_anew() -> None:
    with serving() as server, closing(RedisStore(server.url())) as store:
        incarnation = joined(store)
        server.kill()
        server.start()
        assert isinstance(store.run(Heartbeat(incarnation)), Fenced)
        assert [one.instance_id for one in world(store).instances] == []
        again = joined(store, "b")
        assert isinstance(store.run(Heartbeat(again)), Beaten)


def test_restarted_with_its_data_everything_goes_on() -> None:
    with (
        serving("--appendonly", "yes", "--appendfsync", "always") as server,
        closing(RedisStore(server.url())) as store,
    ):
        incarnation = joined(store)
        revision = configured(store, incarnation)
        assert isinstance(store.run(Acquire(incarnation, 1, ACCOUNT, revision=revision)), Granted)
        server.kill()
        server.start()
        assert isinstance(store.run(Heartbeat(incarnation)), Beaten)
        assert [one.held for one in world(store).instances] == [1]
        assert store.run(Settle(incarnation, 1)).known


def test_away_for_a_while_calls_fail_and_then_work_again() -> None:
    with serving() as server, impatient(server) as store:
        server.kill()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            world(store)
        server.start()
        assert eventually(lambda: world(store)).instances == ()


def test_away_for_a_moment_nobody_notices() -> None:
    with (
        serving() as server,
        closing(RedisStore(server.url("x", *PATIENT))) as store,
        ThreadPoolExecutor(1) as threads,
    ):
        joined(store)
        server.kill()
        asked = threads.submit(world, store)
        server.start()
        assert asked.result().instances == ()


# --- calls that are cut --------------------------------------------------------------------------------------------


def test_a_call_whose_answer_is_lost_happens_once(server: Server) -> None:
    with Proxy(server.port) as proxy, closing(RedisStore(proxy.url())) as store:
        proxy.lose_answers(1)
        incarnation = joined(store)
        assert [one.incarnation for one in world(store).instances] == [incarnation]
        revision = configured(store, incarnation)
        for seq, held in ((1, 1), (2, 1)):
            proxy.lose_answers(2)
            answer = store.run(Acquire(incarnation, seq, ACCOUNT, revision=revision))
            assert isinstance(answer, Granted if seq == 1 else Waiting)
            assert [one.held for one in world(store).instances] == [held]
        assert proxy.answers_lost == 5


def test_a_call_that_arrives_after_its_repetition_takes_nothing(server: Server) -> None:
    """It was sent on a connection that was given up; its permit has ended meanwhile."""
    with Proxy(server.port) as proxy, closing(RedisStore(proxy.url("timeout=0.2", "patience=60"))) as store:
        incarnation = eventually(lambda: joined(store))
        revision = configured(store, incarnation)
        for seq in range(2):
            proxy.delay_calls(seq)  # the first opens the channel for wakes, too
            assert isinstance(store.run(Acquire(incarnation, seq, ACCOUNT, revision=revision)), Granted)
            assert store.run(Settle(incarnation, seq)).known
        assert proxy.deliver() == 1
        assert [one.held for one in world(store).instances] == [0]


def test_calls_of_a_loop_that_arrive_after_their_repetition_take_nothing(server: Server) -> None:
    async def main(proxy: Proxy) -> None:
        async with opened(proxy.url("timeout=0.2", "patience=60")) as store:
            joined = await store.run(Join("a", "nonce", 1, "here", "here.example"))
            assert isinstance(joined, Joined)
            published = await store.run(Configure(joined.incarnation, ACCOUNT, AccountSpec()))
            assert isinstance(published, Configured)
            for turn in range(2):
                proxy.delay_calls(turn)
                seqs = range(10 * turn, 10 * turn + 9)
                asked = [Acquire(joined.incarnation, seq, ACCOUNT, revision=published.revision) for seq in seqs]
                assert {type(answer) for answer in await asyncio.gather(*map(store.run, asked))} == {Granted}
                await asyncio.gather(*(store.run(Settle(ask.incarnation, ask.seq)) for ask in asked))
            assert proxy.deliver() == 1
            assert [one.held for one in (await store.run(Snapshot())).instances] == [0]

    with Proxy(server.port) as proxy:
        asyncio.run(main(proxy))


def test_after_a_lost_answer_waiters_are_woken_all_the_same(server: Server) -> None:
    with Proxy(server.port) as proxy, closing(RedisStore(proxy.url())) as store, ThreadPoolExecutor(1) as threads:
        incarnation = joined(store)
        revision = configured(store, incarnation)
        store.run(Acquire(incarnation, 1, ACCOUNT, revision=revision))
        ask = Acquire(incarnation, 2, ACCOUNT, revision=revision)
        assert isinstance(store.run(ask), Waiting)
        waiting = threads.submit(store.wait, (incarnation, 2), 30.0)
        until(lambda: bool(store._shared.mailboxes._waiters))
        proxy.lose_answers(1)
        store.run(Settle(incarnation, 1))
        assert waiting.result() is not None
        assert isinstance(store.run(ask), Granted)


def test_tasks_repeat_their_calls_too(server: Server) -> None:
    async def main(proxy: Proxy) -> None:
        join = Join("a", "nonce", 1, "here", "here.example")
        async with opened(proxy.url()) as store:
            first = await store.run(join)
            proxy.lose_answers(1)
            results = await asyncio.gather(*(store.run(join) for _ in range(20)))
            assert {getattr(result, "incarnation", None) for result in results} == {getattr(first, "incarnation", 0)}
            assert len((await store.run(Snapshot())).instances) == 1

    with Proxy(server.port) as proxy:
        asyncio.run(main(proxy))
        assert proxy.answers_lost == 1


def test_the_last_writes_may_be_lost_in_a_failover(server: Server) -> None:
    """Whom the new primary does not know is fenced, even where its clock is behind and it gives the number again."""
    clock = FakeClock()
    with serving() as other, Proxy(server.port) as proxy, closing(open_redis(proxy.url(), clock)) as store:
        lost = joined(store, "a")
        proxy.lead_to(other.port)
        with closing(open_redis(other.url(), clock)) as elsewhere:
            assert joined(elsewhere, "b") == lost
            assert isinstance(store.run(Heartbeat(lost)), Fenced)
            assert isinstance(elsewhere.run(Heartbeat(lost)), Beaten)


# --- slow, full, read-only -----------------------------------------------------------------------------------------


def test_a_slow_server_is_waited_for(server: Server) -> None:
    with closing(RedisStore(server.url("x", "timeout=0.05"))) as store:
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", "200", "ALL")
        incarnation = joined(store)
        assert [one.incarnation for one in world(store).instances] == [incarnation]


def test_a_server_that_hangs_is_told_and_recovers(server: Server) -> None:
    with impatient(server) as store:
        with server.stopped(), pytest.raises(StoreUnavailable, match="cannot be reached: Timeout"):
            joined(store)
        incarnation = eventually(lambda: joined(store))
        assert [one.incarnation for one in eventually(lambda: world(store)).instances] == [incarnation]


def test_an_event_loop_goes_on_beside_a_server_that_hangs(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url("x", "patience=0.5")) as store:
            await store.run(Snapshot())
            with server.stopped():
                asked = asyncio.create_task(store.run(Snapshot()))
                turns = 0
                while not asked.done():
                    await asyncio.sleep(0)
                    turns += 1
                with pytest.raises(StoreUnavailable, match="no answer in time"):
                    await asked
            assert turns > 100
            assert (await store.run(Snapshot())).instances == ()

    asyncio.run(main())


def test_a_full_server_loses_nothing(server: Server) -> None:
    with closing(RedisStore(server.url())) as store, server.client() as client:
        incarnation = joined(store)
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreFull, match="maxmemory"):
                joined(store, "b")
        finally:
            client.config_set("maxmemory", 0)
        assert [one.incarnation for one in world(store).instances] == [incarnation]
        assert joined(store, "b") > incarnation


def test_a_replica_is_told_and_a_new_primary_is_used(server: Server) -> None:
    with impatient(server) as store, server.client() as client, serving() as primary:
        eventually(lambda: joined(store))
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        try:
            with pytest.raises(StoreUnavailable, match="read-only replica"):
                joined(store, "b")
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        incarnation = eventually(lambda: joined(store, "b"))
        assert isinstance(eventually(lambda: store.run(Heartbeat(incarnation))), Beaten)


def test_scripts_are_sent_again_where_the_server_forgot_them(server: Server) -> None:
    with closing(RedisStore(server.url())) as store, server.client() as client:
        incarnation = joined(store)
        client.script_flush()
        assert isinstance(store.run(Heartbeat(incarnation)), Beaten)


def test_a_script_is_sent_again_however_late_the_answer_was_read(server: Server) -> None:
    """A process that was stopped beyond its patience finds an answer of a server that is there."""
    with closing(RedisStore(server.url("default", "patience=0.000001"))) as store, server.client() as client:
        incarnation = joined(store)
        client.script_flush()
        assert isinstance(store.run(Heartbeat(incarnation)), Beaten)


# --- what somebody must mend ---------------------------------------------------------------------------------------


def test_a_wrong_password_is_a_wrong_setting(server: Server) -> None:
    with server.client() as client:
        client.config_set("requirepass", "right")
    try:
        for userinfo, says in ((":wrong-one@", "refuses the user or password"), ("", "password")):
            with pytest.raises(ConfigError, match=says) as caught:
                RedisStore(f"redis://{userinfo}127.0.0.1:{server.port}")
            assert "wrong-one" not in str(caught.value)
        with closing(RedisStore(f"redis://:right@127.0.0.1:{server.port}")) as store:
            assert world(store).instances == ()
    finally:
        with server.client(password="right") as client:
            client.config_set("requirepass", "")


def test_a_password_that_changes_meanwhile_is_trouble_not_the_end(server: Server) -> None:
    with closing(RedisStore(server.url())) as store, server.client() as client:
        client.config_set("requirepass", "new")
        try:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(StoreUnavailable, match="password"):
                world(store)
        finally:
            client.config_set("requirepass", "")
        assert world(store).instances == ()


def test_the_rights_that_the_page_names_are_enough_and_needed(server: Server) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/redis.md").read_text(encoding="utf-8")
    command = next(line for line in page.splitlines() if line.startswith("ACL SETUSER agents "))
    url = f"redis://agents:password@127.0.0.1:{server.port}"
    with server.client() as client:
        client.execute_command(*command.split())
        with closing(RedisStore(url)) as store:
            incarnation = joined(store)
            revision = configured(store, incarnation)
            assert isinstance(store.run(Acquire(incarnation, 1, ACCOUNT, revision=revision)), Granted)
            assert store.run(Settle(incarnation, 1)).known
        client.execute_command("ACL", "SETUSER", "agents", "-info")
        with closing(RedisStore(url)) as store:  # a server that does not tell its version is tried
            assert [one.held for one in world(store).instances] == [0]
            client.execute_command("ACL", "SETUSER", "agents", "-evalsha")
            with pytest.raises(StoreUnavailable, match="lacks a right"):
                world(store)


def test_a_database_that_is_not_there_is_a_wrong_setting(server: Server) -> None:
    with pytest.raises(ConfigError, match="no such database"):
        RedisStore(f"redis://127.0.0.1:{server.port}/4711")


def test_the_loop_s_store_tells_wrong_settings_with_its_first_operation(server: Server) -> None:
    async def main() -> None:
        async with opened(f"redis://127.0.0.1:{server.port}/4711") as store:
            with pytest.raises(ConfigError, match="no such database"):
                await store.run(Snapshot())

    asyncio.run(main())


def test_keys_of_others_are_left_alone(server: Server) -> None:
    with closing(RedisStore(server.url("taken"))) as store, server.client() as client:
        client.set("{cir:v2:taken}:values", "somebody's")
        with pytest.raises(StoreUnavailable, match=r"another one with \?namespace=NAME"):
            joined(store)
        assert client.get("{cir:v2:taken}:values") == b"somebody's"


@pytest.mark.parametrize(
    ("info", "accepted"),
    [
        (b"redis_version:6.0.16\r\n", False),
        (b"redis_version:6.2.0\r\n", True),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5\r\n", False),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n", True),
        (b"nothing that is known\r\n", True),
    ],
)
def test_a_server_that_is_too_old_is_refused(info: bytes, accepted: bool) -> None:
    if accepted:
        check_version(info, "redis://h")
    else:
        with pytest.raises(
            ConfigError, match=r"redis://h is (Redis|Valkey) \S+; (Redis|Valkey) \d.\d or newer is needed"
        ):
            check_version(info, "redis://h")


@pytest.mark.parametrize(
    ("error", "code", "passing"),
    [
        (exceptions.ConnectionError("gone"), "", True),
        (exceptions.TimeoutError("late"), "", True),
        (OSError("gone"), "", True),
        (exceptions.ResponseError("ERR user_script:1: a bug"), "", False),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING", True),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "READONLY", True),
        (
            exceptions.ResponseError("ERR Error running script: @user_script: 1: -READONLY You can't write"),
            "READONLY",
            True,
        ),
        (exceptions.ClusterDownError("The cluster is down"), "CLUSTERDOWN", True),
        (exceptions.ResponseError("CLUSTERDOWN Hash slot not served"), "CLUSTERDOWN", True),
        (exceptions.TryAgainError("Multiple keys request during rehashing of slot"), "TRYAGAIN", True),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), "BUSY", True),
        (exceptions.ConnectionError("max number of clients reached"), "CLIENTS", True),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file"), "MISCONF", False),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM", False),
        (exceptions.AuthenticationError("invalid username-password pair"), "WRONGPASS", False),
        (exceptions.AuthenticationError("Authentication required."), "NOAUTH", False),
        (exceptions.NoPermissionError("User x has no permissions to run the 'evalsha' command"), "NOPERM", False),
        (
            exceptions.ResponseError("WRONGTYPE Operation against a key script: 1, on @user_script:1."),
            "WRONGTYPE",
            False,
        ),
        (exceptions.ResponseError("DB index is out of range"), "DATABASE", False),
    ],
)
def test_what_errors_mean(error: Exception, code: str, passing: bool) -> None:
    fault = fault_of(error)
    assert (fault.code, fault.passing) == (code, passing)
    assert "redis://h" in str(fault.told("redis://h", proven=True))


@pytest.mark.parametrize("text", ["MOVED 3999 127.0.0.1:6381", "MOVED 3999 :6381"])
def test_a_cluster_says_where_the_namespace_is(text: str) -> None:
    assert fault_of(exceptions.ResponseError(text)).moved_to in {("127.0.0.1", 6381), ("", 6381)}
    assert fault_of(exceptions.MovedError("3999 [::1]:6381")).moved_to == ("::1", 6381)


# --- connections ---------------------------------------------------------------------------------------------------


def test_threads_share_a_few_connections_and_none_is_left(server: Server) -> None:
    with closing(RedisStore(server.url())) as store, ThreadPoolExecutor(4 * MOST) as threads:
        barrier = threading.Barrier(4 * MOST)

        def ask() -> None:
            barrier.wait()
            for _ in range(5):
                store.run(Unlock("a", "b"))

        for asked in [threads.submit(ask) for _ in range(4 * MOST)]:
            asked.result()
        assert 1 <= server.connections() <= MOST
    assert server.connections() == 0


def test_ten_thousand_waiters_hold_two_connections(server: Server) -> None:
    async def main() -> None:
        async with opened(server.url("x", *PATIENT)) as store:
            joined = await store.run(Join("a", "nonce", 1, "here", "here.example", timeout=600_000_000))
            assert isinstance(joined, Joined)
            published = await store.run(Configure(joined.incarnation, ACCOUNT, SLOT))
            assert isinstance(published, Configured)
            ask = Acquire(joined.incarnation, 1, ACCOUNT, revision=published.revision)
            assert isinstance(await store.run(ask), Granted)
            asked = [msgspec.structs.replace(ask, seq=seq) for seq in range(2, 10_002)]
            answers = await asyncio.gather(*(store.run(ask) for ask in asked))
            assert all(isinstance(answer, Waiting) for answer in answers)
            waiting = [asyncio.create_task(store.wait((joined.incarnation, ask.seq), 600.0)) for ask in asked]
            await store.run(Settle(joined.incarnation, 1))
            assert await waiting[0] is not None
            assert server.connections() == 2
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
    await_no_more_than(0, server)


def test_what_tasks_settle_together_travels_together(server: Server) -> None:
    async def main(client: redis.Redis) -> None:
        async with opened(server.url("x", *PATIENT)) as store:
            await asyncio.gather(*(store.run(Settle(1, seq)) for seq in range(100)))
            before: Any = client.info("stats")
            await asyncio.gather(*(store.run(Settle(1, seq)) for seq in range(200)))
            after: Any = client.info("stats")
            assert after["total_commands_processed"] - before["total_commands_processed"] >= 200
            assert after["total_reads_processed"] - before["total_reads_processed"] < 20

    with server.client() as client:
        asyncio.run(main(client))


@pytest.mark.parametrize("fault", ["cut", "lost", "hung"])
def test_no_fault_leaves_a_connection_behind(server: Server, fault: str) -> None:
    with Proxy(server.port) as proxy:
        with closing(eventually(lambda: RedisStore(proxy.url(*IMPATIENT)))) as store:
            inflict: dict[str, Callable[[], object]] = {
                "cut": proxy.cut,
                "lost": lambda: proxy.lose_answers(1),
                "hung": lambda: hang(server, store),
            }
            for _ in range(5):
                inflict[fault]()
                eventually(lambda: world(store))
            await_no_more_than(1, server)
        await_no_more_than(0, server)


def hang(server: Server, store: RedisStore) -> None:
    with server.stopped(), pytest.raises(StoreUnavailable):
        world(store)


def await_no_more_than(expected: int, server: Server) -> None:
    """A connection that was cut is gone when the server has read to its end."""
    until(lambda: server.connections() <= expected)


def test_operations_of_a_closed_store_are_refused(server: Server) -> None:
    store: RedisStore = RedisStore(server.url())
    store.close()
    op: Operation[World] = Snapshot()
    with pytest.raises(StoreUnavailable, match="is closed"):
        store.run(op)
