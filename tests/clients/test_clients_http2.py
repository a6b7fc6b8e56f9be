import asyncio
import json
from pathlib import Path

import pytest
from tests.clients.support import side_in

pytest.importorskip("h2", reason="HTTP/2 is tested with the current SDKs")

from tests.clients.http2_server import Http2Server

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
