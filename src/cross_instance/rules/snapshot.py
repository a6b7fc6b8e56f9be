"""Everything at one instant, in a fixed order: instances by incarnation, nodes by name, limits by kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cross_instance.rules import records, usage
from cross_instance.rules.learning_limits import allowed
from cross_instance.rules.learning_notes import state_of
from cross_instance.rules.ledger import Ledger
from cross_instance.rules.limits import shown
from cross_instance.rules.locks import held_locks
from cross_instance.rules.operations import CLUSTER, FlowState, InstanceState, NodeState, Snapshot, World
from cross_instance.rules.publications import specs_of
from cross_instance.rules.records import State
from cross_instance.rules.specs import conflicts
from cross_instance.rules.tables import INSTANCE, NODE, PERMIT, unpack_one

if TYPE_CHECKING:
    from cross_instance.rules.operations import Instant
    from cross_instance.rules.records import Instance
    from cross_instance.rules.tables import Tables


def snapshot(tables: Tables, op: Snapshot, at: Instant) -> World:
    """Decide a `Snapshot`."""
    ledger = Ledger(tables, at)
    held, waiting, ghosts = _count(ledger) if op.counts else (Counter[int](), Counter[int](), Counter[str]())
    instances = {unpack_one(key[1:])[0]: records.decode_instance(value) for key, value in tables.scan(INSTANCE)}
    names = [key[1:-1].decode() for key, _ in tables.scan(NODE)]
    return World(
        at=at,
        instances=tuple(
            _instance(incarnation, of, held[incarnation], waiting[incarnation]) for incarnation, of in instances.items()
        ),
        nodes=tuple(_node(ledger, name, instances, ghosts[name]) for name in names),
        locks=held_locks(ledger),
    )


def _count(ledger: Ledger) -> tuple[Counter[int], Counter[int], Counter[str]]:
    """What each incarnation holds and waits for, and the ghosts at each node: it goes through all permits."""
    held: Counter[int] = Counter()
    waiting: Counter[int] = Counter()
    ghosts: Counter[str] = Counter()
    for key, value in ledger.tables.scan(PERMIT):
        state = records.decode_standing(value).state
        if state is State.GHOST:
            ghosts.update(name for name, _ in ledger.path(records.decode_permit(value)))
        else:
            (waiting if state is State.WAITING else held)[unpack_one(key[1:9])[0]] += 1
    return held, waiting, ghosts


def _instance(incarnation: int, of: Instance, held: int, waiting: int) -> InstanceState:
    return InstanceState(
        incarnation=incarnation,
        instance_id=of.instance_id,
        pid=of.pid,
        machine=of.machine,
        host=of.host,
        session_id=of.session_id,
        cwd=of.cwd,
        version=of.version,
        joined_at=of.joined_at,
        beat_at=of.beat_at,
        workload=of.workload,
        held=held,
        waiting=waiting,
        heard_at=of.deadline - of.timeout,
        broadcast_at=of.broadcast_at,
    )


def _node(ledger: Ledger, name: str, instances: dict[int, Instance], ghosts: int) -> NodeState:
    node = ledger.new_node(name)
    is_account = name != CLUSTER and "#" not in name
    flows = _flows(ledger, name, instances) if is_account else ()
    learned = ledger.learned(name)
    return NodeState(
        node=name,
        limits=tuple(shown(name, node, limit) for limit in node.limits),
        waiting=node.waiting,
        held=node.held,
        ghosts=ghosts,
        paused_until=max(0, node.paused_until) if node.paused_until > ledger.now else 0,
        epochs=node.epochs,
        used=sum(flow.used for flow in flows) + usage.recent(node.departed, node.departed_at, ledger.now),
        patterns=node.patterns,
        flows=flows,
        notices=tuple(conflicts(name, specs_of(ledger.tables, name))) if is_account or name == CLUSTER else (),
        learned=None if learned is None else state_of(learned, node, ledger.now, allowed(learned)),
    )


def _flows(ledger: Ledger, account: str, instances: dict[int, Instance]) -> tuple[FlowState, ...]:
    flows = []
    for incarnation in instances:
        flow = ledger.flow(account, incarnation)
        if flow is not None:
            flows.append(
                FlowState(incarnation, flow.weight, flow.reserve, usage.recent(flow.used, flow.slot, ledger.now))
            )
    return tuple(flows)
