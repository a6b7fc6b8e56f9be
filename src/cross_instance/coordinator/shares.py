"""How many calls each instance may make: shares of `totalMaxLlm` and of a model's limit, and who uses which model.

These are what the reference promises its callers. What really enforces limits is the queue for permits, where an
instance may have more than its share while others do not want theirs.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from cross_instance.coordinator.division import equal_share, shares_by_demand
from cross_instance.coordinator.models import ModelUsage, ModelUsageSummary
from cross_instance.coordinator.seat import Seat
from cross_instance.coordinator.views import View, info_of
from cross_instance.rules import patterns

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.rules.operations import InstanceState, Workload

    Models = tuple[tuple[str, str, int], ...]


class Shares(Seat):
    """The functions on parallel limits and active models."""

    def get_my_parallel_limit(self) -> int:
        """This instance's share of `totalMaxLlm` among those that contend for it, at least 1.

        The shares of all add up to `totalMaxLlm`, where there is one for each.
        """
        view = self._view()
        return 1 if view is None else self._share_in(view)

    def get_dynamic_parallel_limit(self, my_pending_tasks: int = 0) -> int:
        """This instance's share by demand, at least 1: nobody gets more than it has pending or running, what it leaves
        goes to the others. With nothing pending anywhere it is the equal share.

        `my_pending_tasks`: what this instance has pending now, whatever it told before.
        """
        view = self._view()
        if view is None:
            return 1
        living = view.living
        pending = [my_pending_tasks if one is view.me else one.workload.pending + one.waiting for one in living]
        if view.me is None or not any(pending):
            return self._share_in(view)
        demands = [waits + _running(one) for waits, one in zip(pending, living, strict=True)]
        shares = shares_by_demand(view.most_slots(self.get_total_max_llm()), demands)
        return max(1, shares[living.index(view.me)])

    def _share_in(self, view: View) -> int:
        among = view.contending
        place = among.index(view.me) if view.me is not None else len(among)
        return equal_share(view.most_slots(self.get_total_max_llm()), max(1, len(among)), place)

    # --- models ----------------------------------------------------------------------------------------------

    def set_active_model(self, provider: str, model: str) -> None:
        """Tell the others that this instance uses a model; a second time keeps since when.

        Raises `ValueError` for a name that cannot be stored.
        """
        name, now = (provider.lower(), model.lower()), time.time_ns() // 1_000
        self._say_models(lambda models: models if any(one[:2] == name for one in models) else (*models, (*name, now)))

    def clear_active_model(self, provider: str, model: str) -> None:
        """It does not use this model any more."""
        name = (provider.lower(), model.lower())
        self._say_models(lambda models: tuple(one for one in models if one[:2] != name))

    def clear_all_active_models(self) -> None:
        """It uses no model any more."""
        self._say_models(lambda _: ())

    def _say_models(self, change: Callable[[Models], Models]) -> None:
        def changed(said: Workload) -> Workload:
            return msgspec.structs.replace(said, active_models=change(said.active_models))

        member = self._member()
        if member is not None:
            member.work.say(changed)

    def get_active_instances_for_model(self, provider: str, model: str) -> int:
        """How many instances use a model, at least 1; what matches is told by `matches_model_pattern`."""
        view = self._view()
        return 1 if view is None else max(1, len(users_of(view, provider, model)))

    def get_model_parallel_limit(self, provider: str, model: str, base_limit: int) -> int:
        """This instance's share of `base_limit` calls among those that use the model, at least 1."""
        view = self._view()
        users = [] if view is None else users_of(view, provider, model)
        if view is None or not users:
            return max(1, base_limit)
        place = users.index(view.me) if view.me in users else len(users)
        return equal_share(base_limit, len(users), place)

    def matches_model_pattern(self, pattern: str, model: str) -> bool:
        """Whether they are equal, one is a prefix of the other, or the pattern is a glob (`*`, `?`) that fits; case
        does not matter."""
        return patterns.matches(pattern, model)

    def get_model_usage_summary(self) -> ModelUsageSummary:
        """Which models are in use, and by how many instances."""
        view = self._view()
        living = () if view is None else view.living
        counts = Counter(model[:2] for one in living for model in one.workload.active_models)
        return ModelUsageSummary(
            models=tuple(ModelUsage(*name, count) for name, count in sorted(counts.items())),
            instances=tuple(info_of(one) for one in living),
        )


def _running(instance: InstanceState) -> int:
    """What an instance has under way: permits, or what it says of itself where it takes none."""
    work = instance.workload
    return max(instance.held, work.orchestrations, bool(work.active_models))


def users_of(view: View, provider: str, model: str) -> list[InstanceState]:
    """The living that have a model active, in the order of joining."""
    provider = provider.lower()
    return [
        one
        for one in view.living
        if any(used[0] == provider and patterns.matches(used[1], model) for used in one.workload.active_models)
    ]
