"""The Lua rules beside Python's: the same answers to the integer, whatever is asked; and what they leave behind."""

from __future__ import annotations

import re
from contextlib import suppress
from random import Random
from typing import Any

import msgspec
import pytest
import redis
from tests.stores.redis_scripts import Scripted, without_glance

from cross_instance.rules.apply import RULES
from cross_instance.rules.limits import new_limit
from cross_instance.rules.operations import (
    DAY,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Cancel,
    Configure,
    Configured,
    Costs,
    Fenced,
    Granted,
    Heartbeat,
    Instant,
    Join,
    Joined,
    Keep,
    Kind,
    Leave,
    LimitSpec,
    Lock,
    Operation,
    Outcome,
    Refused,
    Settle,
    Signals,
    Snapshot,
    Source,
    Sweep,
    Told,
    Unlearn,
    Unlock,
    Waiting,
    World,
)
from cross_instance.rules.records import decode_node
from cross_instance.rules.tables import NODE, named
from cross_instance.stores.redis.scripts import FIRST, LUA, Scripts
from cross_instance.stores.redis.wire import NAMES
from cross_instance.testing import FakeClock, ModelStore
from cross_instance.testing.conformance import Elapse, random_operations
from cross_instance.testing.conformance.mirror import Mirror
from cross_instance.testing.conformance.storming import adds_up

ACCOUNT = "openai:main"
WEEK_MS = 7 * 24 * 3_600 * 1_000


# --- to the integer ------------------------------------------------------------------------------------------------


def weather(client: redis.Redis, seed: int, operations: int, replaced: dict[str, str] | None = None) -> int:
    """A storm on scripts and model, at instants as small as an uptime or as large as today.

    How many operations were answered alike, a last look at all that is left among them.
    """
    clock = FakeClock(0 if seed % 2 else 1_790_000_000_000_000)
    mirror = Mirror(Scripted(client, clock=clock, replaced=replaced))
    storm, result = random_operations(seed, operations), None
    with suppress(StopIteration):
        while True:
            step = storm.send(result)
            result = None
            if isinstance(step, Elapse):
                clock.advance(step.us)
                continue
            with suppress(ValueError):  # the model refuses it too
                result = mirror.run(step)
            if isinstance(result, World):
                adds_up(result)
    mirror.run(Snapshot())
    return mirror.compared


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_is_answered_as_the_model_answers_it(client: redis.Redis, seed: int) -> None:
    assert weather(client, 900 + seed, 300) == 301


@pytest.mark.parametrize("seed", range(2))
def test_the_glance_changes_no_answer(client: redis.Redis, seed: int) -> None:
    assert weather(client, 950 + seed, 300, without_glance()) == 301


@pytest.mark.parametrize("seed", range(3))
def test_plain_traffic_is_answered_as_the_model_answers_it(client: redis.Redis, seed: int) -> None:
    """Permits of one account without waiters, in flight together: what the glance is for."""
    random, clock = Random(seed), FakeClock(1_790_000_000_000_000)
    mirror = Mirror(Scripted(client, clock=clock))
    joined = mirror.run(Join("one", "nonce", pid=1, machine="here", host="here", timeout=3_600 * SECOND))
    assert isinstance(joined, Joined)
    limits = (
        LimitSpec(Kind.REQUESTS, 6_001, 400),
        LimitSpec(Kind.REQUESTS_DAY, 90_000, 90_000, random.choice((DAY, 5 * SECOND)), anchor=7 * SECOND),
        LimitSpec(Kind.TOKENS, 60_013, 9_000, refund=False),
        LimitSpec(Kind.INPUT_TOKENS, 40_000, 8_000, correct=random.random() < 0.5),
        LimitSpec(Kind.CONCURRENCY, 60),
    )
    mirror.run(Configure(joined.incarnation, ACCOUNT, AccountSpec(limits, spread=random.choice((0, 40_000)))))
    held: list[Acquire] = []
    for seq in range(1, 500):
        clock.advance(random.choice((0, 900, 40_000, 40_000, 300_000, 6 * SECOND if seq % 40 == 0 else 70_000)))
        costs = Costs(tokens=random.randrange(120), input_tokens=random.choice((0, 7, 60)))
        ask = Acquire(joined.incarnation, seq, ACCOUNT, revision=1, costs=costs, timeout=0)
        if isinstance(mirror.run(ask), Granted):
            held.append(ask)
        while held and random.random() < 0.15 + len(held) / 60:
            done = held.pop(random.randrange(len(held)))
            used = Costs(tokens=max(0, done.costs.tokens - random.choice((0, 3, 40))), input_tokens=random.randrange(9))
            delay = random.choice((0, 5_000, random.randrange(90_000)))
            usage = random.choice((None, used, used, used))
            mirror.run(Settle(done.incarnation, done.seq, usage=usage, delay=delay))
        if seq % 50 == 0:
            mirror.run(Snapshot())


HEIGHTS = """
local records = require "records"
return cmsgpack.pack(records.read_node(redis.call("HGET", KEYS[1], ARGV[1])).limits[1].peaks)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_bucket_remembers_the_same_heights(client: redis.Redis, seed: int) -> None:
    """Also where what was given back has raised a later height above an earlier one."""
    random, clock = Random(seed), FakeClock(0)
    store, model = Scripted(client, clock=clock), ModelStore(clock)
    heights = client.register_script(Scripts({"heights": HEIGHTS})["heights"].text)

    def run(op: Operation[Any]) -> Any:
        answer = store.run(op)
        assert answer == model.run(op)
        return answer

    me = run(Join("one", "nonce", pid=1, machine="here", host="here", timeout=3_600 * SECOND)).incarnation
    revision = run(Configure(me, ACCOUNT, AccountSpec((LimitSpec(Kind.REQUESTS, 333, 100),)))).revision
    held: list[int] = []
    for seq in range(1, 200):
        clock.advance(random.choice((0, 20_000, 100_000, 400_000)))
        if isinstance(run(Acquire(me, seq, ACCOUNT, revision=revision, timeout=0)), Granted):
            held.append(seq)
        while held and random.random() < 0.4:
            run(random.choice((Cancel, Settle))(me, held.pop(random.randrange(len(held)))))
        node = decode_node(model.tables.get(named(NODE, ACCOUNT)) or b"")
        found: Any = heights(keys=[store.keys[0]], args=[named(b"n", ACCOUNT)])
        assert msgspec.msgpack.decode(found) == [figure for peak in node.limits[0].peaks for figure in peak]


def test_the_plain_case_is_decided_at_a_glance(client: redis.Redis) -> None:
    store = Scripted(client, replaced={"ledger": "error('the whole decision')\n"})
    whole = Scripted(client)
    me, revision = published(whole)
    for seq in range(1, 30):
        assert isinstance(store.run(Acquire(me, seq, ACCOUNT, revision=revision, costs=Costs(tokens=7))), Granted)
    for seq in range(1, 30):
        assert store.run(Settle(me, seq, usage=Costs(tokens=5), delay=300 + seq)).known


def test_an_offer_is_taken_at_a_glance(client: redis.Redis) -> None:
    store = Scripted(client, replaced={"ledger": "error('the whole decision')\n"})
    whole = Scripted(client)
    me, revision = published(whole, LimitSpec(Kind.CONCURRENCY, 1, period=0))
    first, second = (Acquire(me, seq, ACCOUNT, revision=revision) for seq in (1, 2))
    assert isinstance(whole.run(first), Granted)
    assert isinstance(whole.run(second), Waiting)
    assert [wake.seq for wake in whole.run(Settle(me, 1)).wakes] == [2]
    taken = store.run(second)
    assert isinstance(taken, Granted)
    assert taken.waited > 0
    told = whole.run(second)
    assert isinstance(told, Granted)
    assert (told.waited >= taken.waited, told.epochs) == (True, taken.epochs)


def published(store: Scripted, *more: LimitSpec) -> tuple[int, int]:
    """An instance with limits that nothing here exhausts; its incarnation and the revision to quote."""
    joined = store.run(Join("one", "nonce", pid=1, machine="here", host="here"))
    assert isinstance(joined, Joined)
    limits = (LimitSpec(Kind.REQUESTS, 6_000, 600), LimitSpec(Kind.TOKENS, 60_000, 60_000), *more)
    configured = store.run(Configure(joined.incarnation, ACCOUNT, AccountSpec(limits)))
    assert isinstance(configured, Configured)
    return joined.incarnation, configured.revision


class Giants:
    """Operations with figures at the edge of what is exact: limits, costs, delays, what is told and what is owed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def figure(self, bits: int) -> int:
        return self.random.choice(
            (0, 1, (1 << bits) - 1, self.random.randrange(1 << bits), self.random.randrange(1024))
        )

    def pause(self) -> int:
        return self.random.choice((0, 1, SECOND, self.random.randrange(1 << self.random.randrange(1, 46))))

    def costs(self) -> Costs:
        return Costs(max(1, self.figure(30)), self.figure(30), self.figure(30), self.figure(30))

    def limit(self) -> LimitSpec:
        kind = self.random.choice([kind for kind in Kind if kind is not Kind.CONCURRENCY])
        period = self.random.choice((1, MINUTE, DAY, 1 + self.figure(44)))
        flags = self.random.random() < 0.7, self.random.random() < 0.5
        anchor = self.random.choice((None, None, 0, 123))
        source = self.random.choice([*Source])
        spec = LimitSpec(kind, 1 + self.figure(33), 1 + self.figure(40), period, source, *flags, anchor)
        try:
            new_limit(spec, Instant(0, 0))
        except ValueError:
            return self.limit()
        return spec

    def configure(self, incarnation: int) -> Configure:
        limits = {limit.kind: limit for limit in (self.limit() for _ in range(3))}
        spec = AccountSpec(tuple(limits.values()), spread=self.random.choice((0, 1_000, 10 * SECOND, 1 << 40)))
        return Configure(incarnation, ACCOUNT, spec, 1 + self.figure(19), min(self.figure(20), 1_000_000))

    def settle(self, of: Acquire) -> Settle:
        told = Told(
            self.random.choice([*Kind]),
            self.figure(60),
            self.random.choice((None, 0, 1 << 52)),
            period=self.random.choice((0, 1, MINUTE, 1 << 40, 1 << 60)),
        )
        signals = Signals(
            self.random.choice((None, *Kind)), self.random.choice((None, 1, 1 << 52)), self.random.choice(((), (told,)))
        )
        return Settle(
            of.incarnation,
            of.seq,
            self.random.choice([*Outcome]),
            self.random.choice((None, self.costs())),
            self.random.choice((Signals(), signals)),
            delay=self.figure(50),
            draw=self.figure(32),
        )


@pytest.mark.parametrize("seed", range(6))
def test_figures_at_the_edge_of_what_is_exact(client: redis.Redis, seed: int) -> None:
    giants, clock = Giants(seed), FakeClock(0 if seed % 2 else 1_790_000_000_000_000)
    mirror, random = Mirror(Scripted(client, clock=clock)), giants.random
    lives = [
        mirror.run(Join(name, "nonce", pid=1, machine="here", host="here", timeout=1 << 50)) for name in ("one", "two")
    ]
    incarnations = [joined.incarnation for joined in lives if isinstance(joined, Joined)]
    revision, asked, held = 0, [Acquire(incarnations[0], 0, ACCOUNT)], [Acquire(incarnations[0], 0, ACCOUNT)]
    for seq in range(1, 250):
        clock.advance(giants.pause())
        draw = random.random()
        if draw < 0.12 or not revision:
            configured = mirror.run(giants.configure(random.choice(incarnations)))
            assert isinstance(configured, Configured)
            revision = configured.revision
        elif draw < 0.7:
            new = Acquire(random.choice(incarnations), seq, ACCOUNT, revision=revision, costs=giants.costs())
            ask = random.choice((new, new, random.choice(asked)))
            asked = [*asked[-9:], ask]
            held += [ask] if isinstance(mirror.run(ask), Granted) else []
        else:
            mirror.run(giants.settle(held.pop(random.randrange(len(held))) if held else asked[0]))
    mirror.run(Snapshot())


# --- what it costs -------------------------------------------------------------------------------------------------


ARGUMENT = re.compile(r'"(?:[^"\\]|\\.)*"')


def arguments_used(client: redis.Redis, store: Scripted, op: Operation[Any]) -> int:
    """How many arguments the commands of an operation's script have: it reads and writes no more records than that."""
    total = 0
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        store.run(op)
        client.echo("over")
        while not (said := monitor.connection.read_response().decode()).endswith('"ECHO" "over"'):
            total += len(ARGUMENT.findall(said)) if " lua] " in said else 0
    return total


def test_to_publish_and_to_go_costs_the_hundredth_instance_no_more_than_the_third(client: redis.Redis) -> None:
    clock = FakeClock()
    store, spec = Scripted(client, clock=clock), AccountSpec((LimitSpec(Kind.REQUESTS, 6_000, 600),))
    new = AccountSpec((LimitSpec(Kind.REQUESTS, 3_000, 300),))
    costs = []
    for more in (3, 100):
        members = [member(store, f"{more}-{number}", spec) for number in range(more)]
        clock.advance(SECOND)
        me = members[-1]
        ops = (Configure(me, ACCOUNT, new), Configure(me, ACCOUNT, spec), Leave(me))
        costs.append([arguments_used(client, store, op) for op in ops])
    assert all(late <= early for early, late in zip(*costs, strict=True)), costs
    assert min(costs[0]) > 10


def member(store: Scripted, name: str, spec: AccountSpec) -> int:
    joined = store.run(Join(name, "nonce", pid=1, machine="here", host="here"))
    assert isinstance(joined, Joined)
    store.run(Configure(joined.incarnation, ACCOUNT, spec))
    return joined.incarnation


# --- the clock -----------------------------------------------------------------------------------------------------


def stored_instant(mono: int, wall: int) -> bytes:
    return wall.to_bytes(8) + (mono - wall).to_bytes(8)


def test_a_clock_that_is_set_back_goes_on_from_the_latest_instant(client: redis.Redis) -> None:
    store = Scripted(client)
    me, _ = published(store)
    now = store.run(Heartbeat(me)).at
    ahead = now.wall + 3_600 * SECOND
    client.hset(store.keys[0], "@", stored_instant(ahead, ahead))
    instants = [store.run(Heartbeat(me)).at for _ in range(5)]
    monos = [at.mono for at in instants]
    assert monos == sorted(monos)
    assert ahead <= monos[0] < ahead + 60 * SECOND
    assert now.wall <= instants[0].wall < now.wall + 60 * SECOND
    assert instants[-1].mono - monos[0] == instants[-1].wall - instants[0].wall, "it goes on at the clock's pace"


# --- what is left behind -------------------------------------------------------------------------------------------


def test_an_abandoned_namespace_goes_after_a_week(client: redis.Redis) -> None:
    store = Scripted(client)
    me, _ = published(store)
    for key in store.keys[:2]:
        client.pexpire(key, 10_000)
    store.run(Heartbeat(me))
    assert all(WEEK_MS - 60_000 < client.pttl(key) <= WEEK_MS for key in store.keys[:2])


@pytest.mark.parametrize(
    "op",
    [
        Snapshot(),
        Sweep(),
        Sweep((5,)),
        Settle(5, 1),
        Cancel(5, 1),
        Leave(5),
        Heartbeat(5),
        Acquire(5, 1, ACCOUNT),
        Lock(5, "name", "token", SECOND),
        Unlock("name", "token"),
        Configure(5, ACCOUNT, AccountSpec()),
        Keep(5),
        Unlearn(),
    ],
    ids=lambda op: type(op).__name__,
)
def test_what_finds_nothing_leaves_nothing(client: redis.Redis, op: Operation[Any]) -> None:
    Scripted(client).run(op)
    assert client.dbsize() == 0


def test_a_life_leaves_no_more_than_fences_and_usage(client: redis.Redis) -> None:
    """Whatever instances did, what is kept of those that left does not grow with their number."""
    store = Scripted(client)
    sizes = []
    for _ in range(3):
        me, revision = published(store, LimitSpec(Kind.CONCURRENCY, 2))
        for seq in range(1, 6):
            store.run(Acquire(me, seq, ACCOUNT, revision=revision))
        store.run(Leave(me))
        sizes.append((client.hlen(store.keys[0]), client.zcard(store.keys[1])))
    assert sizes[0] == sizes[1] == sizes[2]


def test_the_nonce_tells_two_lives_of_one_number_apart(client: redis.Redis) -> None:
    store = Scripted(client)
    me, revision = published(store)
    assert isinstance(store.run(Acquire(me, 1, ACCOUNT, revision=revision), nonce="nonce"), Granted)
    assert isinstance(store.run(Acquire(me, 1, ACCOUNT, revision=revision), nonce="other"), Fenced)
    assert isinstance(store.run(Heartbeat(me), nonce="other"), Fenced)
    assert isinstance(store.run(Configure(me, ACCOUNT, AccountSpec()), nonce="other"), Fenced)
    assert isinstance(store.run(Lock(me, "name", "token", SECOND), nonce="other"), Fenced)
    assert store.run(Cancel(me, 1), nonce="other").was == "unknown"
    assert not store.run(Settle(me, 1), nonce="other").known
    assert not store.run(Leave(me), nonce="other").known
    assert store.run(Settle(me, 1), nonce="nonce").known


def test_giving_back_works_without_memory(client: redis.Redis) -> None:
    store = Scripted(client)
    me, revision = published(store, LimitSpec(Kind.CONCURRENCY, 4))
    for seq in range(1, 5):
        store.run(Acquire(me, seq, ACCOUNT, revision=revision))
    assert isinstance(store.run(Acquire(me, 5, ACCOUNT, revision=revision)), Waiting)
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", max(1, used // 2))
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            store.run(Acquire(me, 6, ACCOUNT, revision=revision))
        assert store.run(Settle(me, 1)).known
        assert store.run(Settle(me, 2)).known
        assert store.run(Cancel(me, 3)).was == "granted"
        assert not isinstance(store.run(Heartbeat(me)), Fenced)
        assert store.run(Leave(me)).known
    finally:
        client.config_set("maxmemory", 0)
    assert store.run(Snapshot()).instances == ()


def test_a_group_that_is_no_pattern_is_refused_and_changes_nothing(client: redis.Redis) -> None:
    store = Scripted(client)
    me, revision = published(store)
    before = store.run(Snapshot()).nodes
    with pytest.raises(ValueError, match="none of the patterns"):
        store.run(Acquire(me, 1, ACCOUNT, group="gpt-*", revision=revision))
    assert [node.node for node in store.run(Snapshot()).nodes] == [node.node for node in before]


def test_a_refusal_names_the_limit(client: redis.Redis) -> None:
    store = Scripted(client)
    me, revision = published(store)
    refused = store.run(Acquire(me, 1, ACCOUNT, revision=revision, costs=Costs(tokens=60_001)))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.needed) == ("too_large", 60_001)
    assert refused.limit is not None
    assert refused.limit.kind is Kind.TOKENS


# --- the files -----------------------------------------------------------------------------------------------------

FILES = sorted(path.name for path in LUA.iterdir() if path.name.endswith(".lua"))


def source(name: str) -> str:
    return (LUA / name).read_text(encoding="utf-8")


def test_every_operation_has_its_file_which_names_its_keys() -> None:
    assert NAMES.keys() == RULES.keys()
    for kind, name in NAMES.items():
        head = source(f"{name}.lua").partition("\n\n")[0] + source(f"{name}.lua").partition("\nlocal ")[0]
        assert head.startswith(f"-- {kind.__name__}: "), name
        assert "\n-- Keys: " in head, name


def test_every_file_is_used_and_starts_by_saying_what_it_is() -> None:
    required = {found for name in FILES for found in re.findall(r'\brequire "(\w+)"', source(name))}
    assert {name.removesuffix(".lua") for name in FILES} == required | {*FIRST} | {*NAMES.values()}
    assert all(source(name).startswith("-- ") for name in FILES)


def test_lua_reads_no_clock_but_the_one_and_draws_nothing() -> None:
    for name in FILES:
        assert "math.random" not in source(name), name
        assert ('"TIME"' in source(name)) == (name == "clock.lua"), name
        assert all(len(line) <= 120 for line in source(name).splitlines()), name
