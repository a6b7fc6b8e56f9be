"""One of the demo's four processes: `python -m cross_instance.cli.demo.worker`.

It summarises files with OpenAI's own SDK, with nothing changed but, in the shared run, the client's `http_client`.

1. A run is three lines of standard input: a `Plan`, upon which it says `READY`; the signal to start; the one to stop,
   upon which it says `OVER`. When standard input ends, so does the process, however the demo ended.
2. In between, every call that has ended is a line of standard output (`Ended`).
3. Where the SDK gives up, it asks for the same file again, as a patient script would.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import openai

from cross_instance import AsyncRuntime
from cross_instance.cli.demo.scene import BURST, EXCERPT, MODEL, REQUESTS_PER_MINUTE, Ended, Plan
from cross_instance.cli.processes import OVER, READY, obey, report
from cross_instance.config import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from openai.resources.chat.completions import AsyncCompletions

    from cross_instance.config import Settings

API_KEY = "demo"
"""The provider takes any."""


def settings_of(plan: Plan) -> Settings:
    """Settings of the demo alone: nothing of the user's is read, nothing of it is left behind."""
    folder = Path(plan.folder)
    known = {} if plan.hidden else {"requestsPerMinute": REQUESTS_PER_MINUTE, "burst": BURST}
    providers = {"openai": {**known, "baseUrls": [plan.base_url]}}
    return load_settings(folder, environ={}, home=folder, providers=providers)


@asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK's client: by itself, with the SDK's own retries, or with the one line that makes it share."""
    name = {"x-client": plan.name}
    if not plan.shared:
        async with openai.AsyncOpenAI(base_url=plan.base_url, api_key=API_KEY, default_headers=name) as client:
            yield client
        return
    async with AsyncRuntime(plan.name, settings=settings_of(plan)) as runtime:
        http = runtime.http_client()
        async with openai.AsyncOpenAI(
            base_url=plan.base_url, api_key=API_KEY, default_headers=name, http_client=http
        ) as client:
            yield client


async def _run(order: bytes, lines: asyncio.Queue[bytes]) -> None:
    """Work by the plan between two signals; ready is who has a connection, and the SDK loaded as far as it will be."""
    plan = msgspec.json.decode(order, type=Plan)
    async with opened(plan) as client:
        await client.models.list()
        chat = client.chat.completions
        report(READY)
        await lines.get()
        files = cycle(plan.files)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_summarise_all(chat, files)) for _ in range(plan.tasks)]
            await lines.get()
            for task in tasks:
                task.cancel()
    report(OVER)


async def _summarise_all(chat: AsyncCompletions, files: Iterator[str]) -> None:
    for file in files:
        text = _excerpt(file)
        begun, answered = time.monotonic(), False
        while not answered:
            answered = await _summarise(chat, file, text)
            report(msgspec.json.encode(Ended(time.monotonic() - begun, answered)))


async def _summarise(chat: AsyncCompletions, file: str, text: str) -> bool:
    """Ask for one file's summary; False where the SDK gave up."""
    try:
        await chat.create(
            model=MODEL,
            max_completion_tokens=60,
            messages=[{"role": "user", "content": f"Summarise {file} in one sentence:\n\n{text}"}],
        )
    except openai.APIError:
        return False
    return True


def _excerpt(file: str) -> str:
    return Path(file).read_text(encoding="utf-8", errors="replace")[:EXCERPT]


if __name__ == "__main__":
    asyncio.run(obey(_run))
