"""A herd of processes, none of which outlives its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processes.runtime_herd import Herd

pytest.register_assert_rewrite("tests.processes.cut_off")


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd() as herd:
        yield herd
