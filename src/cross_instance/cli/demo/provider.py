"""The demo's provider as a process of its own: `python -m cross_instance.cli.demo.provider`.

It prints its URL and serves until its standard input ends, so that it never outlives the demo.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from cross_instance.cli.demo.scene import BURST, FASTEST, REQUESTS_PER_MINUTE, SLOWEST
from cross_instance.cli.processes import report
from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer, Uniform


async def serve(limit: Limit, **told: Any) -> None:
    """Print the URL, and serve until standard input ends; `told` are the settings of what it tells and keeps."""
    latency = Uniform(FASTEST, SLOWEST)
    config = ProviderConfig(
        limits=(limit,), latency=latency, share_accounts=True, charge_failed=False, retry_after=False, **told
    )
    async with ProviderServer(config) as server:
        report(server.url.encode())
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Limit("requests", REQUESTS_PER_MINUTE, burst=BURST), journal=1_000_000))
