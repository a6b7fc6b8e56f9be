"""What the provider says of what it has seen, in Python and at its admin endpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from hypothesis import given, strategies as st

from cross_instance.errors import ConfigError
from cross_instance.testing.provider import Constant, Fault, Limit, ProviderConfig, ProviderServer
from cross_instance.testing.provider.config import SECOND
from cross_instance.testing.provider.statistics import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
ROUTE = ("openai", "gpt-4o", "chat/completions")


def post(server: ProviderServer, key: str = "k", **headers: str) -> int:
    url = f"{server.base_url()}/chat/completions"
    return httpx2.post(
        url, json=CHAT, headers={"authorization": f"Bearer {key}"} | headers, timeout=60, verify=False
    ).status_code


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=60))
def test_percentiles_are_those_of_the_list_to_three_digits(durations: list[int]) -> None:
    recorder = Recorder(journal=0, now=0)
    for duration in durations:
        visit = recorder.arrive(ROUTE, "c", "a", 0)
        recorder.accept(visit, 0)
        visit.outcome = "served"
        recorder.leave(visit, duration)
    figures = recorder.statistics(1).total.latencies
    ordered = sorted(durations)
    for part, value in ((50, figures.p50), (95, figures.p95), (99, figures.p99)):
        assert value == pytest.approx(ordered[-(-len(ordered) * part // 100) - 1] / SECOND, rel=0.01)
    assert (figures.count, figures.max) == (len(durations), max(durations) / SECOND)


def test_the_series_tells_second_by_second() -> None:
    recorder = Recorder(journal=10, now=5 * SECOND)
    for at in (5, 5, 7):
        visit = recorder.arrive(ROUTE, "c", "a", at * SECOND)
        recorder.accept(visit, at * SECOND)
    visit = recorder.arrive(ROUTE, "c", "a", 7 * SECOND)
    visit.outcome = "rejected"
    recorder.leave(visit, 7 * SECOND)
    series = recorder.statistics(8 * SECOND).series
    assert [(second.at, second.accepted, second.rejected, second.in_flight) for second in series] == [
        (0, 2, 0, 2),
        (1, 0, 0, 0),
        (2, 1, 1, 3),
    ]


def test_a_reset_keeps_what_runs() -> None:
    recorder = Recorder(journal=10, now=0)
    visit = recorder.arrive(ROUTE, "c", "a", 0)
    recorder.accept(visit, 0)
    recorder.reset(1)
    assert (recorder.statistics(1).total.requests, recorder.statistics(1).total.in_flight) == (0, 1)
    recorder.leave(visit, 2)
    statistics = recorder.statistics(2)
    assert (statistics.total.in_flight, statistics.clients["c"].in_flight) == (0, 0)


def test_clients_and_accounts(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 2, period=1e6),))
    statuses = [
        post(server, "sk-secret", **{"x-client": "heavy"}),
        post(server, "sk-secret", **{"user-agent": "OpenAI/Python 3.52.0 client/light"}),
        post(server, "sk-secret", **{"x-client": "heavy"}),
        post(server, "two"),
    ]
    assert statuses == [200, 200, 429, 200]
    statistics = server.statistics()
    assert {name: (tally.served, tally.rejected) for name, tally in statistics.clients.items()} == {
        "heavy": (1, 1),
        "light": (1, 0),
        "": (1, 0),
    }
    assert {name: tally.requests for name, tally in statistics.accounts.items()} == {"openai/1": 3, "openai/2": 1}
    assert statistics.rejections == {"requests": 1}
    assert "secret" not in repr(statistics) + repr(server.journal())


def test_all_keys_may_be_one_account(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 1, period=1e6),), share_accounts=True)
    assert [post(server, "one"), post(server, "two")] == [200, 429]
    assert list(server.statistics().accounts) == ["openai"]


def test_limits_change_while_it_runs(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 1, period=1e6),))
    assert [post(server), post(server)] == [200, 429]
    server.set_limits(Limit("requests", 3, period=1e6))
    # a charged refusal owes nothing: one of three is spent
    assert [post(server), post(server), post(server)] == [200, 200, 429]
    with pytest.raises(ConfigError, match="given twice"):
        server.set_limits(Limit("requests", 3), Limit("requests", 4))
    assert server.limits == (Limit("requests", 3, period=1e6),)


def test_admin_endpoint(serve: Callable[..., ProviderServer]) -> None:
    server = serve()
    with httpx2.Client(base_url=server.url, timeout=60, verify=False) as client:
        limits = [{"kind": "requests", "amount": 1, "period": 1e6}]
        assert client.put("/_admin/limits", json=limits).json()[0]["burst"] is None
        faults = [{"kind": "529", "first": 2, "last": 2, "retryAfter": "3"}]
        assert client.put("/_admin/faults", json=faults).json()[0]["retryAfter"] == "3"
        assert [post(server), post(server), post(server)] == [200, 529, 429]
        statistics = client.get("/_admin/stats").json()
        assert statistics["total"]["maxInFlight"] == 1
        assert {second["at"] for second in statistics["series"]} >= {0}
        outcomes = [record["outcome"] for record in client.get("/_admin/journal").json()]
        assert outcomes == ["served", "failed", "rejected"]
        assert client.delete("/_admin/stats").json()["total"]["requests"] == 0
        assert client.get("/_admin/limits").json() == client.put("/_admin/limits", json=limits).json()
        assert client.get("/_admin/faults").json()[0]["kind"] == "529"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"x", "malformed"),
        (b'[{"kind":"requests"}]', "amount"),
        (b'[{"kind":"requests","amount":0}]', "at least 1"),
        (b'[{"kind":"requests","amount":1,"rate":2}]', "rate"),
    ],
)
def test_wrong_limits_change_nothing(serve: Callable[..., ProviderServer], body: bytes, words: str) -> None:
    server = serve(limits=(Limit("requests", 7),))
    answer = httpx2.put(f"{server.url}/_admin/limits", content=body, timeout=60, verify=False)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert server.limits == (Limit("requests", 7),)


def test_an_unknown_admin_address_says_what_there_is(serve: Callable[..., ProviderServer]) -> None:
    answer = httpx2.get(f"{serve().url}/_admin/statistics", timeout=60, verify=False)
    assert answer.status_code == 404
    assert "stats, journal, limits or faults" in answer.json()["error"]


def test_in_the_present_event_loop() -> None:
    async def run() -> int:
        config = ProviderConfig(latency=Constant(0.01), limits=(Limit("concurrency", 3),), charge_failed=False)
        async with (
            ProviderServer(config) as server,
            httpx2.AsyncClient(base_url=server.base_url(), timeout=60, verify=False) as client,
        ):
            answers = await asyncio.gather(*[client.post("/chat/completions", json=CHAT) for _ in range(12)])
            assert {answer.status_code for answer in answers} <= {200, 429}
            return server.statistics().total.max_in_flight

    assert 1 <= asyncio.run(run()) <= 3


def test_a_crowd_gets_exactly_the_burst() -> None:
    async def run() -> list[int]:
        config = ProviderConfig(limits=(Limit("requests", 30, period=1e6, burst=20),))
        async with (
            ProviderServer(config) as server,
            httpx2.AsyncClient(base_url=server.base_url(), timeout=60, verify=False) as client,
        ):
            answers = await asyncio.gather(*[client.post("/chat/completions", json=CHAT) for _ in range(80)])
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(run())
    assert (statuses.count(200), statuses.count(429)) == (20, 60)


def test_a_taken_port_is_told() -> None:
    with ProviderServer() as server, pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        ProviderServer(ProviderConfig(port=server.port)).__enter__()


def test_its_state_shows_in_its_repr() -> None:
    server = ProviderServer(ProviderConfig(limits=(Limit("requests", 1),)))
    assert repr(server) == "<ProviderServer not running, 1 limits>"
    with server:
        assert f"on {server.url}" in repr(server)


def test_faults_set_while_it_runs_count_from_then(serve: Callable[..., ProviderServer]) -> None:
    server = serve()
    assert post(server) == 200
    server.set_faults(Fault("503", last=1))
    assert [post(server), post(server)] == [503, 200]
