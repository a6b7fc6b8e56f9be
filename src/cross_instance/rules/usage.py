"""Current usage: how many grants the last 60 s saw, in slots of five seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cross_instance.rules.records import Flow, Node

SLOT = 5_000_000
SLOTS = 12


def count(flow: Flow, now: int) -> None:
    """Note one grant."""
    slot = now // SLOT
    if slot != flow.slot or not flow.used:
        flow.used = _turned(flow.used, flow.slot, slot)
        flow.slot = slot
    flow.used[-1] += 1


def uncount(flow: Flow, arrival: int) -> None:
    """Take one grant back that was not used, if its request came in the present slot; an older one stays counted."""
    if flow.slot == arrival // SLOT:
        flow.used[-1] = max(0, flow.used[-1] - 1)


def recent(used: list[int], slot: int, now: int) -> int:
    """The grants of the last 60 s in a series whose last slot has the number `slot`."""
    return sum(_turned(used, slot, now // SLOT))


def depart(node: Node, flow: Flow, now: int) -> None:
    """Keep a departing instance's usage counted at the account."""
    slot = now // SLOT
    mine, others = _turned(flow.used, flow.slot, slot), _turned(node.departed, node.departed_at, slot)
    node.departed = [one + other for one, other in zip(mine, others, strict=True)]
    node.departed_at = slot


def _turned(used: list[int], last: int, slot: int) -> list[int]:
    """The series moved on to end at `slot`."""
    shift = min(slot - last, SLOTS) if used else SLOTS
    return [*used[shift:], *[0] * shift]
