"""The registry: who lives, and what becomes of the permits of those who died.

1. An incarnation is a number larger than any before, also before the last boot: fences rise for ever.
2. An instance known dead from the kernel lost its sockets: its slots return at once.
3. An instance silent beyond its timeout may still have calls running: its slots become ghosts, counted for a grace.
   Its incarnation is fenced: it can no longer acquire or settle until it joins anew.
4. Silence is measured on the store's clock. The embedded store's stands still while the machine sleeps; where a
   server's goes on, who has just slept itself removes nobody for silence: beats missed while it was awake count.
5. The tasks that an instance ran go back to where it took them from.
6. Who leaves, dies or is replaced with very many waiters is removed in steps, oldest first; nothing is granted to it
   in between.
7. There is a node for the cluster only while a live instance limits it: without one, permits are cheaper.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.rules import broadcasts, checks, publications, records, usage
from cross_instance.rules.admission import admit, free_slots, uncharge_path
from cross_instance.rules.lapses import forget_lapsed
from cross_instance.rules.learning_keeping import is_unkept
from cross_instance.rules.ledger import Ledger
from cross_instance.rules.limits import BUCKETS, fill_reserve
from cross_instance.rules.operations import (
    CLUSTER,
    SECOND,
    Beaten,
    Configure,
    Configured,
    Duplicate,
    Fenced,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Left,
    Removing,
    Sweep,
    Swept,
    Workload,
)
from cross_instance.rules.queue import dequeue, set_asleep
from cross_instance.rules.records import Instance, Node, State
from cross_instance.rules.specs import conflicts, let_told_fade, rebuild
from cross_instance.rules.tables import (
    BEAT,
    INCARNATIONS,
    INSTANCE_ID,
    NODE,
    PERMIT,
    beat_key,
    expiry_key,
    named,
    numbered,
    unpack_one,
)
from cross_instance.rules.task_ends import leave_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import Instant
    from cross_instance.rules.records import Permit
    from cross_instance.rules.tables import Tables

GRACE = 30 * SECOND
"""How long the slots of a silent instance stay counted: its calls may still run."""

STEP = 500
"""How many permits and waiters one `Leave`, `Sweep` or `Join` ends at most, in about 7 ms: nobody stands long at the
gate for them."""


def join(tables: Tables, op: Join, at: Instant) -> Joined | Duplicate | Removing:
    """Decide a `Join`."""
    checks.join(op)
    ledger = Ledger(tables, at)
    earlier = int.from_bytes(tables.get(named(INSTANCE_ID, op.instance_id)) or b"")
    present = ledger.instance(earlier)
    if present is not None:
        if present.nonce == op.nonce:
            return Joined(at=at, incarnation=earlier)
        same_machine = present.machine == op.machine and op.holds_lock
        if not same_machine and present.deadline > at.mono:
            return Duplicate(at=at, pid=present.pid, machine=present.host)
        if not remove(ledger, earlier, certain=same_machine, most=STEP).gone:
            admit(ledger)
            ledger.close()
            return Removing(at=at, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices))
    incarnation = _next_incarnation(tables, at)
    instance = Instance(
        instance_id=op.instance_id,
        nonce=op.nonce,
        pid=op.pid,
        machine=op.machine,
        host=op.host,
        session_id=op.session_id,
        cwd=op.cwd,
        version=op.version,
        timeout=op.timeout,
        joined_at=at.wall,
        beat_at=at.wall,
        deadline=at.mono + op.timeout,
        workload=Workload(),
    )
    broadcasts.come_back(ledger, instance)
    ledger.add_instance(incarnation, instance)
    tables.put(named(INSTANCE_ID, op.instance_id), incarnation.to_bytes(8))
    tables.put(beat_key(instance.deadline, incarnation), b"")
    admit(ledger)
    ledger.close()
    return Joined(at=at, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices), incarnation=incarnation)


def _next_incarnation(tables: Tables, at: Instant) -> int:
    """One more than the last; the first is the time in ms, so that a folder made anew repeats none of the old one."""
    last = tables.get(INCARNATIONS)
    incarnation = at.wall // 1000 if last is None else int.from_bytes(last) + 1
    tables.put(INCARNATIONS, incarnation.to_bytes(8))
    return incarnation


def heartbeat(tables: Tables, op: Heartbeat, at: Instant) -> Beaten | Fenced:
    """Decide a `Heartbeat`. Raises `ValueError` for a workload that cannot be stored."""
    broadcasts.check(op)
    ledger = Ledger(tables, at)
    instance = ledger.instance(op.incarnation)
    if instance is None:
        return Fenced(at=at)
    tables.delete(beat_key(instance.deadline, op.incarnation))
    instance.beat_at, instance.deadline = at.wall, at.mono + instance.timeout
    tables.put(beat_key(instance.deadline, op.incarnation), b"")
    taken = broadcasts.receive(instance, op, at)
    for account in instance.accounts:
        let_told_fade(ledger, account)
        if account != CLUSTER and ledger.live_flow(account, op.incarnation).asleep:
            set_asleep(ledger, account, op.incarnation, False)
            ledger.touched.add(account)
    admit(ledger)
    unkept = is_unkept(ledger, instance)
    ledger.close()
    return Beaten(at=at, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices), taken=taken, unkept=unkept)


def leave(tables: Tables, op: Leave, at: Instant) -> Left:
    """Decide a `Leave`."""
    ledger = Ledger(tables, at)
    if ledger.instance(op.incarnation) is None:
        return Left(at=at, known=False)
    ledger.wakes.extend(leave_tasks(tables, op.incarnation, at, died=False))
    removal = remove(ledger, op.incarnation, certain=True, most=STEP)
    admit(ledger)
    ledger.close()
    return Left(
        at=at,
        wakes=tuple(ledger.wakes),
        notices=tuple(ledger.notices),
        known=True,
        more=not removal.gone,
    )


def sweep(tables: Tables, op: Sweep, at: Instant) -> Swept:
    """Decide a `Sweep`. Raises `ValueError` for a figure that cannot be stored."""
    checks.sweep(op)
    ledger = Ledger(tables, at)
    removed, room, more = [], STEP, False
    for incarnation, instance, certain in _lost(ledger, op):
        removal = remove(ledger, incarnation, certain=certain, most=room)
        more = not removal.gone
        if more:
            break
        removed.append(instance.instance_id)
        room -= removal.ended
    more = more or forget_lapsed(tables, at, room) == room
    admit(ledger)
    ledger.close()
    return Swept(
        at=at,
        wakes=tuple(ledger.wakes),
        notices=tuple(ledger.notices),
        removed=tuple(removed),
        more=more,
    )


def _lost(ledger: Ledger, op: Sweep) -> Iterator[tuple[int, Instance, bool]]:
    """Who has to be removed, and whether it is certainly dead. Each is to be gone before the next one is asked for."""
    for incarnation in op.dead:
        instance = ledger.instance(incarnation)
        if instance is not None:
            yield incarnation, instance, True
    while (silent := _silent(ledger, op.awake)) is not None:
        yield silent, ledger.live_instance(silent), False


def _silent(ledger: Ledger, awake: int) -> int | None:
    """Who has been silent for longest, to one who has been awake for so long."""
    found = ledger.tables.first(BEAT)
    while found is not None and int.from_bytes(found[0][1:9]) <= ledger.now:
        silent: int = unpack_one(found[0][9:])[0]
        if ledger.live_instance(silent).timeout <= awake:
            return silent
        found = ledger.tables.after(BEAT, found[0])
    return None


class Removal(NamedTuple):
    """Whether the instance is gone, and how many of its permits and waiters were ended for that."""

    gone: bool
    ended: int


def remove(ledger: Ledger, incarnation: int, *, certain: bool, most: int) -> Removal:
    """Take an instance out of everything. `certain`: it is known to be dead, not only silent.

    Where it has more than `most` permits and waiters, only the oldest are ended; the others are passed over in the
    queue until they are, too.
    """
    instance = ledger.live_instance(incarnation)
    ledger.wakes.extend(leave_tasks(ledger.tables, incarnation, ledger.at, died=True))
    seqs = _unended(ledger, incarnation, most)
    gone = len(seqs) <= most
    if not gone:
        for account in instance.accounts:
            if account != CLUSTER:
                set_asleep(ledger, account, incarnation, True)
    for seq in seqs[:most]:
        _end_permit(ledger, incarnation, seq, certain)
    if gone:
        broadcasts.part(ledger, instance, certain=certain)
        _withdraw(ledger, incarnation, instance)
    return Removal(gone, len(seqs[:most]))


def _unended(ledger: Ledger, incarnation: int, most: int) -> list[int]:
    """The oldest permits and waiters of an instance, one more than `most` where it has as many."""
    seqs = (
        unpack_one(key[9:])[0]
        for key, value in ledger.tables.scan(numbered(PERMIT, incarnation))
        if records.decode_standing(value).state is not State.GHOST
    )
    return list(islice(seqs, most + 1))


def _withdraw(ledger: Ledger, incarnation: int, instance: Instance) -> None:
    """Forget an instance that holds nothing any more, with all that it published."""
    for account in instance.accounts:
        publications.withdraw(ledger.tables, incarnation, instance, account)
        _depart(ledger, account, incarnation)
    ledger.tables.delete(beat_key(instance.deadline, incarnation))
    ledger.tables.delete(named(INSTANCE_ID, instance.instance_id))
    ledger.drop_instance(incarnation)
    for account in instance.accounts:
        rebuild(ledger, account)
    if CLUSTER in instance.accounts:
        _follow_cluster(ledger)


def _end_permit(ledger: Ledger, incarnation: int, seq: int, certain: bool) -> None:
    permit = ledger.permit(incarnation, seq)
    if permit is None or permit.state is State.GHOST:
        return
    if permit.state is State.HELD and not certain:
        _make_ghost(ledger, incarnation, seq, permit)
        return
    if permit.state is State.WAITING:
        dequeue(ledger, incarnation, seq, permit)
    elif permit.state is State.OFFERED:
        ledger.tables.delete(expiry_key(permit.expires, incarnation, seq))
        uncharge_path(ledger, incarnation, permit)
    else:
        free_slots(ledger, permit)
    ledger.drop_permit(incarnation, seq)


def _make_ghost(ledger: Ledger, incarnation: int, seq: int, permit: Permit) -> None:
    permit.state = State.GHOST
    permit.expires = ledger.now + GRACE
    ledger.tables.put(expiry_key(permit.expires, incarnation, seq), b"")


def _depart(ledger: Ledger, account: str, incarnation: int) -> None:
    """Give up an instance's reserve; what it used lately stays counted at the account."""
    flow = ledger.flow(account, incarnation)
    if flow is not None:
        node = ledger.new_node(account)
        _reserve(node, incarnation, 0)
        usage.depart(node, flow, ledger.now)


def _reserve(node: Node, incarnation: int, wanted: int) -> None:
    """Note what an instance wants to be sure of in a minute."""
    others = [of for of in node.reserved if of[0] != incarnation]
    node.reserved = [*others, (incarnation, wanted)] if wanted else others


def configure(tables: Tables, op: Configure, at: Instant) -> Configured | Fenced:
    """Decide a `Configure`.

    Raises `ValueError` for a name or figures that cannot be stored.
    """
    checks.configure(op, at)
    ledger = Ledger(tables, at)
    instance = ledger.instance(op.incarnation)
    if instance is None:
        return Fenced(at=at)
    publications.publish(tables, op.incarnation, instance, op.account, op.spec)
    if op.account == CLUSTER:
        _follow_cluster(ledger)
    else:
        node = ledger.new_node(op.account)
        node.clustered = ledger.node(CLUSTER) is not None
        _reserve(node, op.incarnation, op.reserve)
        flow = ledger.new_flow(op.account, op.incarnation)
        if not flow.reserve:
            fill_reserve(flow, op.reserve, at.mono)
        flow.weight, flow.reserve = op.weight, op.reserve
    rebuild(ledger, op.account)
    ledger.notices.extend(conflicts(op.account, publications.specs_of(tables, op.account)))
    admit(ledger)
    ledger.close()
    node = ledger.node(op.account) or Node()
    return Configured(
        at=at,
        wakes=tuple(ledger.wakes),
        notices=tuple(ledger.notices),
        revision=node.revision,
        patterns=node.patterns,
    )


def _follow_cluster(ledger: Ledger) -> None:
    """Have a node for the cluster as long as anybody limits it: without one, permits are cheaper."""
    heard = publications.is_published(ledger.tables, CLUSTER)
    if heard and ledger.node(CLUSTER) is None:
        _cover_by_cluster(ledger)
    elif not heard and ledger.node(CLUSTER) is not None:
        _uncover(ledger)


def _uncover(ledger: Ledger) -> None:
    """Count nothing at the cluster's node any more, and let everybody in who waited for it alone.

    What a permit was charged there is forgotten: a later node for the cluster has not charged it.
    """
    ledger.drop_node(CLUSTER)
    for name in _accounts(ledger):
        ledger.new_node(name).clustered = False
        ledger.touched.add(name)
    for permit in _taken(ledger):
        permit.clustered = False
        permit.marks = permit.marks[: BUCKETS * len(ledger.path(permit))]


def _cover_by_cluster(ledger: Ledger) -> None:
    """Count at a new cluster node what was granted and queued before there was one."""
    cluster = ledger.new_node(CLUSTER)
    cluster.busy = ledger.now  # larger than in any tag that is left of an earlier cluster node
    for name in _accounts(ledger):
        account = ledger.new_node(name)
        account.clustered = True
        cluster.held += account.held
        cluster.waiting += account.waiting
        if account.waiting:
            cluster.children.append(name)
    for permit in _taken(ledger):
        permit.clustered = True


def _accounts(ledger: Ledger) -> list[str]:
    names = [key[1:-1].decode() for key, _ in ledger.tables.scan(NODE)]
    return [name for name in names if name != CLUSTER and "#" not in name]


def _taken(ledger: Ledger) -> list[Permit]:
    """All that hold what they were charged: held, offered, and ghosts. Waiters are passed over unread."""
    found = [
        key for key, value in ledger.tables.scan(PERMIT) if records.decode_standing(value).state is not State.WAITING
    ]
    return [ledger.known_permit(unpack_one(key[1:9])[0], unpack_one(key[9:])[0]) for key in found]
