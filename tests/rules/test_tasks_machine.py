"""The promises of the task queue, held after every step of whatever may befall it: a Hypothesis state machine.

What is durable and what is not are told apart, so that a power cut, and the death of a process between the two
commits of an operation, can happen here as they do on a disk.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cross_instance.rules import task_records
from cross_instance.rules.operations import (
    MINUTE,
    SECOND,
    CancelTask,
    Claim,
    Claimed,
    ClaimedTask,
    Fenced,
    Finish,
    Finished,
    GetTask,
    Heartbeat,
    Join,
    Joined,
    Leave,
    ListTasks,
    NewTask,
    Operation,
    Priority,
    Push,
    Requeue,
    SetQueue,
    Sweep,
    TaskEnd,
    TaskInfo,
    TaskOutcome,
    TaskSnapshot,
    TaskState,
)
from cross_instance.rules.tables import CLAIM, DURABLE_FROM, LANE, OWNED, READY, RETURNED, TAKEN
from cross_instance.rules.tasks import owns
from cross_instance.testing import FakeClock, ModelStore

NAMES = ("one", "two", "three")
TAGS = ("gpu", "large")
OVER = {TaskState.DONE, TaskState.FAILED, TaskState.DEAD, TaskState.CANCELLED}


@dataclass
class Worker:
    """A process: what it believes to run. A `zombie` has been declared dead and does not know it yet."""

    name: str
    incarnation: int
    tags: tuple[str, ...] = ()
    seq: int = 0
    serves: bool = False
    running: dict[str, ClaimedTask] = field(default_factory=dict)


new_tasks = st.builds(
    NewTask,
    task=st.just(""),
    kind=st.sampled_from(("brief", "long")),
    queue=st.sampled_from(("", *NAMES, "nobody")),
    key=st.sampled_from(("", "", "", "key")),
    priority=st.sampled_from(Priority),
    delay=st.sampled_from((0, 0, 0, 0, SECOND, MINUTE)),
    retries=st.integers(0, 2),
    backoff=st.sampled_from((0, SECOND)),
    max_deaths=st.integers(1, 3),
    retention=st.sampled_from((SECOND, 1_000 * MINUTE)),
    stealable=st.sampled_from((True, True, False)),
    tags=st.sampled_from(((), (), (), ("gpu",), TAGS)),
    account=st.sampled_from(("", "", "acme:main", "acme:other")),
)
outcomes = st.sampled_from([outcome for outcome in TaskOutcome if outcome is not TaskOutcome.DIED])
index = st.integers(0, 1_000)


class Tasks(RuleBasedStateMachine):
    """Three instances that come and go, their queues, the common one, and one that nobody serves."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = ModelStore(self.clock)
        self.joins = 0
        self.workers: dict[str, Worker] = {}
        self.zombies: list[Worker] = []
        self.pushed: dict[str, NewTask] = {}
        self.forgotten: set[str] = set()
        self.ends: dict[str, set[TaskState]] = defaultdict(set)
        self.epochs: list[int] = []
        self.deaths: defaultdict[str, int] = defaultdict(int)
        for name in NAMES:
            self.join(name, TAGS[:1] if name == "one" else ())

    # --- acting ---

    def run(self, op: Operation[Any]) -> Any:
        return self.store.run(op)

    def durable(self) -> dict[bytes, bytes]:
        return {key: value for key, value in self.store.tables.values.items() if key[0] >= DURABLE_FROM}

    def half(self, op: Operation[Any]) -> None:
        """An operation whose process died after the durable commit and before the other."""
        before = {key: value for key, value in self.store.tables.values.items() if key[0] < DURABLE_FROM}
        self.run(op)
        self.restore(before | self.durable())

    def restore(self, values: dict[bytes, bytes]) -> None:
        tables = self.store.tables
        for key in [*tables.values]:
            if key not in values:
                tables.delete(key)
        for key, value in values.items():
            tables.put(key, value)

    def info(self, name: str) -> TaskInfo | None:
        found: TaskInfo | None = self.run(GetTask(name)).info
        return found

    def worker(self, number: int) -> Worker | None:
        workers = [*self.workers.values()]
        return workers[number % len(workers)] if workers else None

    def count_deaths(self, worker: Worker) -> None:
        for name in worker.running:
            self.deaths[name] += 1

    def bury(self, worker: Worker) -> None:
        """Forget a worker that the store has removed; as a zombie it tries to go on."""
        self.zombies.append(worker)
        self.stale_owners_end_nothing(worker)

    # --- what may happen ---

    @initialize(tasks=st.lists(new_tasks, min_size=6, max_size=12))
    def begin(self, tasks: list[NewTask]) -> None:
        self.push(tasks, half=False)

    @rule(tasks=st.lists(new_tasks, min_size=1, max_size=4), half=st.booleans())
    def push(self, tasks: list[NewTask], half: bool) -> None:
        named = []
        for number, task in enumerate(tasks, len(self.pushed)):
            fields = {name: getattr(task, name) for name in task.__struct_fields__}
            named.append(NewTask(**{**fields, "task": f"task-{number}"}))
        if half:
            self.half(Push(tuple(named)))
        answer = self.run(Push(tuple(named)))
        assert self.run(Push(tuple(named))).known == answer.tasks
        for task, kept in zip(named, answer.tasks, strict=True):
            self.pushed[task.task] = task
            if kept != task.task:
                assert task.key == self.pushed[kept].key != ""
                self.forgotten.add(task.task)

    @rule(name=st.sampled_from(NAMES), tags=st.lists(st.sampled_from(TAGS), unique=True).map(tuple))
    def join(self, name: str, tags: tuple[str, ...]) -> None:
        """An earlier process of that id is known to be dead then."""
        before = self.workers.pop(name, None)
        if before is not None:
            self.count_deaths(before)
        self.joins += 1
        joined = self.run(Join(name, f"{self.joins}", 1, "machine", "host", timeout=MINUTE))
        assert isinstance(joined, Joined)
        if before is not None:
            self.bury(before)
        self.workers[name] = Worker(name, joined.incarnation, tags)

    @rule(number=index, most=st.integers(1, 4), steal=st.booleans(), gain=st.sampled_from((0, 0, 3 * SECOND)))
    def claim(self, number: int, most: int, steal: bool, gain: int) -> None:
        worker = self.worker(number)
        if worker is None:
            return
        before = self.tasks()
        world = self.run(TaskSnapshot())
        worker.seq += 1
        op = Claim(worker.incarnation, worker.seq, most, steal, gain, worker.tags)
        claimed = self.run(op)
        assert isinstance(claimed, Claimed)
        worker.serves = True
        assert self.run(op).tasks == claimed.tasks, "the same claim is the same tasks"
        for task in claimed.tasks:
            assert task.epoch not in self.epochs
            self.epochs.append(task.epoch)
            assert before[task.spec.task].state is TaskState.QUEUED
            worker.running[task.spec.task] = task
        self.check_order(worker, before, claimed, most)
        self.check_theft(worker, world, claimed, gain)

    @rule(number=index, unanswered=st.booleans())
    def work_no_more(self, number: int, unanswered: bool) -> None:
        """A worker retires; what a claim had taken whose answer was lost is given back, and nothing else."""
        worker = self.worker(number)
        if worker is None:
            return
        worker.seq += 1
        if unanswered:
            lost = self.run(Claim(worker.incarnation, worker.seq, 2, True, 0, worker.tags))
            self.epochs.extend(task.epoch for task in lost.tasks)
        retired = self.run(Claim(worker.incarnation, worker.seq, 0))
        assert retired.tasks == ()
        assert all(wake.incarnation != worker.incarnation for wake in retired.wakes)
        worker.serves = False

    @rule(most=st.integers(1, 3), ends=st.lists(outcomes, max_size=4))
    def everyone_works(self, most: int, ends: list[TaskOutcome]) -> None:
        """A usual turn: all take what they get, and some tasks come to an end."""
        for number in range(len(self.workers)):
            self.claim(number, most, steal=True, gain=0)
        for number, outcome in enumerate(ends):
            self.finish(number, outcome, draw=0, again=False, half=False)
        for zombie in self.zombies[-3:]:
            self.stale_owners_end_nothing(zombie)

    def check_order(self, worker: Worker, before: dict[str, TaskInfo], claimed: Claimed, most: int) -> None:
        """Strict classes, and first ready, first served within one; nothing is left while there is room."""
        paused = {queue.queue for queue in self.run(TaskSnapshot()).queues if queue.paused}
        queues = {claimed.victim} if claimed.victim else {"", worker.name}
        can = {
            name: info
            for name, info in before.items()
            if info.state is TaskState.QUEUED
            and info.run_at <= self.clock.wall
            and info.spec.queue in queues - paused
            and set(info.spec.tags) <= set(worker.tags)
            and (info.spec.stealable or not claimed.victim)
        }
        names = [task.spec.task for task in claimed.tasks]
        room = (len(can) + 1) // 2 if claimed.victim else len(can)
        assert len(names) == min(most, room), (names, can)
        ranks = [can[name].spec.priority for name in names]
        assert ranks == sorted(ranks)
        if names:
            assert all(can[name].spec.priority >= ranks[-1] for name in can if name not in names)
        for name in names:
            for other, info in can.items():
                same = info.spec.priority == can[name].spec.priority and info.run_at < can[name].run_at
                assert not same or other in names, f"{other} has been ready for longer than {name}"

    def check_theft(self, worker: Worker, world: Any, claimed: Claimed, gain: int) -> None:
        if not claimed.victim:
            return
        assert claimed.victim not in ("", worker.name)
        victim = next((queue for queue in world.queues if queue.queue == claimed.victim), None)
        if victim is not None and claimed.victim in self.workers and self.workers[claimed.victim].serves:
            assert victim.stealable >= gain

    @rule(
        number=index,
        outcome=outcomes,
        draw=st.integers(0, (1 << 32) - 1),
        again=st.booleans(),
        half=st.booleans(),
    )
    def finish(self, number: int, outcome: TaskOutcome, draw: int, again: bool, half: bool) -> None:
        running = [(worker, name) for worker in self.workers.values() for name in worker.running]
        if not running:
            return
        worker, name = running[number % len(running)]
        task = worker.running.pop(name)
        op = Finish(worker.incarnation, (TaskEnd(name, task.epoch, outcome, b"result", "error", draw=draw),))
        if half:
            self.half(op)
        answer = self.run(op)
        assert isinstance(answer, Finished)
        assert answer.tasks[0].known, "its owner lives, so it was its own"
        if again and outcome is not TaskOutcome.RELEASED:
            assert self.run(op).tasks[0].state is answer.tasks[0].state
        assert not owns(self.store.tables, name, task.epoch, worker.incarnation)

    def stale_owners_end_nothing(self, zombie: Worker) -> None:
        before = self.tasks()
        for name, task in zombie.running.items():
            assert not owns(self.store.tables, name, task.epoch, zombie.incarnation)
            end = TaskEnd(name, task.epoch, result=b"stale")
            assert isinstance(self.run(Finish(zombie.incarnation, (end,))), Fenced)
            for worker in self.workers.values():
                answer = self.run(Finish(worker.incarnation, (end,)))
                assert not answer.tasks[0].known
        assert {name: info.state for name, info in self.tasks().items()} == {
            name: info.state for name, info in before.items() if name not in self.expired(before)
        }

    def expired(self, before: dict[str, TaskInfo]) -> set[str]:
        """What a `Finish` may forget, since its retention is over."""
        return {
            name
            for name, info in before.items()
            if info.state in OVER - {TaskState.DEAD} and info.finished_at + info.spec.retention <= self.clock.wall
        } - set(self.tasks())

    @precondition(lambda self: self.pushed)
    @rule(number=index, half=st.booleans())
    def cancel(self, number: int, half: bool) -> None:
        name = [*self.pushed][number % len(self.pushed)]
        if half:
            self.half(CancelTask(name))
        before = self.info(name)
        info = self.run(CancelTask(name)).info
        if before is not None and before.state is TaskState.QUEUED:
            assert info is not None
            assert info.state is TaskState.CANCELLED
        if before is not None and before.state in OVER:
            assert info == before

    @precondition(lambda self: self.pushed)
    @rule(number=index)
    def send_back(self, number: int) -> None:
        name = [*self.pushed][number % len(self.pushed)]
        before = self.info(name)
        info = self.run(Requeue(name)).info
        if before is not None and before.state in OVER - {TaskState.DONE}:
            assert info is not None
            assert info.state is TaskState.QUEUED
            self.deaths[name] = 0
        elif before is not None:
            assert info == before

    @rule(queue=st.sampled_from(("two", "nobody")), chance=st.integers(0, 3))
    def pause_or_resume(self, queue: str, chance: int) -> None:
        self.run(SetQueue(queue, paused=chance == 3))

    @rule(us=st.sampled_from((1, 1_000, SECOND, 10 * SECOND, 2 * MINUTE)), beat=st.booleans())
    def time_passes(self, us: int, beat: bool) -> None:
        self.clock.advance(us)
        if beat:
            for worker in self.workers.values():
                self.run(Heartbeat(worker.incarnation))

    @rule(number=index, how=st.sampled_from(("dead", "silent", "leave")), half=st.booleans(), again=st.booleans())
    def go(self, number: int, how: str, half: bool, again: bool) -> None:
        worker = self.worker(number)
        if worker is None:
            return
        if how == "leave":
            self.run(Leave(worker.incarnation))
            self.bury(self.workers.pop(worker.name))
        else:
            self.sweep((worker.incarnation,) if how == "dead" else (), half)
        if again and worker.name not in self.workers:
            self.join(worker.name, worker.tags)

    def sweep(self, dead: tuple[int, ...], half: bool) -> None:
        if half:
            self.half(Sweep(dead))
        removed = [self.workers.pop(name) for name in self.run(Sweep(dead)).removed]
        for worker in removed:
            self.count_deaths(worker)
            self.bury(worker)

    @rule()
    def power_cut(self) -> None:
        """All that was running is ready again, in its old place."""
        running = [name for name, info in self.tasks().items() if info.state is TaskState.RUNNING]
        self.restore(self.durable())
        zombies = [*self.workers.values()]
        self.zombies.extend(zombies)
        self.workers.clear()
        assert all(info is not None and info.state is TaskState.QUEUED for info in map(self.info, running))
        for zombie in zombies:
            self.join(zombie.name, zombie.tags)
            self.stale_owners_end_nothing(zombie)

    # --- what always holds ---

    def tasks(self) -> dict[str, TaskInfo]:
        found: dict[str, TaskInfo] = {}
        after = ""
        while True:
            page = self.run(ListTasks(after=after, most=50))
            found.update({info.spec.task: info for info in page.tasks})
            after = page.after
            if not after:
                return found

    @invariant()
    def the_promises_hold(self) -> None:
        there = self.tasks()
        self.nothing_is_lost(there)
        self.one_owner(there)
        self.the_dead_letters_died_often_enough(there)
        self.the_counts_are_right(there)
        self.every_place_is_claimed_or_can_be_had()
        assert self.epochs == sorted(self.epochs), "epochs rise"

    def nothing_is_lost(self, there: dict[str, TaskInfo]) -> None:
        for name, spec in self.pushed.items():
            info = there.get(name)
            if info is not None:
                self.ends[name] = {info.state, *self.ends[name]} if info.state in OVER else self.ends[name]
            elif name not in self.forgotten:
                assert self.ends[name] & (OVER - {TaskState.DEAD}), f"{name} was never over, and is gone"
                assert spec.retention < 1_000 * MINUTE
                self.forgotten.add(name)

    def one_owner(self, there: dict[str, TaskInfo]) -> None:
        """What workers believe to run is theirs, and nobody else's."""
        owned: dict[str, str] = {}
        for worker in self.workers.values():
            for name, task in worker.running.items():
                assert name not in owned, f"{name} is run by {owned[name]} and {worker.name}"
                owned[name] = worker.name
                assert owns(self.store.tables, name, task.epoch, worker.incarnation)
        running = {name: info.owner for name, info in there.items() if info.state is TaskState.RUNNING}
        assert running == owned

    def the_dead_letters_died_often_enough(self, there: dict[str, TaskInfo]) -> None:
        for name, info in there.items():
            if info.state is TaskState.DEAD:
                assert info.deaths >= info.spec.max_deaths
            if info.state in (TaskState.QUEUED, TaskState.RUNNING):
                assert info.deaths < info.spec.max_deaths
                assert info.failures <= info.spec.retries
            assert info.deaths <= self.deaths[name] or info.deaths == 0, name

    def the_counts_are_right(self, there: dict[str, TaskInfo]) -> None:
        """What stands in the lists and what is claimed is what is counted."""
        tables = self.store.tables
        claims = [task_records.decode_claim(value) for _, value in tables.scan(CLAIM)]
        assert len([*tables.scan(OWNED)]) == len(claims)
        lanes = {task_records.lane_name(key): task_records.decode_lane(value) for key, value in tables.scan(LANE)}
        for lane, counted in lanes.items():
            ranks = [0] * task_records.RANKS
            for key, _ in tables.scan(task_records.lane_key(READY, lane)):
                ranks[key[-9]] += 1
            assert ranks == counted.ranks
            assert sum(counted.kinds.values()) == sum(ranks)
        assert len([*tables.scan(READY)]) == sum(sum(lane.ranks) for lane in lanes.values())
        for key, value in tables.scan(TAKEN):
            mine = [claim for claim in claims if (claim.queue, claim.lane) == task_records.lane_name(key)]
            assert sum(task_records.decode_taken(value).ranks) == len(mine)
        states = dict(self.run(TaskSnapshot()).states)
        shown = [info.state for info in there.values()]
        assert states == {state: shown.count(state) for state in TaskState if state in shown}

    def every_place_is_claimed_or_can_be_had(self) -> None:
        """What is neither claimed nor returned lies beyond the cursor, so somebody will be given it."""
        tables = self.store.tables
        claims = [task_records.decode_claim(value) for _, value in tables.scan(CLAIM)]
        held = {(claim.queue, claim.lane, claim.rank, claim.place) for claim in claims}
        for key, _ in tables.scan(LANE):
            lane = task_records.lane_name(key)
            value = tables.get(task_records.lane_key(TAKEN, lane))
            cursors = [0] * task_records.RANKS if value is None else task_records.decode_taken(value).cursors
            for ready, _ in tables.scan(task_records.lane_key(READY, lane)):
                rank, place = ready[-9], int.from_bytes(ready[-8:])
                returned = tables.get(task_records.place_key(RETURNED, lane, rank, place)) is not None
                claimed = (*lane, rank, place) in held
                assert (place > cursors[rank]) + returned + claimed == 1


TestTasks = Tasks.TestCase
