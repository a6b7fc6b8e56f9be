"""What was learned is written down to outlive a boot, and forgotten on request.

1. A record is written when a `Keep` finds it changed, so at most once a heartbeat: no permit waits for a disk.
2. Whoever forgets begins anew with what is published and told; the pause that stands, stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.admission import admit
from cross_instance.rules.learning_limits import keep as keep_one
from cross_instance.rules.ledger import Ledger, group_node
from cross_instance.rules.operations import CLUSTER, Fenced, Keep, Kept, Unlearn, Unlearned
from cross_instance.rules.patterns import most_specific
from cross_instance.rules.specs import rebuild
from cross_instance.rules.tables import KEPT, LEARNED, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.rules.operations import Instant
    from cross_instance.rules.records import Instance
    from cross_instance.rules.tables import Tables


def keep(tables: Tables, op: Keep, at: Instant) -> Kept | Fenced:
    """Decide a `Keep`."""
    ledger = Ledger(tables, at)
    instance = ledger.instance(op.incarnation)
    if instance is None:
        return Fenced(at=at)
    kept = tuple(name for name in _nodes(ledger, instance) if keep_one(ledger, name))
    ledger.close()
    return Kept(at=at, nodes=kept)


def is_unkept(ledger: Ledger, instance: Instance) -> bool:
    """Whether a `Keep` would write something."""
    return any(learned.unkept for name in _nodes(ledger, instance) if (learned := ledger.learned(name)) is not None)


def _nodes(ledger: Ledger, instance: Instance) -> Iterator[str]:
    for account in instance.accounts:
        if account != CLUSTER:
            yield account
            yield from (group_node(account, pattern) for pattern in ledger.new_node(account).patterns)


def unlearn(tables: Tables, op: Unlearn, at: Instant) -> Unlearned:
    """Decide an `Unlearn`."""
    ledger = Ledger(tables, at)
    names = {key[1:-1].decode() for table in (LEARNED, KEPT) for key, _ in tables.scan(table)}
    forgotten = tuple(sorted(name for name in names if _is_meant(ledger, op, name, names)))
    for name in forgotten:
        ledger.drop_learned(name)
        tables.delete(named(KEPT, name))
    for account in sorted({name.partition("#")[0] for name in forgotten}):
        rebuild(ledger, account)
    admit(ledger)
    ledger.close()
    return Unlearned(at=at, wakes=tuple(ledger.wakes), notices=tuple(ledger.notices), nodes=forgotten)


def _is_meant(ledger: Ledger, op: Unlearn, name: str, names: set[str]) -> bool:
    account, _, group = name.partition("#")
    if op.provider not in ("", account.partition("/")[0]) or op.account not in ("", account):
        return False
    if not op.model:
        return True
    return group == most_specific(_patterns(ledger, account, names), op.model)


def _patterns(ledger: Ledger, account: str, names: set[str]) -> tuple[str, ...]:
    """The patterns of an account's groups; before any is published after a boot, those that were learned of."""
    node = ledger.node(account)
    if node is not None:
        return node.patterns
    return tuple(group for of, _, group in (name.partition("#") for name in names) if of == account and group)
