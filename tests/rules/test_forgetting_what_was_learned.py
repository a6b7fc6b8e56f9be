"""`Unlearn` where only the durable copies are left: after a boot nobody has published anything yet."""

from __future__ import annotations

from tests.rules.support import Case, requests

from cross_instance.rules.ledger import group_node
from cross_instance.rules.operations import (
    AccountSpec,
    Keep,
    Kept,
    Learning,
    Outcome,
    Settle,
    Signals,
    Source,
    Unlearn,
)
from cross_instance.rules.tables import KEPT

GROUP = group_node("acme/default", "big-*")


def test_after_a_boot_a_model_is_still_of_its_group() -> None:
    case = Case()
    hidden = requests(6_000, 100, source=Source.PRESET)
    spec = AccountSpec((hidden,), groups=(("big-*", (hidden,)),), learning=Learning())
    one = case.join("one", spec, account="acme/default")
    for seq, group in ((1, "big-*"), (2, "")):
        case.acquire(one, seq, account="acme/default", group=group)
        case.run(Settle(one, seq, Outcome.REJECTED, signals=Signals(retry_after=0)))
    kept = case.run(Keep(one))
    assert isinstance(kept, Kept)
    assert set(kept.nodes) == {"acme/default", GROUP}
    booted = Case()
    for key, value in case.tables.scan(KEPT):
        booted.tables.put(key, value)
    assert booted.run(Unlearn(provider="acme", model="big-1")).nodes == (GROUP,)
    assert booted.run(Unlearn(provider="acme", model="small")).nodes == ("acme/default",)
