"""HTTP/2 through the transports: in cleartext and over TLS, where it is agreed on by ALPN."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.clients.support import side_in, told

pytest.importorskip("h2", reason="HTTP/2 is tested with the current SDKs")

from tests.clients.http2_server import Http2Server, contexts

BODY = {"model": "gpt-test", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def test_calls_share_a_connection_of_http2_and_each_has_its_permit(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        async with (
            Http2Server(json.dumps(ANSWER).encode(), hold_back=2) as server,
            side_in(tmp_path, library, is_async=True) as side,
        ):
            client = side.http_client("openai", http1=False, http2=True)
            url = f"{server.url}/v1/chat/completions"
            responses = await asyncio.gather(*(client.post(url, json=BODY) for _ in range(2)))
            assert [response.http_version for response in responses] == ["HTTP/2", "HTTP/2"]
            assert [response.json() for response in responses] == [ANSWER, ANSWER]
            assert server.connections == 1
            assert await side.used() == 2
            assert side.runtime.calibration.output("openai", "gpt-test") < 500

    asyncio.run(scenario())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_over_tls_the_server_chooses_http2(tmp_path: Path, library: str, *, is_async: bool) -> None:
    offered, trusting = contexts(tmp_path)

    async def scenario() -> None:
        async with (
            Http2Server(json.dumps(ANSWER).encode(), tls=offered) as server,
            side_in(tmp_path, library, is_async=is_async) as side,
        ):
            client = side.http_client("openai", http2=True, verify=trusting)
            url = f"{server.url}/v1/chat/completions"
            for _ in range(2):
                posted = client.post(url, json=BODY) if is_async else asyncio.to_thread(client.post, url, json=BODY)
                response = await posted
                assert (response.http_version, response.json()) == ("HTTP/2", ANSWER)
            assert server.protocols == ["h2"]
            assert server.requests[0][b":scheme"] == b"https"
            assert await side.used() == 2
            await told(client.aclose() if is_async else client.close())

    asyncio.run(scenario())
