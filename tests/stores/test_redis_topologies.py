"""Sentinel, Cluster, TLS and Unix sockets: the other ways to a primary."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import asyncio as aredis, exceptions
from redis.crc import key_slot
from tests.stores.redis_server import PATIENCE, Server, free_port, program, serving

from cross_instance.errors import ConfigError, StoreUnavailable
from cross_instance.rules.operations import Beaten, Fenced, Heartbeat, Join, Joined, Snapshot
from cross_instance.stores.redis.address import parse
from cross_instance.stores.redis.calls import Haste
from cross_instance.stores.redis.faults import fault_of
from cross_instance.stores.redis.health import examine
from cross_instance.stores.redis.servers import Servers
from cross_instance.stores.redis.store import AsyncRedisStore, RedisStore

SLOTS = 16_384


def joined(store: RedisStore, name: str = "a") -> int:
    result = store.run(Join(name, f"nonce-{name}", 1, "here", "here.example"))
    assert isinstance(result, Joined)
    return result.incarnation


def until(is_so: Callable[[], object]) -> None:
    """Until servers have come to terms about what was set off."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(redis.RedisError):
            if is_so():
                return
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.01)


def test_a_unix_socket_leads_to_the_same_state_and_namespaces_are_apart() -> None:
    with serving() as server, closing(RedisStore(server.socket_url("a"))) as store:
        incarnation = joined(store)
        with closing(RedisStore(server.url("a"))) as same:
            assert [one.incarnation for one in same.run(Snapshot()).instances] == [incarnation]
        with closing(RedisStore(server.url("b"))) as other:
            assert other.run(Snapshot()).instances == ()


# --- Cluster -------------------------------------------------------------------------------------------------------


@contextmanager
def cluster() -> Iterator[tuple[Server, Server]]:
    """Two nodes, each with one half of the slots."""
    if subprocess.run([str(program()), "--version"], capture_output=True, check=True).stdout.startswith(
        b"Redis server v=6"
    ):
        pytest.skip("a node of Redis 6 cannot be told its second port")
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-allow-replica-migration", "no")
    ports = [("--cluster-port", str(free_port())) for _ in range(2)]
    with serving(*options, *ports[0]) as one, serving(*options, *ports[1]) as two:
        with one.client() as first, two.client() as second:
            first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS // 2 - 1)
            second.execute_command("CLUSTER", "ADDSLOTSRANGE", SLOTS // 2, SLOTS - 1)
            first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port, ports[1][1])
            for client in (first, second):
                until(partial(is_whole, client))
        yield one, two


def is_whole(client: redis.Redis) -> bool:
    """Whether a node knows both, and that all slots are served."""
    asked: Any = client
    said = asked.execute_command("CLUSTER INFO")
    return bool(said["cluster_state"] == "ok" and said["cluster_known_nodes"] == "2")


def slot_of(namespace: str) -> int:
    slot: int = key_slot(f"{{cir:v2:{namespace}}}:values".encode())
    return slot


def namespace_in(half: int) -> str:
    """A namespace that the node with that half of the slots serves."""
    return next(name for name in map("space-{}".format, range(100)) if slot_of(name) // (SLOTS // 2) == half)


def test_a_cluster_s_node_is_found_and_followed() -> None:
    with cluster() as (one, two):
        for half in (0, 1):
            namespace = namespace_in(half)
            url = f"redis+cluster://127.0.0.1:{one.port},127.0.0.1:{two.port}?namespace={namespace}"
            with closing(RedisStore(url)) as store:
                incarnation = joined(store)
                assert (one, two)[half].client().exists(f"{{cir:v2:{namespace}}}:values")
                move(namespace, (one, two)[half], (two, one)[half])
                assert isinstance(store.run(Heartbeat(incarnation)), Beaten)
                assert (two, one)[half].client().exists(f"{{cir:v2:{namespace}}}:values")


def move(namespace: str, source: Server, target: Server) -> None:
    """Move the slot of a namespace to another node, as operators do."""
    slot = slot_of(namespace)
    with source.client() as old, target.client() as new:
        there, here = (client.execute_command("CLUSTER MYID").decode() for client in (new, old))
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        keys = [f"{{cir:v2:{namespace}}}:{name}" for name in ("values", "order")]
        old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)


def test_the_tasks_of_a_loop_find_a_cluster_s_node_too() -> None:
    async def main(url: str) -> None:
        store = AsyncRedisStore(url)
        asked = (store.run(Join(f"i{number}", "n", 1, "here", "here")) for number in range(20))
        assert all(isinstance(result, Joined) for result in await asyncio.gather(*asked))
        assert len((await store.run(Snapshot())).instances) == 20
        await store.close()

    with cluster() as (one, _):
        asyncio.run(main(f"redis+cluster://127.0.0.1:{one.port}?namespace={namespace_in(1)}"))


def test_the_doctor_examines_the_node_that_holds_the_namespace() -> None:
    with cluster() as (one, two):
        with two.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        hosts = f"127.0.0.1:1,127.0.0.1:{one.port}"
        policies = [examine(f"redis+cluster://{hosts}?namespace={namespace_in(half)}").eviction for half in (0, 1)]
    assert policies == ["noeviction", "allkeys-lru"]


# --- Sentinel ------------------------------------------------------------------------------------------------------


@contextmanager
def sentinel(primary: Server) -> Iterator[int]:
    """One that watches a primary called `mine` impatiently; its port."""
    port, found = free_port(), str(program())
    config = primary.folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {primary.folder}\nsentinel monitor mine 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds mine 300\nsentinel failover-timeout mine 2000\n"
    )
    with (primary.folder / "sentinel.log").open("wb") as log:
        process = subprocess.Popen([found, str(config), "--sentinel"], stdout=log, stderr=log)
    try:
        with redis.Redis(port=port) as client:
            until(lambda: int(client.sentinel_master("mine")["num-slaves"]) == 1)
        yield port
    finally:
        process.kill()
        process.wait()


def test_sentinels_name_the_primary_also_after_a_failover() -> None:
    with serving() as primary, serving("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        with primary.client() as client:
            until(lambda: client.info("replication")["connected_slaves"] == 1)
        with sentinel(primary) as port:
            url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/mine?patience=60&connect_timeout=1&timeout=1"
            with closing(RedisStore(url)) as store:
                incarnation = joined(store)
                with primary.client() as client:
                    client.wait(1, 5000)
                primary.kill()
                assert isinstance(store.run(Heartbeat(incarnation)), Beaten | Fenced)
                assert isinstance(store.run(Heartbeat(joined(store, "b"))), Beaten)
                until(lambda: replica.connections() == 2)  # for calls, and for wakes


def test_sentinels_that_are_gone_are_told() -> None:
    url = "redis+sentinel://127.0.0.1:1/mine?patience=0.1&connect_timeout=0.1&sentinel_password=secret"
    with pytest.raises(StoreUnavailable, match=r"no Sentinel names a primary for mine: 127\.0\.0\.1:1$"):
        RedisStore(url)


def test_nobody_waits_for_whom_a_sentinel_lets_wait() -> None:
    """An event loop tells that its connection is lost while another thread asks where the primary is."""
    with ThreadPoolExecutor(2) as threads, socket.create_server(("127.0.0.1", 0)) as silent:
        servers = Servers(parse(f"redis+sentinel://127.0.0.1:{silent.getsockname()[1]}/mine?timeout=60"))
        asking = threads.submit(servers.connect, Haste())
        with silent.accept()[0]:
            threads.submit(servers.lost, fault_of(ConnectionError())).result(PATIENCE)
            assert not asking.done()
            silent.close()
        with pytest.raises(exceptions.ConnectionError, match="no Sentinel"):
            asking.result()


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for loopback, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def encrypted(target: int, certificate: Path) -> Iterator[int]:
    """A port that speaks TLS before a server that does not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    started, port, ended = threading.Event(), [0], asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(65_536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer))

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as server:
            port[0] = server.sockets[0].getsockname()[1]
            started.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    started.wait()
    try:
        yield port[0]
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()


def test_both_kinds_of_connection_take_every_option() -> None:
    files = ("ca_certs", "ca_path", "certfile", "keyfile", "password")
    options = "&".join((*(f"ssl_{name}=/some" for name in files), "ssl_cert_reqs=optional", "ssl_check_hostname=true"))
    servers = Servers(parse(f"rediss://user:secret@h/1?{options}"))
    for kind in (redis.SSLConnection, aredis.SSLConnection):
        made, arguments = servers._way(None, kind, None)
        connection = made(**arguments)
        assert (connection.host, connection.username, connection.password) == ("h", "user", "secret")
        tls = getattr(connection, "ssl_context", connection)
        assert (tls.ca_certs, tls.ca_path, tls.certfile, tls.keyfile) == ("/some",) * 4
        assert (tls.cert_reqs, tls.check_hostname) == (ssl.CERT_OPTIONAL, True)


def test_tls_with_a_certificate_that_is_known(certificate: Path) -> None:
    with serving() as server, encrypted(server.port, certificate) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        with closing(RedisStore(url)) as store:
            assert isinstance(store.run(Heartbeat(joined(store))), Beaten)

        async def main() -> None:
            store = AsyncRedisStore(url)
            assert len((await store.run(Snapshot())).instances) == 1
            await store.close()

        asyncio.run(main())


def test_tls_with_a_certificate_that_is_not_known_is_refused(certificate: Path) -> None:
    with serving() as server, encrypted(server.port, certificate) as port:
        with pytest.raises(ConfigError, match="ssl_ca_certs"):
            RedisStore(f"rediss://127.0.0.1:{port}")
        with closing(RedisStore(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none&ssl_check_hostname=false")) as store:
            assert store.run(Snapshot()).instances == ()
