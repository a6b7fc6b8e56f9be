"""Cancelled at whatever moment, a call leaves no permit behind (asyncio only: nothing else can be cancelled)."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.clients.support import each, side_in

from cross_instance.rules.operations import Kind
from cross_instance.testing.provider import Constant, ProviderConfig, ProviderServer

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-test", "messages": [{"role": "user", "content": "hello"}]}
FAST = {"openai": {"requestsPerMinute": 600_000, "burst": 1000}}
SLOW = {"openai": {"requestsPerMinute": 1, "burst": 100}}


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_at_every_step_of_a_call(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        async with side_in(tmp_path, library, is_async=True, providers=FAST) as side:
            seen: set[str] = set()

            async def handle(request: Any) -> Any:
                """Refuse each call once, then serve it."""
                await asyncio.sleep(0)
                call = request.headers["x-call"]
                status = 200 if call in seen else 429
                seen.add(call)
                chunks = side.body([b"{", b"}"])
                return side.http.Response(status, headers={"retry-after-ms": "1"}, content=chunks)

            client = side.http_client(transport=side.transport(handle))
            for steps in count():
                task = asyncio.create_task(client.post(URL, json=BODY, headers={"x-call": str(steps)}))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if task.done():
                    assert task.result().status_code == 200
                    break
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await side.held() == 0
            assert 1 < len(seen) < steps, "it was cancelled before and after the first answer"

    asyncio.run(scenario())


def test_while_it_waits_for_a_permit(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        settings = {"providers": {"openai": {"concurrency": 1}}}
        async with side_in(tmp_path, library, is_async=True, **settings) as side:
            client = side.http_client(transport=side.transport(lambda request: side.http.Response(200)))
            async with side.runtime.permit("openai", "gpt-test"):
                task = asyncio.create_task(client.post(URL, json=BODY))
                await side.queued(1)
                await cancelled(task)
                assert sum(instance.waiting for instance in (await side.world()).instances) == 0
            assert (await client.post(URL, json=BODY)).status_code == 200

    asyncio.run(scenario())


def test_it_counts_once_it_was_sent_and_not_before(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        slow = ProviderConfig(latency=Constant(60.0))
        async with (
            ProviderServer(slow) as server,
            side_in(tmp_path, library, is_async=True, providers=SLOW) as side,
        ):

            async def budget() -> int:
                return (await side.limit("openai/default", Kind.REQUESTS)).available

            client = side.http_client("openai", limits=side.http.Limits(max_connections=1))
            url = f"{server.url}/v1/chat/completions"
            sent = asyncio.create_task(client.post(url, json=BODY))
            while server.statistics().total.in_flight == 0:  # noqa: ASYNC110
                await asyncio.sleep(0)
            before = await budget()
            without_connection = asyncio.create_task(client.post(url, json=BODY))
            await side.holding(2)
            assert await budget() == before - 1
            await cancelled(without_connection)
            assert await budget() == before
            await cancelled(sent)
            assert await budget() == before

    asyncio.run(scenario())


def test_in_the_middle_of_a_stream(tmp_path: Path, library: str) -> None:
    async def scenario() -> None:
        config = ProviderConfig(output_tokens=1_000, pace=Constant(0.1))
        async with ProviderServer(config) as server, side_in(tmp_path, library, is_async=True) as side:
            begun = asyncio.Event()

            async def consume() -> None:
                messages = [{"role": "user", "content": "hello"}]
                stream = side.openai(server).chat.completions.create(model="gpt", messages=messages, stream=True)
                async for _ in each(stream):
                    begun.set()

            task = asyncio.create_task(consume())
            await begun.wait()
            assert await side.held() == 1
            await cancelled(task)
            assert await side.held() == 0

    asyncio.run(scenario())
