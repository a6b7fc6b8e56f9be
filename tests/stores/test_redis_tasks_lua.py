"""The Lua rules of tasks beside Python's: the same answers, whatever is asked; and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
import redis
from tests.stores.redis_scripts import Scripted

from cross_instance.rules.operations import (
    DAY,
    FOREVER,
    MINUTE,
    SECOND,
    AccountSpec,
    Acquire,
    CancelTask,
    Claim,
    Claimed,
    Configure,
    Configured,
    Fenced,
    Finish,
    Finished,
    GetTask,
    Granted,
    Heartbeat,
    HeldTask,
    Instant,
    Join,
    Joined,
    Kind,
    Leave,
    LimitSpec,
    ListTasks,
    NewTask,
    Operation,
    Purge,
    Purged,
    Push,
    Renew,
    Renewed,
    Requeue,
    Result,
    SetQueue,
    Settle,
    Snapshot,
    Sweep,
    TaskEnd,
    TaskOutcome,
    TaskPage,
    TaskSnapshot,
    TaskState,
)
from cross_instance.testing import FakeClock
from cross_instance.testing.conformance.mirror import Mirror
from cross_instance.testing.conformance.task_storm import Crowd

ACCOUNT = "openai:main"
WEEK_MS = 7 * 24 * 3_600 * 1_000


# --- to the letter -------------------------------------------------------------------------------------------------


class Spenders(Crowd):
    """A crowd whose tasks spend from an account with two slots; they list, purge and renew page by page."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.revision = 0
        self.held: list[Acquire] = []
        self.page = self.rest = ""

    def next(self) -> Operation[Any]:
        if len(self.living) < 2 or self.random.random() < 0.5:
            return super().next()
        moves: dict[Callable[[], Operation[Any]], int] = {
            lambda: Configure(self._anyone(), ACCOUNT, AccountSpec((LimitSpec(Kind.CONCURRENCY, 2, period=0),))): 2,
            self._acquire: 8,
            self._settle: 5,
            lambda: Heartbeat(self._anyone()): 2,
            lambda: ListTasks(self._state(), self._queue_or_none(), self._kind(), self.page, self._size()): 4,
            lambda: Purge((), TaskState.DONE, FOREVER, self.rest, self._size()): 1,
            self._renew_some: 4,
            self._finish_some: 8,
            Snapshot: 1,
        }
        move: Callable[[], Operation[Any]] = self.random.choices([*moves], [*moves.values()])[0]
        return move()

    def hear(self, op: Operation[Any], result: Result) -> None:
        super().hear(op, result)
        match op, result:
            case Acquire(), Granted():
                self.held.append(op)
            case _, Configured(revision=revision):
                self.revision = revision
            case _, TaskPage(after=after):
                self.page = after
            case _, Purged(after=after):
                self.rest = after
            case _, Fenced():
                gone: int = getattr(op, "incarnation", 0)
                self.living = {name: one for name, one in self.living.items() if one != gone}

    def _new_task(self) -> NewTask:
        task, choice = super()._new_task(), self.random.choice
        return msgspec.structs.replace(
            task,
            kind=choice((task.kind, task.kind, "1", "größer")),
            account=choice(("", "", ACCOUNT)),
            run_at=choice((0, 0, 0, 0, FOREVER, 1_767_225_600_000_000 + choice((0, SECOND, DAY)))),
            backoff=choice((task.backoff, DAY)),
            max_backoff=choice((task.max_backoff, DAY, 7)),
            max_deaths=choice((task.max_deaths, 10_000)),
            retention=choice((task.retention, 36_500 * DAY)),
            timeout=choice((task.timeout, 1)),
            provider=choice(("", "acme")),
            model=choice(("", "m-1")),
        )

    def _given(self) -> tuple[int, str, int]:
        lively = [one for one in self.given if one[0] in self.living.values()][-8:]
        return self.random.choice(lively) if lively and self.random.random() < 0.8 else super()._given()

    def _leave(self) -> Operation[Any]:
        return super()._leave() if self.random.random() < 0.3 else Sweep()

    def _claim(self) -> Claim:
        claim = super()._claim()
        return msgspec.structs.replace(claim, seq=max(1, claim.seq - self.random.choice((0, 0, 0, 5))))

    def _join(self) -> Join:
        return msgspec.structs.replace(super()._join(), timeout=self.random.choice((2, 20, 20)) * MINUTE)

    def _acquire(self) -> Acquire:
        self.seq += 1
        incarnation, task, epoch = self._given()
        bought = self.random.random() < 0.7
        return Acquire(
            incarnation if bought else self._anyone(),
            self.seq,
            ACCOUNT,
            revision=self.revision,
            task=task if bought else None,
            task_epoch=epoch + self.random.choice((0, 0, 0, -1)),
        )

    def _settle(self) -> Operation[Any]:
        if not self.held:
            return Sweep()
        done = self.held.pop(self.random.randrange(len(self.held)))
        return Settle(done.incarnation, done.seq)

    def _renew_some(self) -> Renew:
        choice = self.random.choice
        some = [self._given() for _ in range(choice((0, 2, 3)))]
        held = tuple(HeldTask(task, epoch, choice((None, b"", b"\0\xff"))) for _, task, epoch in some)
        return Renew(some[0][0] if some else self._anyone(), held)

    def _finish_some(self) -> Finish:
        choice, ends = self.random.choice, []
        incarnation, *_ = self._given()
        for mine in [one for one in self.given if one[0] == incarnation][-3:]:
            outcome = choice([outcome for outcome in TaskOutcome if outcome is not TaskOutcome.DIED])
            after = choice((None, None, 0, SECOND, FOREVER // 2))
            result, error = choice((b"", b"\0\xff")), choice(("", "größer"))
            draw = self.random.getrandbits(32)
            ends.append(TaskEnd(mine[1], mine[2], outcome, result, error, after, draw))
        return Finish(incarnation, tuple(ends))

    def _state(self) -> TaskState | None:
        state: TaskState | None = self.random.choice([None, None, *TaskState])
        return state

    def _queue_or_none(self) -> str | None:
        return self.random.choice((None, None, "", "one", "größe"))

    def _kind(self) -> str | None:
        return self.random.choice((None, None, "brief"))

    def _size(self) -> int:
        return self.random.choice((1, 2, 5, 1_000))


def weather(client: redis.Redis, crowd: Crowd, operations: int, start: int) -> int:
    """How many operations were answered alike, three last looks at all that is left among them."""
    clock = FakeClock(start)
    mirror = Mirror(Scripted(client, clock=clock))
    for _ in range(operations):
        clock.advance(crowd.random.choices((0, 1_000, SECOND, 20 * SECOND, DAY), (20, 20, 20, 20, 0.3))[0])
        op = crowd.next()
        try:
            crowd.hear(op, mirror.run(op))
        except ValueError:  # the model refuses it too
            continue
    for op in (TaskSnapshot(), ListTasks(most=1_000), Snapshot()):
        mirror.run(op)
    return mirror.compared


@pytest.mark.parametrize("seed", range(6))
def test_a_storm_of_tasks_is_answered_as_the_model_answers_it(client: redis.Redis, seed: int) -> None:
    """At instants as small as an uptime or as large as today."""
    assert weather(client, Spenders(Random(seed)), 400, 0 if seed % 2 else 1_790_000_000_000_000) == 403


# --- what they leave behind ----------------------------------------------------------------------------------------


def joined(store: Scripted, name: str = "one") -> int:
    answer = store.run(Join(name, f"{name}/nonce", pid=1, machine="here", host="here"))
    assert isinstance(answer, Joined)
    return answer.incarnation


def claimed(store: Scripted, incarnation: int, seq: int, most: int = 1) -> tuple[TaskEnd, ...]:
    """Claim tasks; how they are to end."""
    answer = store.run(Claim(incarnation, seq, most))
    assert isinstance(answer, Claimed)
    return tuple(TaskEnd(task.spec.task, task.epoch, result=b"result") for task in answer.tasks)


def state(store: Scripted, task: str) -> TaskState | None:
    info = store.run(GetTask(task)).info
    return None if info is None else info.state


def lives(store: Scripted) -> list[float]:
    """In how many days from now each key will go."""
    left = [store.client.pttl(key) for key in store.keys]
    return [round(ms / 1_000 / 86_400, 2) if ms >= 0 else float(ms) for ms in left]


STAYS = -1.0


def test_tasks_stay_when_the_namespace_is_abandoned(client: redis.Redis) -> None:
    store = Scripted(client)
    me = joined(store)
    store.run(Push((NewTask("one", "kind"), NewTask("two", "kind", retries=0))))
    assert lives(store) == [7, 7, STAYS, STAYS]
    (end, _) = claimed(store, me, 1, 2)
    client.delete(*store.keys[:2])  # a week later
    again = joined(store)
    assert again > me
    ends = claimed(store, again, 1, 2)
    assert [one.task for one in ends] == ["one", "two"], "what was running is ready again"
    assert min(one.epoch for one in ends) > end.epoch, "epochs rise all the same"
    answer = store.run(Finish(again, ends))
    assert isinstance(answer, Finished)
    assert [ended.state for ended in answer.tasks] == [TaskState.DONE, TaskState.DONE]


def test_what_is_over_goes_a_week_after_the_last_retention(client: redis.Redis) -> None:
    store = Scripted(client)
    me = joined(store)
    store.run(Push((NewTask("brief", "kind", retention=DAY), NewTask("long", "kind", retention=30 * DAY))))
    first, last = claimed(store, me, 1, 2)
    store.run(Finish(me, (last,)))
    assert lives(store) == [7, 7, STAYS, STAYS], "one is open still"
    store.run(Finish(me, (first,)))
    assert lives(store) == [7, 7, 37, 37]
    store.run(Heartbeat(me))
    assert lives(store) == [7, 7, 37, 37], "that is longer than its users need it"
    store.run(Purge(("long",)))
    assert lives(store) == [7, 7, 8, 8]
    store.run(Purge(("brief",)))
    assert lives(store) == [7, 7, 7, 7]
    for key in store.keys:
        client.pexpire(key, 10_000)
    store.run(Heartbeat(me))
    assert lives(store) == [7, 7, 7, 7], "as long as somebody is there"
    store.run(Push((NewTask("next", "kind"),)))
    assert lives(store) == [7, 7, STAYS, STAYS]


def test_a_dead_letter_stays(client: redis.Redis) -> None:
    store = Scripted(client)
    me = joined(store)
    store.run(Push((NewTask("kills", "kind", max_deaths=1),)))
    claimed(store, me, 1)
    store.run(Sweep((me,)))
    assert state(store, "kills") is TaskState.DEAD
    assert lives(store)[2:] == [STAYS, STAYS]


def test_a_pause_goes_with_an_abandoned_namespace(client: redis.Redis) -> None:
    store = Scripted(client)
    store.run(SetQueue("one", paused=True))
    assert lives(store)[2:] == [7, 7]


def test_tasks_that_are_forgotten_leave_nothing(client: redis.Redis) -> None:
    clock = FakeClock(1_790_000_000_000_000)
    store = Scripted(client, clock=clock)
    me = joined(store)

    def pass_through(number: int) -> None:
        tasks = tuple(NewTask(f"{number}.{one}", "kind", b"payload", key=f"key {number}.{one}") for one in range(20))
        store.run(Push(tasks))
        store.run(GetTask(f"{number}.1", watcher=(me, 7)))
        ends = claimed(store, me, number, 20)
        store.run(Finish(me, ends[:10]))
        store.run(Finish(me, tuple(msgspec.structs.replace(end, outcome=TaskOutcome.FAILED) for end in ends[10:])))
        clock.advance(2 * DAY)
        store.run(Heartbeat(me))
        store.run(Sweep())
        store.run(Purge(most=100))

    pass_through(1)
    before = [client.hgetall(store.keys[0]).keys(), client.hgetall(store.keys[2]).keys()]
    ordered = [client.zcard(store.keys[1]), client.zcard(store.keys[3])]
    pass_through(2)
    assert [client.hgetall(store.keys[0]).keys(), client.hgetall(store.keys[2]).keys()] == before
    assert [client.zcard(store.keys[1]), client.zcard(store.keys[3])] == ordered
    assert [key[:1] for key in sorted(before[1])] == [b"\x8c", b"\x8d", b"\x8e"], "a mean duration, counts, epochs"


def test_a_full_server_refuses_tasks_and_lets_them_end(client: redis.Redis) -> None:
    store = Scripted(client)
    me = joined(store)
    store.run(Push((NewTask("one", "kind"), NewTask("two", "kind"), NewTask("three", "kind"))))
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            store.run(Push((NewTask("four", "kind"),)))
        store.run(GetTask("one", watcher=(me, 7)))
        one, two = claimed(store, me, 1, 2)
        assert isinstance(store.run(Renew(me, (HeldTask("one", one.epoch, b"half"),))), Renewed)
        running = store.run(GetTask("one")).info
        assert running is not None
        assert running.progress == b"half"
        store.run(SetQueue("", paused=True))
        assert claimed(store, me, 2) == ()
        store.run(SetQueue("", paused=False))
        answer = store.run(Finish(me, (one, msgspec.structs.replace(two, outcome=TaskOutcome.RETRY))))
        assert isinstance(answer, Finished)
        assert [ended.state for ended in answer.tasks] == [TaskState.DONE, TaskState.QUEUED]
        for _ in range(2):
            assert store.run(CancelTask("three")).info is not None
            assert store.run(Requeue("three")).info is not None
        store.run(CancelTask("three"))
        assert store.run(Purge(("one",))).tasks == ("one",)
        assert store.run(Leave(me)).known
    finally:
        client.config_set("maxmemory", 0)
    counted = dict(store.run(TaskSnapshot()).states)
    assert counted == {TaskState.QUEUED: 1, TaskState.CANCELLED: 1}
    assert state(store, "four") is None


def test_a_thousand_tasks_at_once(client: redis.Redis) -> None:
    store = Scripted(client)
    me = joined(store)
    tasks = tuple(NewTask(f"t{number:04}", "kind", b"payload", key=f"k{number}") for number in range(1_000))
    assert store.run(Push(tasks)).known == ()
    assert len(store.run(Push(tasks)).known) == 1_000
    ends = tuple(end for seq in range(1, 11) for end in claimed(store, me, seq, 100))
    assert [end.task for end in ends] == [task.task for task in tasks]
    answer = store.run(Finish(me, ends))
    assert isinstance(answer, Finished)
    assert {ended.state for ended in answer.tasks} == {TaskState.DONE}
    assert len(store.run(ListTasks(TaskState.DONE, most=1_000)).tasks) == 1_000


def test_the_largest_payloads_and_results_come_back_to_the_byte(client: redis.Redis) -> None:
    store = Scripted(client)
    me = joined(store)
    data = bytes(range(256)) * 4_096
    store.run(Push(tuple(NewTask(f"t{number}", "kind", data) for number in range(8))))
    answer = store.run(Claim(me, 1, most=8))
    assert isinstance(answer, Claimed)
    assert [task.spec.payload for task in answer.tasks] == [data] * 8
    store.run(Finish(me, tuple(TaskEnd(task.spec.task, task.epoch, result=data[::-1]) for task in answer.tasks)))
    over = store.run(GetTask("t7")).info
    assert over is not None
    assert (over.spec.payload, over.result) == (data, data[::-1])


def test_times_of_tasks_are_the_server_s(client: redis.Redis) -> None:
    """Without a clock of our own, beside the model."""
    mirror = Mirror(Scripted(client))
    crowd = Crowd(Random(7))
    for _ in range(100):
        try:
            op = crowd.next()
            crowd.hear(op, mirror.run(op))
        except ValueError:
            continue
    assert isinstance(mirror.run(TaskSnapshot()).at, Instant)
