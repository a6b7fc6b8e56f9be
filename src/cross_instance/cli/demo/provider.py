"""The demo's provider as a process of its own: `python -m cross_instance.cli.demo.provider`.

It prints its URL and serves until its standard input ends, so that it never outlives the demo. Called with the name
`hidden`, it enforces the limit that nobody is told.
"""

from __future__ import annotations

import asyncio
import sys

from cross_instance.cli.demo.processes import report
from cross_instance.cli.demo.scene import (
    BURST,
    FASTEST,
    HIDDEN_BURST,
    HIDDEN_PER_MINUTE,
    REQUESTS_PER_MINUTE,
    SLOWEST,
)
from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer, Uniform


async def _serve(config: ProviderConfig) -> None:
    async with ProviderServer(config) as server:
        report(server.url.encode())
        await asyncio.to_thread(sys.stdin.read)


def config_of(name: str) -> ProviderConfig:
    """The provider of one of the demo's parts."""
    hidden = name == "hidden"
    amount, burst = (HIDDEN_PER_MINUTE, HIDDEN_BURST) if hidden else (REQUESTS_PER_MINUTE, BURST)
    return ProviderConfig(
        limits=(Limit("requests", amount, burst=burst),),
        latency=Uniform(FASTEST, SLOWEST),
        share_accounts=True,
        charge_failed=False,
        rate_limit_headers=not hidden,
        retry_after=False,
        name_limits=not hidden,
        journal=1_000_000,
    )


if __name__ == "__main__":
    asyncio.run(_serve(config_of(sys.argv[-1])))
