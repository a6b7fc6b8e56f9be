"""The transports by themselves: what passes through, what is held how long, and every way in which a call can end."""

import asyncio
import gc
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.support import Side, side_in, told

from cross_instance.clients import flow
from cross_instance.clients.transports import require
from cross_instance.rules.operations import Kind
from cross_instance.testing.provider import Fault, ProviderServer

Play = Callable[..., None]
URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-test", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
ACCOUNT = "openai/default"
SLOW = {"openai": {"requestsPerMinute": 1, "burst": 10}}
"""Refilled so slowly that a test sees each request that was charged."""


def answering(side: Side, **response: Any) -> Any:
    """A transport that gives this answer to everything."""
    return side.transport(lambda request: side.http.Response(**{"status_code": 200, "json": ANSWER, **response}))


async def budget(side: Side) -> int:
    return (await side.limit(ACCOUNT, Kind.REQUESTS)).available


# --- what passes through -------------------------------------------------------------------------------------------


def test_other_hosts_and_other_requests_take_no_permit(play: Play) -> None:
    async def scenario(side: Side) -> None:
        client = side.http_client(transport=answering(side))
        assert (await told(client.post("https://example.org/v1/chat/completions", json=BODY))).json() == ANSWER
        assert (await told(client.get("https://api.openai.com/v1/models"))).json() == ANSWER
        assert (await told(client.post("https://api.openai.com/v1/batches", json={}))).json() == ANSWER
        assert await side.used() == 0
        await told(client.post(URL, json=BODY))
        assert await side.used() == 1

    play(scenario)


def test_a_host_of_the_configuration_is_its_provider(play: Play) -> None:
    async def scenario(side: Side) -> None:
        client = side.http_client(transport=answering(side))
        await told(client.post("http://gateway.local:8080/v1/chat/completions", json=BODY))
        assert (await side.node("anthropic/default")).used == 1

    play(scenario, providers={"anthropic": {"baseUrls": ["http://gateway.local:8080"]}})


def test_the_account_can_be_named(play: Play) -> None:
    async def scenario(side: Side) -> None:
        client = side.http_client(transport=answering(side), account="second")
        await told(client.post(URL, json=BODY))
        assert (await side.node("openai/second")).used == 1

    play(scenario)


@pytest.mark.parametrize("url", [URL, "https://example.org/anything"])
def test_a_request_arrives_as_it_was_made_but_for_our_headers(play: Play, url: str) -> None:
    async def scenario(side: Side) -> None:
        seen: list[Any] = []

        def handle(request: Any) -> Any:
            seen.append((request.method, str(request.url), request.headers.raw, request.content))
            return side.http.Response(200, json=ANSWER)

        client = side.http_client(transport=side.transport(handle))
        request = client.build_request("POST", f"{url}?a=b", json=BODY, headers={"X-Other": "kept"})
        expected = [(request.method, str(request.url), request.headers.raw, request.content)]
        request.headers["X-CI-Priority"] = "high"
        request.headers["x-ci-timeout"] = "5"
        await told(client.send(request))
        assert seen == expected

    play(scenario)


def test_proxies_and_mounts_take_their_turn_too(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(side: Side) -> None:
        elsewhere = side.transport(lambda request: side.http.Response(500))
        client = side.http_client(transport=elsewhere, mounts={"https://api.openai.com": answering(side)})
        assert (await told(client.post(URL, json=BODY))).status_code == 200
        assert await side.used() == 1

    play(scenario)


def test_the_proxy_of_the_environment_is_used(
    play: Play, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", provider.url)

    async def scenario(side: Side) -> None:
        client = side.http_client("openai")
        response = await told(client.post("http://model.test/v1/chat/completions", json=BODY))
        assert response.status_code == 400
        assert "request line" in response.text, "the provider has seen a request that was meant for a proxy"
        assert await side.used() == 1

    play(scenario)


# --- how long a permit is held -------------------------------------------------------------------------------------


def test_a_permit_is_held_until_the_stream_ends(play: Play) -> None:
    async def scenario(side: Side) -> None:
        client = side.http_client(transport=answering(side, json=None, content=b"data: 1\n\ndata: 2\n\n"))
        request = client.build_request("POST", URL, json=BODY | {"stream": True})
        response = await told(client.send(request, stream=True))
        assert await side.held() == 1
        chunks = [chunk async for chunk in side.raw(response)]
        assert b"".join(chunks) == b"data: 1\n\ndata: 2\n\n"
        assert await side.held() == 0

    play(scenario)


def test_a_stream_that_is_closed_early_gives_its_permit_back(play: Play, provider: ProviderServer) -> None:
    async def scenario(side: Side) -> None:
        client = side.http_client("openai")
        url = f"{provider.url}/v1/chat/completions"
        headers = {"x-provider-output-tokens": "3000"}
        request = client.build_request("POST", url, json=BODY | {"stream": True}, headers=headers)
        response = await told(client.send(request, stream=True))
        chunks = side.raw(response)
        assert await anext(chunks)
        assert await side.held() == 1
        await side.hang_up(response)
        assert await side.held() == 0

    play(scenario)


def test_a_response_that_is_dropped_unread_warns_and_gives_its_permit_back(play: Play) -> None:
    async def scenario(side: Side) -> None:
        client = side.http_client(transport=answering(side))

        async def drop() -> None:
            response = await told(client.send(client.build_request("POST", URL, json=BODY), stream=True))
            assert await side.held() == 1
            del response
            gc.collect()

        with pytest.warns(ResourceWarning, match="never closed"):
            await drop()
        await side.idle()

    play(scenario)


def test_redirects_hold_one_permit_at_a_time(play: Play) -> None:
    moved = {"/v1/responses": URL, "/v1/chat/completions": "https://elsewhere.example/v1/chat/completions"}

    async def scenario(side: Side) -> None:
        held: list[int] = []
        left: list[int] = []

        async def handle(request: Any) -> Any:
            held.append(await side.held())
            left.append(await budget(side))
            location = moved.get(request.url.path) if request.url.host == "api.openai.com" else None
            headers = {"location": location} if location else {}
            return side.http.Response(307 if location else 200, headers=headers, json=ANSWER)

        client = side.http_client(transport=side.transport(handle))
        await told(client.post("https://api.openai.com/v1/embeddings", json=BODY))
        held.clear()
        left.clear()
        response = await told(client.post("https://api.openai.com/v1/responses", json=BODY))
        assert response.status_code == 200
        assert held == [1, 1, 0]
        assert left[0] == left[1] < left[2], "an answer by redirect costs nothing"

    play(scenario, providers=SLOW)


# --- what is learned from an answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["identity", "gzip", "unheard-of"])
def test_usage_is_found_in_coded_bodies_and_the_bytes_are_not_touched(play: Play, coding: str) -> None:
    text = json.dumps(ANSWER).encode()
    body = gzip.compress(text) if coding == "gzip" else text

    async def scenario(side: Side) -> None:
        transport = answering(side, json=None, content=body, headers={"content-encoding": coding})
        client = side.http_client(transport=transport)
        request = client.build_request("POST", URL, json=BODY)
        response = await told(client.send(request, stream=True))
        chunks = [chunk async for chunk in side.raw(response)]
        assert b"".join(chunks) == body
        assert response.headers["content-encoding"] == coding
        learned = side.runtime.calibration.output("openai", "gpt-test") != 500
        assert learned is (coding != "unheard-of")

    play(scenario)


def test_a_coded_error_is_read_and_handed_over_unchanged(play: Play) -> None:
    text = json.dumps({"error": {"code": "insufficient_quota", "message": "no credit"}}).encode()

    async def scenario(side: Side) -> None:
        answer = {"content": gzip.compress(text), "headers": {"content-encoding": "gzip", "x-request-id": "7"}}
        client = side.http_client(transport=answering(side, status_code=429, json=None, **answer))
        response = await told(client.post(URL, json=BODY))
        assert response.json()["error"]["code"] == "insufficient_quota"
        assert response.headers["x-request-id"] == "7"
        assert response.headers["x-should-retry"] == "false"

    play(scenario)


# --- bodies --------------------------------------------------------------------------------------------------------


def pieces(side: Side) -> Any:
    text = json.dumps(BODY).encode()
    return side.body([text[:10], text[10:]])


def test_a_body_that_can_be_read_once_is_sent_again(play: Play, provider: ProviderServer) -> None:
    provider.set_faults(Fault("429", first=1, last=2, retry_after="0.01"))

    async def scenario(side: Side) -> None:
        client = side.http_client("openai")
        response = await told(client.post(f"{provider.url}/v1/chat/completions", content=pieces(side)))
        assert response.json()["model"] == "gpt-test"

    play(scenario)
    assert [record.status for record in provider.journal()] == [429, 429, 200]


@pytest.mark.parametrize("limit", [10, 10_000])
def test_a_stream_to_another_address_of_the_provider_passes_whole(
    play: Play, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(flow, "BODY_LIMIT", limit)

    async def scenario(side: Side) -> None:
        echo = side.transport(lambda request: side.http.Response(200, content=request.content))
        client = side.http_client(transport=echo)
        response = await told(client.post("https://api.openai.com/v1/batches", content=pieces(side)))
        assert response.json() == BODY
        assert await side.used() == 0

    play(scenario)


def test_a_body_too_long_to_be_kept_is_sent_once(
    play: Play, provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "BODY_LIMIT", 10)
    provider.set_faults(Fault("429", first=2, last=2, retry_after="0.01"))

    async def scenario(side: Side) -> None:
        client = side.http_client("openai")
        url = f"{provider.url}/v1/chat/completions"
        assert (await told(client.post(url, content=pieces(side)))).json()["model"] == "gpt-test"
        assert (await told(client.post(url, content=pieces(side)))).status_code == 429

    play(scenario)
    assert [record.status for record in provider.journal()] == [200, 429]


# --- ways to end ---------------------------------------------------------------------------------------------------


def test_a_request_that_was_never_sent_costs_nothing(play: Play) -> None:
    async def scenario(side: Side) -> None:
        await told(side.http_client(transport=answering(side)).post(URL, json=BODY))
        before = await budget(side)
        client = side.http_client("openai")
        with pytest.raises(side.http.ConnectError):
            await told(client.post("http://127.0.0.1:1/v1/chat/completions", json=BODY))
        assert await budget(side) == before

    play(scenario, providers=SLOW)


@pytest.mark.parametrize("name", ["ReadTimeout", "ReadError", "RemoteProtocolError"])
@pytest.mark.parametrize("when", ["before the answer", "in the body"])
def test_an_error_reaches_the_caller_and_the_permit_is_returned(play: Play, name: str, when: str) -> None:
    async def scenario(side: Side) -> None:
        error = getattr(side.http, name)

        def breaking() -> Iterator[bytes]:
            yield b"data: 1\n\n"
            raise error("broken")

        def handle(request: Any) -> Any:
            if when == "before the answer":
                raise error("broken")
            return side.http.Response(200, content=side.body(breaking()))

        client = side.http_client(transport=side.transport(handle))
        with pytest.raises(error):
            await told(client.post(URL, json=BODY))
        assert await side.held() == 0
        assert await side.used() == 1

    play(scenario)


def test_a_connection_that_breaks_inside_an_error_body_returns_the_permit(play: Play) -> None:
    async def scenario(side: Side) -> None:
        def breaking() -> Iterator[bytes]:
            yield b'{"error": '
            raise side.http.ReadError("broken")

        def handle(request: Any) -> Any:
            return side.http.Response(429, content=side.body(breaking()))

        with pytest.raises(side.http.ReadError):
            await told(side.http_client(transport=side.transport(handle)).post(URL, json=BODY))

    play(scenario)


# --- what is asked for ---------------------------------------------------------------------------------------------


def test_the_more_urgent_goes_first(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        served: list[str] = []

        def handle(request: Any) -> Any:
            served.append(request.headers["x-name"])
            return side.http.Response(200, json=ANSWER)

        one_at_a_time = {"openai": {"concurrency": 1}}
        async with side_in(tmp_path, library, is_async=True, providers=one_at_a_time) as side:
            client = side.http_client(transport=side.transport(handle))
            async with side.runtime.permit("openai", "gpt-test"):
                tasks = []
                for waiting, priority in enumerate(["background", "", "critical", "HIGH"], 1):
                    headers = {"x-name": priority} | ({"X-CI-Priority": priority} if priority else {})
                    tasks.append(asyncio.create_task(client.post(URL, json=BODY, headers=headers)))
                    await side.queued(waiting)
            await asyncio.gather(*tasks)
        assert served == ["critical", "HIGH", "", "background"]

    asyncio.run(scenario())


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[httpx2\]'"):
        require("httpx2")
