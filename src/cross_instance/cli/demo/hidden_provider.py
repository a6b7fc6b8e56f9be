"""The provider of the demo's hidden part, as `provider` is of the other: it says nothing but 429."""

from __future__ import annotations

import asyncio

from cross_instance.cli.demo.provider import serve
from cross_instance.cli.demo.scene import FASTEST, HIDDEN_BURST, HIDDEN_PER_MINUTE, SLOWEST
from cross_instance.testing.provider import Limit, ProviderConfig, Uniform

if __name__ == "__main__":
    asyncio.run(
        serve(
            ProviderConfig(
                limits=(Limit("requests", HIDDEN_PER_MINUTE, burst=HIDDEN_BURST),),
                latency=Uniform(FASTEST, SLOWEST),
                share_accounts=True,
                charge_failed=False,
                rate_limit_headers=False,
                retry_after=False,
                name_limits=False,
            )
        )
    )
