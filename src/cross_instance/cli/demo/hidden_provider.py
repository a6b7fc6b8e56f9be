"""The provider of the demo's hidden part, as `provider` is of the other: it says nothing but 429."""

from __future__ import annotations

import asyncio

from cross_instance.cli.demo.provider import serve
from cross_instance.cli.demo.scene import HIDDEN_BURST, HIDDEN_PER_MINUTE
from cross_instance.testing.provider import Limit

if __name__ == "__main__":
    limit = Limit("requests", HIDDEN_PER_MINUTE, burst=HIDDEN_BURST)
    asyncio.run(serve(limit, rate_limit_headers=False, name_limits=False))
