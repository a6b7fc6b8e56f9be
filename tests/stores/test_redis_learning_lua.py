"""The Lua learner beside Python's: the same answers and the same records, figure by figure, on accounts whose real
limits are hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings, strategies as st
from tests.stores.redis_scripts import Scripted, without_glance

from cross_instance.rules import learning, learning_values
from cross_instance.rules.learning import Learner, Stamp
from cross_instance.rules.learning_desk import rate_of
from cross_instance.rules.learning_estimate import blind_pause
from cross_instance.rules.learning_records import decode_kept, decode_learned
from cross_instance.rules.learning_values import HIGHEST, LOWEST, WHOLE
from cross_instance.rules.limits import EXACT, SHARE
from cross_instance.rules.operations import (
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    Configure,
    Configured,
    Costs,
    Granted,
    Heartbeat,
    Join,
    Joined,
    Keep,
    Kind,
    Learning,
    Leave,
    LimitSpec,
    Outcome,
    Refused,
    Settle,
    Signals,
    Snapshot,
    Source,
    Stale,
    Told,
    Unlearn,
    Waiting,
)
from cross_instance.rules.overload import DRAWS
from cross_instance.rules.patterns import most_specific
from cross_instance.rules.tables import KEPT, LEARNED
from cross_instance.stores.redis.scripts import Scripts
from cross_instance.testing import FakeClock
from cross_instance.testing.conformance.mirror import Mirror
from cross_instance.testing.simulated_account import SimulatedAccount

ACCOUNT, PATTERNS = "openai/main", ("gpt-*", "gpt-4o", "größe")

# --- what is stored ------------------------------------------------------------------------------------------------

SHOW = """
local records = require "learning_records"
local shown = {}
for place, value in ipairs(ARGV) do
  local at, learned = false, nil
  if string.sub(value, 1, 1) == "K" then
    at, learned = records.read_kept(string.sub(value, 2))
  else
    learned = records.read(string.sub(value, 2))
  end
  shown[place] = { at, learned }
end
return cmsgpack.pack(shown)
"""


def plain(value: object) -> object:
    """A record of the model as Lua has it."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value).items()
        return {"finish" if name == "end" else name: plain(one) for name, one in fields}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return False if value is None else value


class Beside(Mirror):
    """The scripts with the model beside them; not only answers are compared, but also what was learned."""

    def __init__(self, client: redis.Redis, clock: FakeClock, replaced: dict[str, str] | None = None) -> None:
        self.scripted = Scripted(client, clock=clock, replaced=replaced)
        super().__init__(self.scripted)
        self._show = client.register_script(Scripts({"show": SHOW})["show"].text)

    def compare_records(self) -> int:
        """Raises `AssertionError` where a record is not the model's; how many there are."""
        stored: Any = self.scripted.client.hgetall(self.scripted.keys[0])
        mine = {key: value for key, value in stored.items() if key[:1] in b"LK"}
        shown: Any = self._show(args=[key[:1] + value for key, value in mine.items()])
        found = dict(zip(mine, msgspec.msgpack.decode(shown), strict=True))
        expected: dict[bytes, list[object]] = {}
        for key, value in self._tables.scan(LEARNED):
            expected[b"L" + key[1:]] = [False, plain(decode_learned(value))]
        for key, value in self._tables.scan(KEPT):
            kept = decode_kept(value)
            expected[b"K" + key[1:]] = [kept.at, plain(kept.learned)]
        assert found == expected
        return len(found)


# --- hidden limits -------------------------------------------------------------------------------------------------

HOW = (
    *(Learning(), Learning(), Learning(predicts=True), Learning(simple=True), Learning(highest=200_000)),
    *(Learning(simple=True, reduction=500_000, recovery=2_000_000, lowest=20_000), Learning(lowest=30_000)),
)


class Traffic:
    """Two instances at an account whose limits only their provider knows; they change now and then.

    Half of the runs are calm: one limit is hidden, and hardly anything disturbs what is learned of it.
    """

    def __init__(self, seed: int, mirror: Beside, clock: FakeClock) -> None:
        self.random, self.mirror, self.clock = Random(seed), mirror, clock
        self.pace = self.random.choice((20_000, 50_000, 100_000))
        self.calm = self.random.random() < 0.5
        self.how = self.random.choice(HOW[:3] if self.calm else HOW)
        self.unrest = 0.001 if self.calm else self.random.choice((0.004, 0.01))
        self.seq = 0
        self.patterns: tuple[str, ...] = ()
        self.revision = 0
        self.waiting: list[Acquire] = []
        self.running: list[tuple[int, Acquire, Kind | None]] = []
        self.hide_other_limits()
        self.lives = {name: self.join(name) for name in ("one", "two")}

    def hide_other_limits(self) -> None:
        random = self.random
        rate = random.choice((60, 300, 900, 900))
        window = random.choice((None, None, 0))
        requests = LimitSpec(Kind.REQUESTS, rate, rate if window == 0 else max(1, rate // 6), anchor=window)
        tokens = LimitSpec(Kind.TOKENS, rate * 20, rate * 4)
        slots = LimitSpec(Kind.CONCURRENCY, random.choice((2, 5, 12)))
        hidden = random.choice(((requests,), (requests,), (tokens,), (slots,), (requests, tokens), (slots, tokens)))
        self.provider = SimulatedAccount(hidden, names=random.random() < 0.5)
        self.latency = random.choice((10_000, 400_000, 3 * SECOND))
        self.told = random.choice((None, None, SECOND, SECOND, 0))

    def limits(self) -> tuple[LimitSpec, ...]:
        choice = self.random.choice
        if self.calm:
            return (LimitSpec(Kind.REQUESTS, choice((60, 333)), choice((1, 100)), source=Source.PRESET),)
        source = choice((Source.PRESET, Source.PRESET, Source.GUESS, Source.CONFIGURED))
        limits = [LimitSpec(Kind.REQUESTS, choice((20, 333, 2_000, 9_000)), choice((1, 10, 100)), source=source)]
        if self.random.random() < 0.5:
            limits.append(LimitSpec(Kind.CONCURRENCY, choice((2, 4, 50)), period=0, source=choice([*Source])))
        if self.random.random() < 0.3:
            limits.append(LimitSpec(Kind.TOKENS, choice((1_000, 90_000)), 5_000, source=choice([*Source])))
        return tuple(limits)

    def join(self, name: str) -> int:
        joined = self.mirror.run(Join(name, str(self.seq), pid=1, machine=name, host=name, timeout=1 << 50))
        assert isinstance(joined, Joined)
        self.publish(joined.incarnation)
        return joined.incarnation

    def publish(self, incarnation: int) -> None:
        random = self.random
        patterns = [pattern for pattern in PATTERNS if random.random() < 0.3 and not self.calm]
        groups = tuple((pattern, self.limits() if random.random() < 0.5 else ()) for pattern in patterns)
        how = self.how if random.random() < 0.95 else random.choice((None, *HOW))
        spec = AccountSpec(self.limits(), groups, learning=how, spread=random.choice((0, 20_000)))
        self.heard(self.mirror.run(Configure(incarnation, ACCOUNT, spec, reserve=random.choice((0, 0, 7)))))

    def heard(self, result: object) -> None:
        if isinstance(result, (Configured, Stale)):
            self.revision, self.patterns = result.revision, result.patterns

    def step(self) -> None:
        """Some time passes; what has ended is settled; something is asked for."""
        self.clock.advance(self.random.choice((0, self.pace, self.pace, self.pace, 3 * self.pace)))
        draw = self.random.random()
        if draw < self.unrest:
            self.interlude()
        for ended in [one for one in self.running if one[0] <= self.clock.mono]:
            self.running.remove(ended)
            self.settle(ended[1], ended[2])
        if draw < 0.25 and self.waiting:
            self.ask(self.waiting.pop(self.random.randrange(len(self.waiting))))
        elif len(self.waiting) < 5:
            self.seq += 1
            model = self.random.choice(("gpt-4o", "gpt-3", "größe", "o1", "o1"))
            costs = Costs(1, self.random.choice((0, 3, 40)))
            timeout = self.random.choice((0, 0, 0, FOREVER))
            who = self.random.choice([*self.lives.values()])
            self.ask(Acquire(who, self.seq, ACCOUNT, model=model, costs=costs, timeout=timeout))

    def ask(self, op: Acquire) -> None:
        op = msgspec.structs.replace(op, revision=self.revision, group=most_specific(self.patterns, op.model))
        result = self.mirror.run(op)
        self.heard(result)
        if isinstance(result, Granted):
            hit = self.provider.arrive(op.costs, self.clock.mono, self.clock().wall)
            due = self.clock.mono + (self.latency if hit is None else self.latency // 4)
            self.running.append((due, op, hit))
        elif isinstance(result, Waiting):
            self.waiting.append(op)
        elif isinstance(result, Refused):
            self.clock.advance(min(result.retry_after, SECOND))

    def settle(self, of: Acquire, hit: Kind | None) -> None:
        random = self.random
        signals, outcome = Signals(told=self.stated()), Outcome.SUCCESS
        if hit is None:
            self.provider.running -= 1
            outcome = random.choices([*Outcome], [400, 1, 1, 6, 2, 2])[0]
        else:
            outcome, told = Outcome.REJECTED, random.choice((self.told, self.told, self.told, None))
            kind = hit if self.provider.names else random.choices([None, *Kind], [90, 1, 1, 1, 1, 1, 1])[0]
            signals = Signals(kind, told, signals.told, "no credit" if random.random() < 0.02 else None)
        usage = random.choice((None, of.costs))
        delay, draw = random.choice((0, 1_000, 30_000)), random.randrange(1 << 32)
        self.mirror.run(Settle(of.incarnation, of.seq, outcome, usage, signals, delay=delay, draw=draw))

    def stated(self) -> tuple[Told, ...]:
        if self.random.random() > 0.004:
            return ()
        kind = self.random.choice((Kind.REQUESTS, Kind.REQUESTS, Kind.TOKENS, Kind.CONCURRENCY))
        return (Told(kind, self.random.choice((1, 30, 60, 250, 5_000)), self.random.choice((None, 0, 9))),)

    def interlude(self) -> None:
        """What happens seldom."""
        name, draw = self.random.choice([*self.lives]), self.random.random()
        if draw < 0.45:
            self.mirror.run(Heartbeat(self.lives[name]))
            self.mirror.run(Keep(self.lives[name]))
        elif draw < 0.6:
            self.clock.advance(self.random.choice((SECOND, 7 * SECOND, 7 * SECOND, 70 * SECOND, 16 * MINUTE)))
        elif draw < 0.7:
            self.publish(self.lives[name])
        elif draw < 0.8:
            self.hide_other_limits()
        elif draw < 0.85:
            choices = ("", "openai", "acme"), ("", ACCOUNT), ("", "GPT-4o", "o1", "größe")
            self.mirror.run(Unlearn(*map(self.random.choice, choices)))
        elif draw < 0.9:
            self.mirror.run(Leave(self.lives[name]))
            self.waiting = [op for op in self.waiting if op.incarnation != self.lives[name]]
            self.lives[name] = self.join(name)
        else:
            self.mirror.run(Snapshot())


def run_traffic(client: redis.Redis, seed: int, steps: int, replaced: dict[str, str] | None = None) -> int:
    """Traffic on scripts and model; what was learned is compared often, so that the first difference is found.

    How many operations were answered alike.
    """
    clock = FakeClock(0 if seed % 2 else 1_790_000_000_000_000)
    mirror = Beside(client, clock, replaced)
    traffic = Traffic(seed, mirror, clock)
    for number in range(steps):
        traffic.step()
        if number % 10 == 0:
            mirror.compare_records()
    mirror.run(Snapshot())
    mirror.compare_records()
    return mirror.compared


@pytest.mark.parametrize("seed", range(6))
def test_hidden_limits_are_learned_alike(client: redis.Redis, seed: int) -> None:
    assert run_traffic(client, seed, 600) > 200


@pytest.mark.parametrize("seed", range(6, 9))
def test_the_glance_changes_nothing_that_is_learned(client: redis.Redis, seed: int) -> None:
    assert run_traffic(client, seed, 400, without_glance()) > 100


# --- the learner by itself -----------------------------------------------------------------------------------------

LEARN = """
local learning = require "learning"
local learner, shown = false, {}
for place, event in ipairs(cmsgpack.unpack(ARGV[1])) do
  local what, now, stamp, more = unpack(event)
  if what == "new" then
    learner = learning.new_learner(more.rate, now, 0)
  elseif what == "granted" then
    learner = learning.granted(learner, now, stamp, more.tokens or nil, more.most)
  elseif what == "rejected" then
    more.kind, more.tokens = more.kind or nil, more.tokens or nil
    learner = learning.rejected(learner, now, stamp, more)
  elseif what == "told" then
    learner = learning.header_told(learner, now, more.serial, more.limit)
  else
    learner = what == "succeeded" and learning.succeeded(learner, stamp) or learning.timed_out(learner, now, stamp)
  end
  local pause = what == "rejected" and learning.pause_of(learner, now, stamp, more.kind, more.draw) or 0
  shown[place] = { learner, pause }
end
return cmsgpack.pack(shown)
"""


class Career:
    """What happens to a learner: anything, an outage, or overloads at a hidden rate, at hidden slots or in hidden
    windows; in turns."""

    LIVES = ("anything", "anything", "outage", "rate", "slots")

    def __init__(self, seed: int, life: str | None = None) -> None:
        self.random = random = Random(seed)
        self.stays = life is not None
        self.life = life or random.choice(self.LIVES)
        self.now, self.serial, self.spent, self.resume = random.choice((MINUTE, 1 << 50)), 0, 0, 0
        rate = random.choice((LOWEST, 60_000, 3_000_000, HIGHEST if self.life == "anything" else 600_000))
        rate = 60_000 if life == "window" else rate
        self.hidden = 3 * rate
        self.span, self.window, self.left = random.choice((10, 60)) * SECOND, 0, 0
        self.learner = learning.new_learner(rate, self.now)
        self.events: list[object] = [("new", self.now, False, {"rate": rate})]
        self.states = [[plain(self.learner), 0]]
        self.busy = 1.0 if life == "window" else random.choice((0.3, 0.9, 1.0, 1.0))
        self.overloads = random.choice((0.02, 0.1, 0.3))

    def step(self) -> None:
        random, rate = self.random, self.learner.requests.rate
        self.life = random.choice(self.LIVES) if random.random() < 0.004 and not self.stays else self.life
        passed = random.choice((0, 20_000, SECOND, 5 * SECOND, 6 * SECOND, 20 * SECOND))
        passed = 16 * MINUTE if random.random() < 0.003 else passed
        passed = random.choice((200_000, 500_000, SECOND)) if self.life == "window" else passed
        patient = self.life == "window" or random.random() < 0.8
        self.now = max(self.now + passed, self.resume if patient else 0)
        most = min(int(learning_values.units_in(rate, min(passed, MINUTE)) * self.busy), 1 << 40)
        self.serial += random.choice(
            {"outage": (0, 0, 1, 2), "rate": (most,), "window": (most,)}.get(self.life, (1, most, most))
        )
        self.spent += random.randrange(1, 5_000)
        overloads = {"outage": 0.95, "slots": 0.1, "rate": rate > self.hidden}.get(self.life, self.overloads)
        overloads = self.is_full(most) if self.life == "window" else overloads
        draw = random.random()
        if draw < overloads:
            self.rejected()
        elif draw < overloads + 0.1:
            self.other()
        else:
            self.granted()

    def is_full(self, units: int) -> bool:
        """Whether the present window has no room for these."""
        if self.now // self.span != self.window:
            self.window = self.now // self.span
            self.left = learning_values.units_in(self.hidden, self.span)
        self.left -= units
        return self.left < 0

    def stamp(self, size: int = 1) -> Stamp:
        held = self.random.choice((0, 1, 7, 19, 20, 20, 21, 400))
        held = max(19, self.learner.slots.cap - 1) if self.life == "slots" else held
        return Stamp(self.serial, self.now, held, size)

    def past(self) -> Stamp:
        """A stamp of a while ago."""
        lags = ((0, 0), (90_000, 2), (SECOND, 30), (MINUTE, 400)) if self.life == "anything" else ((0, 0),)
        lag, missed = self.random.choice(lags)
        return msgspec.structs.replace(self.stamp(), serial=max(0, self.serial - missed), at=self.now - lag)

    def tokens(self) -> Stamp | None:
        return None if self.random.random() < 0.3 else Stamp(self.spent, self.now, 0, self.random.randrange(1, 5_000))

    def granted(self) -> None:
        stamp, tokens, choice = self.stamp(), self.tokens(), self.random.choice
        most = {"requests": choice((HIGHEST, 4_000_000)), "slots": choice((0, 30)), "tokens": choice((HIGHEST, 9_000))}
        new = learning.granted(
            self.learner,
            self.now,
            stamp,
            tokens,
            ceiling=most["requests"],
            most_slots=most["slots"],
            most_tokens=most["tokens"],
        )
        self.note(new, "granted", stamp, {"tokens": plain(tokens), "most": most})

    def rejected(self) -> None:
        random, stamp, tokens = self.random, self.past(), self.tokens()
        kind, moved, told = None, True, random.random() < 0.5
        if self.life == "anything":
            kind, moved = random.choices([None, *Kind], [80, 1, 1, 10, 1, 1, 10])[0], random.random() < 0.7
        elif self.life == "slots":
            stamp = msgspec.structs.replace(stamp, held=20)
        draw = random.randrange(DRAWS)
        self.resume = self.now + random.choice((0, SECOND, 8 * SECOND, 32 * SECOND))
        if self.life == "window":
            told, self.resume = False, self.now + learning.pause_of(self.learner, self.now, stamp, None, draw, DRAWS)
        how: dict[str, Any] = {"moved": moved, "told": told, "kind": kind, "tokens": tokens}
        new = learning.rejected(self.learner, self.now, stamp, self.resume, **how)
        more = {name: plain(value) for name, value in how.items()} | {"resume": self.resume, "draw": draw}
        self.note(new, "rejected", stamp, more, learning.pause_of(new, self.now, stamp, kind, draw, DRAWS))

    def other(self) -> None:
        stamp, draw = self.past(), self.random.random()
        if draw < 0.8:
            self.note(learning.succeeded(self.learner, stamp), "succeeded", stamp, {})
        elif draw < 0.95:
            self.note(learning.timed_out(self.learner, self.now, stamp), "timed_out", stamp, {})
        else:
            limit = self.random.choice((1, 60_000, 300_000, self.learner.requests.estimate, 1 << 52))
            new = learning.header_told(self.learner, self.now, self.serial, limit)
            self.note(new, "told", None, {"serial": self.serial, "limit": limit})

    def note(self, new: Learner, what: str, stamp: Stamp | None, more: dict[str, Any], pause: int = 0) -> None:
        self.learner = new
        self.events.append((what, self.now, plain(stamp), more))
        self.states.append([plain(new), pause])


@pytest.mark.parametrize("seed", range(30))
def test_the_learner_by_itself_comes_to_the_same_figures(client: redis.Redis, seed: int) -> None:
    career = Career(seed)
    for _ in range(250):
        career.step()
    assert other_than_the_models(client, career) == []


@pytest.mark.parametrize("seed", [0, 1, 3, 6])
def test_windows_are_recognised_alike(client: redis.Redis, seed: int) -> None:
    career = Career(seed, "window")
    for _ in range(3_000):
        career.step()
    assert career.learner.requests.window.span == career.span
    assert other_than_the_models(client, career) == []


def other_than_the_models(client: redis.Redis, career: Career) -> list[tuple[object, object, object]]:
    """The first event after which a script's learner is another than the model's, with both; [] where there is none."""
    script = client.register_script(Scripts({"learn": LEARN})["learn"].text)
    answer: Any = script(args=[msgspec.msgpack.encode(career.events)])
    came: Iterator[tuple[object, object, object]] = zip(
        career.events, career.states, msgspec.msgpack.decode(answer), strict=True
    )
    return [(event, expected, found) for event, expected, found in came if found != expected][:1]


# --- one function by itself ----------------------------------------------------------------------------------------

CALL = """
local estimate, values, patterns = require "learning_estimate", require "learning_values", require "patterns"
local asked = cmsgpack.unpack(ARGV[1])
if asked[1] == "most_specific" then return patterns.most_specific(asked[2], asked[3]) end
if asked[1] == "pause" then return string.format("%.0f", estimate.blind_pause(asked[2], asked[3])) end
if asked[1] == "rate_of" then return string.format("%.0f", values.rate_of({ amount = asked[2], period = asked[3] })) end
return string.format("%.0f", values[asked[1]](asked[2], asked[3], asked[4]))
"""
Call = Callable[..., bytes]


@pytest.fixture
def call(client: redis.Redis) -> Call:
    """A function of the modules, on a server."""
    script = client.register_script(Scripts({"call": CALL})["call"].text)

    def run(*asked: object) -> bytes:
        answer: Any = script(keys=["values", "order"], args=[msgspec.msgpack.encode(asked)])
        assert isinstance(answer, bytes)
        return answer

    return run


rates = st.integers(LOWEST, HIGHEST) | st.sampled_from((LOWEST, HIGHEST, 9_007_199_254, 9_007_199_255))
spans = st.integers(-MINUTE, FOREVER) | st.sampled_from((0, 999, 1_000, MINUTE, FOREVER))
on_the_server = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@given(rates, st.integers(0, 10 * WHOLE))
@on_the_server
def test_a_part_is_rounded_as_in_python(call: Call, rate: int, ppm: int) -> None:
    assert int(call("part", rate, ppm)) == learning_values.part(rate, ppm)


@given(st.integers(-1_000, FOREVER), spans)
@on_the_server
def test_units_are_counted_as_in_python(call: Call, units: int, us: int) -> None:
    assert int(call("per_minute", units, us)) == learning_values.per_minute(units, us)


@given(st.integers(-1_000, FOREVER), spans, rates)
@on_the_server
def test_a_lead_is_counted_as_in_python(call: Call, units: int, us: int, rate: int) -> None:
    assert int(call("ahead", units, us, rate)) == learning_values.ahead(units, us, rate)


@given(rates, st.integers(0, FOREVER))
@on_the_server
def test_what_a_rate_gives_is_counted_as_in_python(call: Call, rate: int, us: int) -> None:
    expected, found = learning_values.units_in(rate, us), int(call("units_in", rate, us))
    assert found == expected if expected < EXACT else found >= EXACT


@given(st.integers(1, EXACT // SHARE), st.integers(0, FOREVER))
@on_the_server
def test_a_limit_has_the_same_rate_as_in_python(call: Call, amount: int, period: int) -> None:
    assert int(call("rate_of", amount, period)) == rate_of(LimitSpec(Kind.REQUESTS, amount, 1, period))


@given(st.integers(0, 60), st.integers(0, DRAWS - 1))
@on_the_server
def test_a_pause_is_as_long_as_in_python(call: Call, row: int, draw: int) -> None:
    assert int(call("pause", row, draw)) == blind_pause(row, draw, DRAWS)


names = st.text("aB4-.%*?[größe]", max_size=6)


@given(st.lists(names, max_size=5), names)
@example(["gpt-*", "GPT-4o", "gpt-4o-mini", "?pt-4o"], "gpt-4O")
@example(["a*a*a", "a**", "größe", "gr??e"], "größe")
@on_the_server
def test_the_pattern_that_decides_is_the_same_as_in_python(call: Call, patterns: list[str], model: str) -> None:
    assert call("most_specific", patterns, model).decode() == most_specific(patterns, model)
