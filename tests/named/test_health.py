"""How calls end is heard by the adjuster of the process, whoever made them: through an SDK's transport, or by hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import AsyncRuntime, Runtime, dynamic_parallelism
from cross_instance.dynamic_parallelism import DynamicParallelismAdjuster
from cross_instance.rules.operations import Signals

PROVIDERS = {"acme": {"requestsPerMinute": 60_000, "burst": 1_000, "baseUrls": ["http://acme.test"]}}
BODY = {"model": "M-1", "messages": []}


@pytest.fixture
def adjuster() -> Iterator[DynamicParallelismAdjuster]:
    dynamic_parallelism.reset_parallelism_adjuster()
    yield dynamic_parallelism.get_parallelism_adjuster()
    dynamic_parallelism.reset_parallelism_adjuster()


def hear(runtime: Runtime | AsyncRuntime) -> None:
    runtime._membership.activity._safely()


def test_permits_are_calls_under_way_and_their_ends_are_told(
    adjuster: DynamicParallelismAdjuster, tmp_path: Path
) -> None:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path, providers=PROVIDERS)) as runtime:
        permits = [runtime.permit("acme", "m-1").acquire() for _ in range(3)]
        hear(runtime)
        assert adjuster.get_health("acme", "m-1").active_requests == 3
        for permit in permits:
            permit.settle(status=200, first_token=0.25)
            permit.close()
        hear(runtime)
        health, times = adjuster.get_health("acme", "m-1"), adjuster.get_response_times("acme", "m-1")
    assert (health.healthy, health.active_requests, times.samples, times.streamed) == (True, 0, 3, 3)
    assert times.first_token_p50_ms == times.first_token_p95_ms == 250


def test_calls_that_outlive_their_incarnation_are_over_all_the_same(
    adjuster: DynamicParallelismAdjuster, tmp_path: Path
) -> None:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path, providers=PROVIDERS)) as runtime:
        permit = runtime.permit("acme", "m-1").acquire()
        runtime._membership.rejoin(runtime.incarnation)
        permit.close()
        hear(runtime)
        assert adjuster.get_health("acme", "m-1").active_requests == 0


def test_a_parent_s_calls_are_none_of_its_forked_child_s(adjuster: DynamicParallelismAdjuster, tmp_path: Path) -> None:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path, providers=PROVIDERS)) as runtime:
        permit = runtime.permit("acme", "m-1").acquire()
        child = os.fork()
        if not child:
            runtime.permit("acme", "m-1").acquire().close()
            permit.close()
            os._exit(len(runtime._membership.activity._ended) - 1)
        permit.close()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_overload_is_one_error_and_exhausted_quota_is_none(
    adjuster: DynamicParallelismAdjuster, tmp_path: Path
) -> None:
    with Runtime("one", store=Timeline(), settings=settings_in(tmp_path, providers=PROVIDERS)) as runtime:
        for outcomes in (["rejected"] * 4, ["overloaded"], ["timeout"], ["error"]):
            permits = [runtime.permit("acme", "m-1").acquire() for _ in outcomes]
            for permit, outcome in zip(permits, outcomes, strict=True):
                permit.settle(outcome=outcome, signals=Signals(retry_after=0))
                permit.close()
            hear(runtime)
        with runtime.permit("acme", "m-2") as permit:
            permit.settle(outcome="rejected", signals=Signals(exhausted="no credit"))
        hear(runtime)
    assert adjuster.get_health("acme", "m-1").recent429_count == 2
    assert adjuster.get_config("acme", "m-1").adjustment_reason == "timeout error"
    assert adjuster.get_health("acme", "m-2").healthy


def answer(request: httpx2.Request) -> httpx2.Response:
    if request.url.path.endswith("/busy"):
        return httpx2.Response(529, json={"error": {"type": "overloaded_error"}})
    return httpx2.Response(200, json={"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@pytest.mark.parametrize("is_async", [False, True])
def test_an_sdk_s_transport_tells_it_by_itself(
    adjuster: DynamicParallelismAdjuster, tmp_path: Path, is_async: bool
) -> None:
    settings = settings_in(tmp_path, providers=PROVIDERS)

    def told() -> tuple[int, int]:
        return adjuster.get_response_times("acme", "m-1").samples, adjuster.get_health("acme", "m-1").recent429_count

    def by_sync() -> None:
        with Runtime("one", settings=settings) as runtime:
            transport = httpx2.MockTransport(answer)
            with runtime.http_client(transport=transport) as client:
                for path in ("/v1/chat/completions", "/v1/chat/completions/busy"):
                    client.post(f"http://acme.test{path}", json=BODY)
            hear(runtime)

    async def by_async() -> None:
        async with AsyncRuntime("one", settings=settings) as runtime:
            transport = httpx2.MockTransport(answer)
            async with runtime.http_client(transport=transport) as client:
                for path in ("/v1/chat/completions", "/v1/chat/completions/busy"):
                    await client.post(f"http://acme.test{path}", json=BODY)
            hear(runtime)

    if is_async:
        asyncio.run(by_async())
    else:
        by_sync()
    assert told() == (1, 1)
