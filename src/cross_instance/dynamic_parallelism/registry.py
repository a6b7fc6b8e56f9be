"""How many instances share a model: those of the coordinator's registry that have it active."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cross_instance.coordinator import this_process
from cross_instance.coordinator.shares import users_of
from cross_instance.errors import CrossInstanceError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("cross_instance")


def count_instances(keys: Iterable[str]) -> dict[str, int]:
    """How many instances use each model, at least 1; nothing where this process is not registered, or the store is out
    of reach: then what was known goes on to hold."""
    try:
        view = this_process._view()
        return {} if view is None else {key: max(1, len(users_of(view, *key.split(":", 1)))) for key in keys}
    except CrossInstanceError as error:
        log.info("the instances that share a model are not counted: %s", error)
        return {}
