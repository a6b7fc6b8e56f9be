"""The state machine of the laws with the scripts beside the model: every answer is compared, and how each run ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from tests.rules.test_law_machine import Laws
from tests.stores.redis_scripts import Scripted
from tests.stores.redis_server import serving

from cross_instance.rules.operations import Operation, Snapshot


class LawsOnRedis(Laws):
    """What happens to the model happens to a server; the laws hold for what both answer."""

    client: ClassVar[redis.Redis]

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.scripted = Scripted(self.client, clock=self.clock)

    def run(self, op: Operation[Any]) -> Any:
        answer = super().run(op)
        assert self.scripted.run(op) == answer
        return answer

    def teardown(self) -> None:
        self.run(Snapshot())
        super().teardown()
        self.run(Snapshot())


@pytest.fixture(autouse=True, scope="module")
def server() -> Iterator[None]:
    with serving() as server, server.client() as client:
        LawsOnRedis.client = client
        yield


TestLawsOnRedis = LawsOnRedis.TestCase
TestLawsOnRedis.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
