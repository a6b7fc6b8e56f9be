"""A provider to test against: a local server that speaks OpenAI, Anthropic and Gemini and enforces limits exactly.

    from cross_instance.testing.provider import Limit, ProviderConfig, ProviderServer

    with ProviderServer(ProviderConfig(limits=(Limit("requests", 600, burst=20),))) as server:
        client = OpenAI(base_url=server.base_url("openai"), api_key="any")

The flow: `http` reads a request, `routes` finds the provider it is meant for, `wire` understands it, `app` asks
`faults` and `limiter`, waits as `latency` says, answers, and tells `statistics`. `config` holds every setting; `server`
runs it all.
"""

from cross_instance.testing.provider.config import Fault, Limit, ProviderConfig
from cross_instance.testing.provider.latency import Constant, LogNormal, Uniform
from cross_instance.testing.provider.server import ProviderServer
from cross_instance.testing.provider.statistics import Record, Statistics

__all__ = [
    "Constant",
    "Fault",
    "Limit",
    "LogNormal",
    "ProviderConfig",
    "ProviderServer",
    "Record",
    "Statistics",
    "Uniform",
]
