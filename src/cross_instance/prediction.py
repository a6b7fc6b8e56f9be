"""Prediction: how many requests met 429 lately, the risk this implies, and the cut that would answer it.

1. The figures are the store's (`rules.learning_risk`), of all instances. Nothing is kept here.
2. The cut is told whether it is in force or not: it is off unless `adaptiveRateControl.predictive` is set, since who
   stays below the learned limit leaves nothing for it to prevent (`bench/learning`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cross_instance.rules.learning_risk import cut_of
from cross_instance.rules.learning_values import WHOLE

if TYPE_CHECKING:
    from cross_instance.rules.operations import LearnedState


@dataclass(frozen=True)
class Prediction:
    """All of 1: the `shares` of requests that met 429 in the last 10, 30 and 60 minutes, the `risk`, and the `cut` of
    the rate that it calls for. `in_force`: whether the rate is cut."""

    shares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    risk: float = 0.0
    cut: float = 0.0
    in_force: bool = False

    @property
    def cut_text(self) -> str:
        """The cut for people."""
        if not self.cut:
            return "none"
        return f"{self.cut:.1%}" if self.in_force else f"{self.cut:.1%} (off)"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        ten, thirty, sixty = self.shares
        shares = {"last10Minutes": ten, "last30Minutes": thirty, "last60Minutes": sixty}
        return {"shares429": shares, "risk": self.risk, "proactiveCut": self.cut, "cutInForce": self.in_force}


def prediction_of(state: LearnedState) -> Prediction:
    """What is predicted where this is learned."""
    ten, thirty, sixty = (share / WHOLE for share in state.shares)
    cut = state.cut or cut_of(state.risk)
    return Prediction((ten, thirty, sixty), state.risk / WHOLE, cut / WHOLE, bool(state.cut))
